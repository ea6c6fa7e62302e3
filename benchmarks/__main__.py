"""Measure every row, or those that are named, and write the page of results."""

import argparse
import importlib
import os
import signal

from benchmarks import LONG_ROWS, ROWS
from benchmarks.support.report import PAGE, write_page


def main() -> None:
    """Measure, print one table, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"of {', '.join(ROWS)}, which are all measured unless some are named, and"
        f" of {', '.join(LONG_ROWS)}",
    )
    parser.add_argument(
        "--long", action="store_true", help="measure the long ones too: 20 minutes more"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only to see that it runs; keeps nothing"
    )
    options = parser.parse_args()
    if unknown := set(options.rows) - {*ROWS, *LONG_ROWS}:
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    # Ended like this too, it ends the servers that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = [*(options.rows or ROWS), *(LONG_ROWS if options.long else ())]
    for number, name in enumerate(names, 1):
        print(f"{number} of {len(names)}: {name} ...", flush=True)
        load = os.getloadavg()[0]
        row = importlib.import_module(f"benchmarks.rows.{name}").measure(options.quick)
        print(row.table(), flush=True)
        if not options.quick:
            row.keep(load)
    if not options.quick:
        print(f"{write_page([*ROWS, *LONG_ROWS])}\nWritten to {PAGE}.")


if __name__ == "__main__":
    main()

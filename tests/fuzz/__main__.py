"""Attack the stop route from the command line; exits with 1 if it gives way."""

import argparse
import secrets
import sys

from flask_chatstop.backends import backend_from_url
from tests.fuzz.loop import Found, run
from tests.fuzz.target import RETENTION, Target

LONG = 1200.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--long", action="store_true", help="for 20 minutes")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--backend", default="memory://", help="a URL")
    options = parser.parse_args()
    seconds = LONG if options.long else options.seconds
    backend = backend_from_url(options.backend, retention=RETENTION)
    try:
        figures = run(seconds, options.seed, Target(backend))
    except Found as found:
        sys.exit(f"seed {options.seed}: {found}")
    print(figures)
    if not figures.is_flat:
        sys.exit("Memory has grown.")
    if not figures.counts.authorised_stops:
        sys.exit("No stop was ever authorised, so nothing was shown.")


if __name__ == "__main__":
    main()

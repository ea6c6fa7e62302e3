"""What a process logs as a warning or worse, whichever logger it goes to."""

import logging
import sys
import threading
import traceback
from typing import Any


class LogRecords:
    """Collects the log records of the whole process, and its unhandled exceptions."""

    def __init__(self) -> None:
        self._records: list[str] = []

    def collect(self) -> None:
        """Begin. Some libraries' loggers do not propagate, so no handler sees all."""
        make = logging.getLogRecordFactory()

        def make_and_keep(*args: Any, **options: Any) -> logging.LogRecord:
            record = make(*args, **options)
            if record.levelno >= logging.WARNING:
                self._keep(f"{record.levelname} {record.name}", record.getMessage())
                if record.exc_info and record.exc_info[0]:
                    self._records[-1] += "\n" + "".join(
                        traceback.format_exception(*record.exc_info)
                    )
            return record

        def of_thread(args: threading.ExceptHookArgs) -> None:
            where = args.thread.name if args.thread else "a thread"
            trace = traceback.format_exception(
                args.exc_type, args.exc_value, args.exc_traceback
            )
            self._keep(f"UNHANDLED in {where}", "".join(trace))

        def unraisable(args: "sys.UnraisableHookArgs") -> None:
            trace = traceback.format_exception(
                args.exc_type, args.exc_value, args.exc_traceback
            )
            self._keep(f"IGNORED in {args.object!r}", "".join(trace))

        logging.setLogRecordFactory(make_and_keep)
        threading.excepthook = of_thread
        sys.unraisablehook = unraisable

    def _keep(self, head: str, text: str) -> None:
        self._records.append(f"{head}: {text}")

    def clear(self) -> None:
        self._records.clear()

    def all(self) -> list[str]:
        return list(self._records)

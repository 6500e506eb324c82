"""Where the log goes: to standard error, one line a record, for people or with times for a server."""

import logging
import time

from pysequence_api.cli.output import note, safe

SERVER_FORMAT = "%(asctime)sZ %(levelname)s %(name)s: %(message)s"


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(self.format(record))


class _ForPeople(logging.Formatter):
    """One line, in the form of the program's own warnings."""

    def format(self, record: logging.LogRecord) -> str:
        level = "Warning" if record.levelno < logging.CRITICAL else "Critical"
        return f"{level}: {safe(record.getMessage())}"


class _ForServer(logging.Formatter):
    """With the time in UTC, and with tracebacks."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = safe(record.message)
        return super().formatMessage(record)


def log_for_people(*, debug: bool = False) -> None:
    """Show warnings as lines of their own.

    Args:
        debug: everything instead, with times and tracebacks.
    """
    if debug:
        _log(_ForServer(SERVER_FORMAT), logging.DEBUG)
    else:
        _log(_ForPeople(), logging.WARNING)


def log_for_server() -> None:
    """Log what a server does, with the time, unless everything is logged already."""
    if logging.getLogger("pysequence_api").level != logging.DEBUG:
        _log(_ForServer(SERVER_FORMAT), logging.INFO)


def _log(formatter: logging.Formatter, level: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler()
    handler.setFormatter(formatter)
    root.addHandler(handler)
    logging.getLogger("pysequence_api").setLevel(level)

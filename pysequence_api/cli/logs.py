"""Where the log goes: to standard error, one line a record, for people, or with times or as JSON for a server."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

from pysequence_api.cli.output import is_terminal, note, safe
from pysequence_api.settings import Settings

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


class _Json(logging.Formatter):
    """One JSON object a line, in ASCII, with the fields that a record brings along."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= getattr(record, "fields", {})
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document)


def log_for_people(*, debug: bool = False) -> None:
    """Show warnings as lines of their own.

    Args:
        debug: everything instead, with times and tracebacks.
    """
    if debug:
        _log(_ForServer(SERVER_FORMAT), logging.DEBUG)
    else:
        _log(_ForPeople(), logging.WARNING)


def log_for_server(settings: Settings) -> None:
    """Log what a server does, with the time; everything, if everything is logged already.

    Args:
        settings: say in which form; if they do not, text for a person at a terminal, and JSON for anything else.
    """
    form = settings.log_format or ("text" if is_terminal(sys.stderr) else "json")
    logs_everything = logging.getLogger("pysequence_api").level == logging.DEBUG
    level = logging.DEBUG if logs_everything else logging.INFO
    _log(_Json() if form == "json" else _ForServer(SERVER_FORMAT), level)


def _log(formatter: logging.Formatter, level: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler()
    handler.setFormatter(formatter)
    root.addHandler(handler)
    logging.getLogger("pysequence_api").setLevel(level)

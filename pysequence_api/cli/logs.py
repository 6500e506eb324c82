"""The log, on standard error: short lines for people, lines with times or JSON for a server."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pysequence_api.cli.terminal import is_terminal, note, safe
from pysequence_api.text import without_keys

if TYPE_CHECKING:
    from pysequence_api.settings import Settings  # loads pydantic, which `--help` does without

SERVER_FORMAT = "%(asctime)sZ %(levelname)s %(name)s: %(message)s"


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(without_keys(self.format(record)))  # somebody may have sent a key where no key belongs


class _ForPeople(logging.Formatter):
    """One line, like the warnings of the program."""

    def format(self, record: logging.LogRecord) -> str:
        level = "Warning" if record.levelno < logging.CRITICAL else "Critical"
        return f"{level}: {safe(record.getMessage())}"


class _ForServer(logging.Formatter):
    """One line with the time in UTC, and tracebacks."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = safe(record.message)
        return super().formatMessage(record)


class _Json(logging.Formatter):
    """One JSON object on a line, in ASCII, with the extra fields of the record."""

    def __init__(self) -> None:
        super().__init__()
        from pydantic_core import to_json  # noqa: PLC0415 - loads pydantic, which `--help` does without

        self._to_json = to_json

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": f"{_second(int(record.created))}.{int(record.created % 1 * 1000):03d}+00:00",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= getattr(record, "fields", {})
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            document["traceback"] = record.exc_text
        try:
            return self._to_json(document, ensure_ascii=True).decode()  # in a third of the time of `json`
        except ValueError:
            return json.dumps(document)  # a name of a file that is not UTF-8


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    """Return a time without its fraction, once for all lines of a second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def log_for_people(*, debug: bool = False) -> None:
    """Show warnings as short lines; with ``debug`` everything, with times and tracebacks."""
    if debug:
        _log(_ForServer(SERVER_FORMAT), logging.DEBUG)
    else:
        _log(_ForPeople(), logging.WARNING)


def log_for_server(settings: "Settings") -> None:
    """Log what a server does, in the format of the settings; by default text on a terminal, and JSON elsewhere."""
    log_format = settings.log_format or ("text" if is_terminal(sys.stderr) else "json")
    is_debugging = logging.getLogger("pysequence_api").level == logging.DEBUG
    level = logging.DEBUG if is_debugging else logging.INFO
    _log(_Json() if log_format == "json" else _ForServer(SERVER_FORMAT), level)


def _log(formatter: logging.Formatter, level: int) -> None:
    # No format has them, and each record would look them up; see "Optimization" in the HOWTO of `logging`.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler()
    handler.setFormatter(formatter)
    root.addHandler(handler)
    logging.getLogger("pysequence_api").setLevel(level)

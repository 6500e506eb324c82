"""How the pages are drawn: templates that escape everything, and how times and amounts are written."""

from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pysequence_api.clock import read_time, utc_now
from pysequence_api.money import format_cents
from pysequence_api.text import one_line

MAX_TEXT_CHARACTERS = 500
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
STYLE_SHEET = files("pysequence_api.owner").joinpath("style.css").read_bytes()


@cache
def templates() -> Environment:
    """Load the templates, once. They escape every value, because names and reasons come from others."""
    environment = Environment(
        loader=PackageLoader("pysequence_api.owner"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cents": format_cents,
        "when": when,
        "line": short_line,
        "words": words,
    }
    return environment


def short_line(value: object) -> str:
    """Write text from others on one line of bounded length, without invisible characters."""
    text = str(value)
    return one_line(text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[:MAX_TEXT_CHARACTERS]}…")


def when(time: datetime | str | None, now: datetime | None = None) -> Markup:
    """Write a time for a person: in UTC, because limits count in UTC days, and how long ago it was.

    Args:
        time: aware, or the text of one; anything else is shown as it is.
        now: the time now.
    """
    moment = read_time(time) if isinstance(time, str) else time
    if moment is None:
        return escape(short_line(time or "never"))
    text = Markup('<time datetime="{iso}">{day} {month} {clock} UTC</time> <span class="ago">{ago}</span>')
    return text.format(
        iso=moment.isoformat(timespec="seconds"),
        day=moment.day,
        month=f"{moment:%b}" if moment.year == (now or utc_now()).year else f"{moment:%b %Y}",
        clock=f"{moment:%H:%M}",
        ago=distance(moment - (now or utc_now())),
    )


def distance(span: timedelta) -> str:
    """Say how far a time is from now, such as ``3 h 12 min ago`` or ``in 5 min``."""
    seconds = round(abs(span.total_seconds()))
    if seconds < UNITS[-1][0]:
        return "now" if span <= timedelta(0) else "in less than a minute"
    counts: list[tuple[int, str]] = []
    for size, unit in UNITS:
        count, seconds = divmod(seconds, size)
        if count or counts:
            counts.append((count, unit))
    text = " ".join(f"{count} {unit}" for count, unit in counts[:2] if count)
    return f"{text} ago" if span < timedelta(0) else f"in {text}"


def words(name: object) -> str:
    """Write a name of the program, such as ``transfer_completed``, as words."""
    return short_line(name).replace("_", " ")

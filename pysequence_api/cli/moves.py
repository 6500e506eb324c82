"""How transfers that Sequence lists are drawn."""

from datetime import datetime

from pysequence_api.cli.output import UNKNOWN, Column, shown_time
from pysequence_api.models import Moment, Party, Transfer

MOVE_COLUMNS = (
    Column("Created"),
    Column("Status", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
    Column("What"),
    Column("Id", style="dim"),
)


def move_row(transfer: Transfer) -> tuple[str, ...]:
    """Make a row of `MOVE_COLUMNS`."""
    what = transfer.error_reason or transfer.description or (transfer.activity_type or "").replace("_", " ").lower()
    return (
        shown_moment(transfer.created_at),
        transfer.status or UNKNOWN,
        transfer.amount or UNKNOWN,
        shown_party(transfer.source),
        shown_party(transfer.destination),
        what,
        transfer.id,
    )


def shown_moment(moment: Moment | None) -> str:
    """Write a time, or only a day, where Sequence says no more."""
    if isinstance(moment, datetime):
        return shown_time(moment)
    return UNKNOWN if moment is None else moment.isoformat()


def shown_party(party: Party) -> str:
    """Write the name of one side, else its id."""
    return party.name or party.id or UNKNOWN

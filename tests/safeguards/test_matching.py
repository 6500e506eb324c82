"""Which transfer of the activity an attempt could be."""

from datetime import UTC, datetime, timedelta

from pysequence_api.models import Transfer
from pysequence_api.safeguards.matching import matches

SENT_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORDER = ("a", "b", 5)


def transfer(identifier: str, **changes: object) -> Transfer:
    values: dict[str, object] = {
        "id": identifier,
        "amount_cents": 5,
        "source": {"id": "a"},
        "destination": {"id": "b"},
        "created_at": SENT_AT,
        "activity_type": "ONE_TIME_TRANSFER",
    }
    return Transfer.model_validate(values | changes)


def test_only_what_could_be_it_oldest_first() -> None:
    transfers = (
        transfer("newer", created_at=SENT_AT + timedelta(seconds=9)),
        transfer("older", activity_type=None),
        transfer("before", created_at=SENT_AT - timedelta(seconds=7)),
        transfer("other amount", amount_cents=6),
        transfer("no amount", amount_cents=None),
        transfer("other source", source={"id": "c"}),
        transfer("no destination", destination={}),
        transfer("a rule's", activity_type="RULE"),
        transfer("a date only", created_at=SENT_AT.date()),
        transfer("no time", created_at=None),
    )
    assert [one.id for one in matches(ORDER, transfers, SENT_AT, 0.0)] == ["older", "newer"]


def test_the_clock_of_sequence_counts() -> None:
    early = (transfer("early", created_at=SENT_AT - timedelta(seconds=100)),)
    assert matches(ORDER, early, SENT_AT, None) == early  # nothing is known of the clock yet
    assert matches(ORDER, early, SENT_AT, 0.0) == ()
    assert matches(ORDER, early, SENT_AT, -100.0) == early

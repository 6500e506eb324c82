"""The states of an attempt, in one table that the database, the API, the terminal and the metrics share."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """How far an attempt to transfer has come."""

    REJECTED = "rejected"
    AWAITING_APPROVAL = "awaiting_approval"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RESERVED = "reserved"
    SENDING = "sending"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    ARRIVED = "arrived"
    RETURNED = "returned"
    NOT_EXECUTED = "not_executed"


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds in a state.

    Attributes:
        meaning: the state in a few words.
        comes_from: the states before it; empty where an attempt can only begin in it.
        begins: whether an attempt can begin in it.
        counts: whether its amount counts against the limits.
        keeps_key: whether its idempotency key stays bound to it.
        is_open: whether it counts in every window, because when it moves money is not known yet.
    """

    meaning: str
    comes_from: tuple[State, ...] = ()
    begins: bool = False
    counts: bool = False
    keeps_key: bool = False
    is_open: bool = False


RULES: Final[dict[State, Rule]] = {
    State.REJECTED: Rule("A limit or another safeguard rejected it", (State.AWAITING_APPROVAL,), begins=True),
    State.AWAITING_APPROVAL: Rule("It waits for the owner's approval", begins=True, keeps_key=True),
    State.DENIED: Rule("The owner denied it", (State.AWAITING_APPROVAL,)),
    State.EXPIRED: Rule("It was not approved in time", (State.AWAITING_APPROVAL,)),
    State.CANCELLED: Rule("It was stopped before it was sent", (State.AWAITING_APPROVAL, State.RESERVED)),
    State.RESERVED: Rule(
        "Its amount is reserved, and it waits for its turn",
        (State.AWAITING_APPROVAL,),
        begins=True,
        counts=True,
        keeps_key=True,
        is_open=True,
    ),
    State.SENDING: Rule("It is being sent", (State.RESERVED,), counts=True, keeps_key=True, is_open=True),
    State.FAILED: Rule("Nothing moved, for certain", (State.RESERVED, State.SENDING)),
    State.REFUSED: Rule("Sequence refused it; nothing moved", (State.SENDING,)),
    State.UNKNOWN: Rule(
        "It was sent, and the outcome is unknown",
        (State.SENDING, State.RESERVED),  # from `reserved` only when an older backup was restored
        counts=True,
        keeps_key=True,
        is_open=True,
    ),
    State.ACCEPTED: Rule(
        "Sequence took it; it has not arrived yet",
        (State.SENDING, State.UNKNOWN, State.NOT_EXECUTED),
        counts=True,
        keeps_key=True,
    ),
    State.ARRIVED: Rule("The money arrived", (State.ACCEPTED,), counts=True, keeps_key=True),
    State.RETURNED: Rule(
        "Sequence took it, and the money came back", (State.ACCEPTED, State.ARRIVED), counts=True, keeps_key=True
    ),
    State.NOT_EXECUTED: Rule("Its outcome was unknown; Sequence never executed it", (State.UNKNOWN,), keeps_key=True),
}

OPEN_STATES: Final = tuple(state for state, rule in RULES.items() if rule.is_open)
"""They count in every window: it is not known yet on which day they move money."""
TAKEN_STATES: Final = (State.ACCEPTED, State.ARRIVED, State.RETURNED)
"""Sequence took the transfer, so that its time is known."""

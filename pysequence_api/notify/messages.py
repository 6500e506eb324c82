"""Turns audit events into short messages without links, tokens and balances.

Names, reasons and errors come from others. They are bounded, on one line, and without anything that a chat could take
for a link, a mention or markup.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pysequence_api.clock import read_time
from pysequence_api.errors import Code
from pysequence_api.money import format_cents
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER
from pysequence_api.records.audit import EventType, Line
from pysequence_api.records.states import State
from pysequence_api.settings import NotifyEvent
from pysequence_api.text import plain_text

NAME_CHARACTERS = 60
MAX_LISTED = 10
IF_NOT_YOU = "If that was not you, freeze all transfers: pysequence-api freeze"

_DOMAIN = re.compile(r"(?<=\w)\.(?=[^\W\d_])")
"""Chats make a link of a domain name, also of one without a scheme."""
_DEFUSED = str.maketrans({"<": "(", ">": ")", "@": " at ", "`": "'", "[": "(", "]": ")", "*": " "})


@dataclass(frozen=True, slots=True)
class Message:
    """A message to the owner.

    Attributes:
        event: its kind; ``None`` for the test message and for a sum of others.
        title: what happened, in our own words.
        body: the details, in a few lines.
    """

    event: NotifyEvent | None
    title: str
    body: str


def about(
    line: Line, names: Mapping[str, str], *, earlier: tuple[Line, ...] = (), above_cents: int | None = None
) -> Message | None:
    """Return the message about an audit event; ``None`` if it needs none.

    Args:
        line: the event.
        names: names of pods, ports and accounts by id.
        earlier: the events of the same attempt before it.
        above_cents: a completed transfer of more than this gets a message; ``None`` for no such message.
    """
    match line.event_type:
        case EventType.FROZEN | EventType.UNFROZEN:
            return _freeze(line)
        case EventType.KEY_ADDED | EventType.KEY_REVOKED | EventType.CALLER_REMOVED:
            return _key(line)
        case EventType.POLICY_APPLIED:
            how = "From the policy file, at a start of the server" if line.from_file else "By command"
            body = _body(line, how, look="pysequence-api policy history")
            return Message(NotifyEvent.POLICY, f"Version {line.policy_version} of the policy was applied", body)
        case EventType.RESTORED:
            body = _body(line, "Transfers are frozen until you unfreeze them.", look="pysequence-api limits show")
            return Message(NotifyEvent.RECORDS, "The records were restored", body)
        case EventType.OWNER_CODE_CHANGED | EventType.OWNER_PASSWORD_CHANGED:
            return _owner(line)
        case _:
            return _transfer(line, names, earlier, above_cents)


def _transfer(
    line: Line, names: Mapping[str, str], earlier: tuple[Line, ...], above_cents: int | None
) -> Message | None:
    look = f"pysequence-api transfers status {line.attempt_id}" if line.attempt_id else "pysequence-api audit tail"
    event, details = None, _said("Reason", line.error)
    match line.event_type, line.outcome:
        case EventType.APPROVAL_REQUESTED, _:
            event, title = NotifyEvent.APPROVAL, "A transfer waits for your approval"
            expires_at = read_time(line.expires_at)
            until = "" if expires_at is None else f"Until {_shown(expires_at)}"
            said = _said("The caller says", line.reason), _said("Description", line.description)
            details = "\n".join(each for each in (*said, until) if each)
            look = f"pysequence-api approvals show {line.attempt_id}"
        case EventType.FAILED, State.UNKNOWN:
            event, title = NotifyEvent.UNKNOWN, "The outcome of a transfer is unknown"
            details += "\nIt counts until its outcome is known. Do not send it again."
        case EventType.FAILED | EventType.CANCELLED, _ if (
            _was_approved_and_not_sent(earlier) and line.code != Code.CANCELLED
        ):
            event, title = NotifyEvent.APPROVAL, "A transfer that you approved was not sent"
        case EventType.RETURNED, _:
            event, title = NotifyEvent.RETURNED, "The money of a transfer came back"
        case EventType.COMPLETED, _ if any(one.outcome == State.NOT_EXECUTED for one in earlier):
            event, title = NotifyEvent.RETURNED, "A transfer appeared at Sequence late"
            details = "The gateway had concluded that it was not executed. It counts now."
        case EventType.COMPLETED, _ if above_cents is not None and (line.amount_cents or 0) > above_cents:
            title = f"A transfer above {format_cents(above_cents)}"
        case EventType.REJECTED, _ if line.caller != OWNER and line.code is not None:
            event, title = NotifyEvent.REFUSAL, f"A transfer of {caller_name(line.caller)} was rejected"
            details += "\nFor further ones within an hour, you get no message."
            look = "pysequence-api audit tail --event transfer_rejected"
        case _:
            return None
    amount = "An unknown amount" if line.amount_cents is None else format_cents(line.amount_cents)
    source, destination = (_party(party, names) for party in (line.source, line.destination))
    rule = f", rule {stranger(line.rule, NAME_CHARACTERS)}" if line.rule else ""
    caller = f"By {caller_name(line.caller)}{rule}"
    body = _body(line, f"{amount} from {source} to {destination}", caller, details.strip(), look=look)
    return Message(event, title, body)


def of_month(caller: str, used_cents: int, limit_cents: int) -> Message:
    """Say that a caller has used most of its limit for a month."""
    title = f"{caller_name(caller)} has used {100 * used_cents // limit_cents}% of its month"
    used = f"{format_cents(used_cents)} of {format_cents(limit_cents)} for this UTC month"
    return Message(NotifyEvent.MONTH, title, f"{used}\nLook: pysequence-api audit tail")


def of_problem(event: NotifyEvent, problem: str) -> Message:
    """Say what is wrong with the records, or with signing in."""
    title, look = {
        NotifyEvent.RECORDS: ("The records are damaged or were changed", "pysequence-api records check"),
        NotifyEvent.SIGN_IN: ("Signing in to Sequence needs you", "pysequence-api auth status"),
    }[event]
    return Message(event, title, f"{_without_markup(problem)}\nLook: {look}")


def of_many(counts: Counter[str]) -> Message:
    """Sum up messages that were too many to send, by their titles."""
    listed = "\n".join(f"{count} x {_without_markup(title)}" for title, count in counts.most_common(MAX_LISTED))
    return Message(None, f"{counts.total()} more messages", f"{listed}\nLook: pysequence-api audit tail")


def with_lost(message: Message, lost: int) -> Message:
    """Add how many messages before it were not delivered."""
    said = "1 message before this one was" if lost == 1 else f"{lost} messages before this one were"
    return Message(message.event, message.title, f"{message.body}\n({said} not delivered, or may not have been.)")


def of_test() -> Message:
    """Return the test message."""
    return Message(None, "A test of pysequence-api", "Messages about your gateway arrive here.")


def caller_name(caller: str | None) -> str:
    """Name a caller for people."""
    special = {OWNER: "the owner (terminal)", DEFAULT_CALLER: "default (SEQUENCE_API_KEY)"}
    return special.get(caller or "") or stranger(caller or "an unknown caller", NAME_CHARACTERS)


def stranger(text: str, limit_characters: int = 200) -> str:
    """Turn text from others into one short line in which nothing is a link, a mention or markup."""
    return plain_text(_DOMAIN.sub(". ", _without_markup(text, limit_characters)), limit_characters)


def _without_markup(text: str, limit_characters: int = 200) -> str:
    return plain_text(plain_text(text, limit_characters).replace("://", ": //").translate(_DEFUSED), limit_characters)


def _freeze(line: Line) -> Message:
    whose = "All transfers" if line.caller is None else f"Transfers of {caller_name(line.caller)}"
    if line.event_type == EventType.UNFROZEN:
        body = _body(line, look="pysequence-api limits show")
        return Message(NotifyEvent.FREEZE, f"{whose} are possible again", body)
    how = "Requested over the API" if line.via == "api" else ""
    body = _body(line, _said("Reason", line.reason), how, look="pysequence-api limits show")
    return Message(NotifyEvent.FREEZE, f"{whose} are frozen", body)


def _key(line: Line) -> Message:
    caller = caller_name(line.caller)
    title = {
        EventType.KEY_ADDED: f"{caller} has a new key",
        EventType.KEY_REVOKED: f"A key of {caller} was revoked",
        EventType.CALLER_REMOVED: f"{caller} was removed",
    }[EventType(line.event_type or "")]
    return Message(NotifyEvent.KEY, title, _body(line, look="pysequence-api callers list"))


def _owner(line: Line) -> Message:
    how = "As lost: without a code of the old one" if (line.model_extra or {}).get("lost") is True else ""
    what = "authenticator was replaced" if line.event_type == EventType.OWNER_CODE_CHANGED else "password was changed"
    body = _body(line, how, IF_NOT_YOU, look="pysequence-api audit tail")
    return Message(NotifyEvent.OWNER, f"The owner's {what}", body)


def _party(party_id: str | None, names: Mapping[str, str]) -> str:
    return stranger(names.get(party_id or "", party_id or "an unknown account"), NAME_CHARACTERS)


def _body(line: Line, *details: str, look: str) -> str:
    moment = read_time(line.timestamp)
    at = "" if moment is None else f"At {_shown(moment)}"
    return "\n".join(each for each in (*details, at, f"Look: {look}") if each)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _said(what: str, text: str | None) -> str:
    return f"{what}: {stranger(text)}" if text else ""


def _was_approved_and_not_sent(earlier: tuple[Line, ...]) -> bool:
    events = {line.event_type for line in earlier}
    return EventType.APPROVAL_GRANTED in events and EventType.REQUESTED not in events

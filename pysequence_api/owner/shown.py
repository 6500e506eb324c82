"""The content of the pages, read from the records, without a request to Sequence and without any change."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pysequence_api.gateway import Gateway
from pysequence_api.records.attempts import DEFAULT_CALLER, Attempt, Reader
from pysequence_api.records.audit import Line
from pysequence_api.records.callers import CallerInfo, listed
from pysequence_api.records.states import RULES, State
from pysequence_api.safeguards.caller_status import CallerLimits, CallerWindow, read_caller_limits
from pysequence_api.safeguards.now import state_now
from pysequence_api.safeguards.policies import policy_in_force
from pysequence_api.safeguards.policy import Policy
from pysequence_api.safeguards.status import Limits
from pysequence_api.text import one_line

RETURNED_FOR = timedelta(days=30)
"""How long the first page shows a returned transfer."""
MAX_RETURNED = 10
MAX_LATEST = 5
MAX_QUEUED = 50
PAGE_TRANSFERS = 25
PAGE_LINES = 50
KINDS = {
    State.AWAITING_APPROVAL: "waiting",
    State.RESERVED: "waiting",
    State.SENDING: "waiting",
    State.ACCEPTED: "good",
    State.ARRIVED: "good",
    State.UNKNOWN: "bad",
    State.RETURNED: "bad",
}
"""How a state looks; others have no color."""
WINDOWS = {
    "hour_cents": "Last 60 minutes",
    "day_cents": "Today",
    "month_cents": "This month",
    "hour_count": "Transfers in 60 minutes",
    "day_count": "Transfers today",
}
HASH_CHARACTERS = 12
"""How many characters of a hash are shown."""
CLOSE_PERCENT = 80
"""From this share on, a limit is shown as almost used up."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An attempt with names.

    Attributes:
        attempt: as it is recorded.
        state: as it is now; the recorded one can be that of a process that ended.
        source: the name, or else the id.
        destination: the name, or else the id.
        expires_at: the owner can decide about it until then; ``None`` if the owner was not asked.
    """

    attempt: Attempt
    state: State
    source: str
    destination: str
    expires_at: datetime | None = None

    @property
    def kind(self) -> str:
        """How it looks."""
        return KINDS.get(self.state, "plain")

    @property
    def meaning(self) -> str:
        """The state in a few words."""
        return RULES[self.state].meaning


@dataclass(frozen=True, slots=True)
class Bar:
    """How far a limit is used. Amounts are cents or a number of transfers."""

    label: str
    used: int
    limit: int
    is_cents: bool = True

    @property
    def kind(self) -> str:
        """How it looks."""
        if self.used >= self.limit:
            return "full"
        return "close" if self.used * 100 >= self.limit * CLOSE_PERCENT else "free"

    @classmethod
    def of(cls, window: CallerWindow) -> "Bar":
        """Make the bar of a caller's window."""
        return cls(WINDOWS[window.name], window.used, window.limit, window.name.endswith("_cents"))


@dataclass(frozen=True, slots=True)
class ShownCaller:
    """A caller with what it has used."""

    name: str
    info: CallerInfo | None
    limits: CallerLimits
    last_used_at: datetime | None
    can_move: bool

    @property
    def is_frozen(self) -> bool:
        """Whether this caller itself is frozen."""
        return self.info is not None and self.info.frozen_since is not None

    @property
    def own_bars(self) -> list[Bar]:
        """The bars of its own limits."""
        return [Bar.of(window) for window in self.limits.windows if window.rule is None]

    @property
    def bars_by_rule(self) -> dict[str, list[Bar]]:
        """The bars of each rule."""
        found: dict[str, list[Bar]] = {}
        for window in self.limits.windows:
            if window.rule is not None:
                found.setdefault(window.rule, []).append(Bar.of(window))
        return found


@dataclass(frozen=True, slots=True)
class Overview:
    """What the first page shows."""

    waiting: list[Shown]
    queued: list[Shown]
    more_queued: int
    unknown: list[Shown]
    returned: list[Shown]
    latest: list[Shown]
    limits: Limits

    @property
    def day_bar(self) -> Bar:
        """How far the daily limit of all callers is used."""
        return Bar("Today", self.limits.used_cents, self.limits.max_daily_cents)


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """One audit event, and its number."""

    number: int
    line: Line
    source: str | None
    destination: str | None

    @property
    def extra(self) -> dict[str, object]:
        """Its other fields."""
        shown = {"timestamp", "event_type", "amount_cents", "source", "destination", "caller", "attempt_id", "prev"}
        given = {name: value for name, value in self.line.as_json().items() if name not in shown}
        hashes = {name: f"{str(given[name])[:HASH_CHARACTERS]}…" for name in given if name.endswith("_sha256")}
        return given | hashes


def overview(gateway: Gateway) -> Overview:
    """Read what the first page shows.

    Raises:
        SafeguardsUnavailableError: the records cannot be read.
    """
    limits, names = gateway.limits(), gateway.names.all()

    def ask(reader: Reader) -> Overview:
        opened = [show(reader, gateway, one, names) for one in reader.open_attempts()]
        asked = [show(reader, gateway, one, names) for one in reader.awaiting()]
        queued = [one for one in opened if one.state in {State.RESERVED, State.SENDING}]
        latest = [show(reader, gateway, one, names) for one in reader.newest_attempts(MAX_LATEST + len(asked))]
        returned = reader.returned_since(reader.now - RETURNED_FOR, MAX_RETURNED)
        return Overview(
            waiting=[one for one in asked if one.state is State.AWAITING_APPROVAL],
            queued=queued[:MAX_QUEUED],
            more_queued=max(0, len(queued) - MAX_QUEUED),
            unknown=[one for one in opened if one.state is State.UNKNOWN],
            returned=[show(reader, gateway, one, names) for one in returned],
            latest=[one for one in latest if one.state is not State.AWAITING_APPROVAL][:MAX_LATEST],
            limits=limits,
        )

    return gateway.records.read(ask)


def show(reader: Reader, gateway: Gateway, attempt: Attempt, names: Mapping[str, str]) -> Shown:
    """Add names and the current state to an attempt."""
    approval = reader.approval(attempt.id)
    expires_at = None if approval is None else approval.expires_at
    overdue = {attempt.id} if expires_at is not None and expires_at <= reader.now else ()
    return Shown(
        attempt,
        state_now(attempt, gateway.records.owners, overdue),
        source=named(attempt.source_id, names) or "an unknown account",
        destination=named(attempt.destination_id, names) or "an unknown account",
        expires_at=expires_at,
    )


def named(account_id: str | None, names: Mapping[str, str]) -> str | None:
    """Return the name of an account, or else its id, on one line; ``None`` if there is neither."""
    return one_line(names.get(account_id, account_id)) if account_id else None


def callers(gateway: Gateway) -> list[ShownCaller]:
    """Read each caller that can send requests, with what it has used.

    Raises:
        SafeguardsUnavailableError: the records cannot be read.
    """

    def ask(reader: Reader) -> tuple[list[CallerInfo], Policy | None]:
        return listed(reader), policy_in_force(reader)

    rows, policy = gateway.records.read(ask)
    infos = {row.name: row for row in rows if row.removed_at is None}
    names = sorted(name for name in infos if name != DEFAULT_CALLER)
    if gateway.settings.api_key is not None:
        names.append(DEFAULT_CALLER)
    return [_caller(gateway, name, infos.get(name), policy) for name in names]


def _caller(gateway: Gateway, name: str, info: CallerInfo | None, policy: Policy | None) -> ShownCaller:
    uses = [key.last_used_at for key in info.keys if key.last_used_at is not None] if info else []
    return ShownCaller(
        name,
        info,
        read_caller_limits(gateway.records, name),
        last_used_at=max(uses, default=None),
        can_move=name == DEFAULT_CALLER if policy is None else bool(policy.caller(name).rules),
    )


def transfers(gateway: Gateway, before: str | None, caller: str | None) -> list[Shown]:
    """Read a page of transfers, newest first, and one more if there is a next page.

    Args:
        gateway: the account.
        before: the id of the last attempt of the page before.
        caller: only of this one.
    """
    names = gateway.names.all()

    def ask(reader: Reader) -> list[Shown]:
        last = None if before is None else reader.attempt(before)
        return [show(reader, gateway, one, names) for one in reader.newest_attempts(PAGE_TRANSFERS + 1, last, caller)]

    return gateway.records.read(ask)


def transfer(gateway: Gateway, attempt_id: str) -> tuple[Shown, list[ShownEvent]] | None:
    """Read one attempt with its events, oldest first; ``None`` if there is no such one."""
    names = gateway.names.all()

    def ask(reader: Reader) -> tuple[Shown, list[ShownEvent]] | None:
        attempt = reader.attempt(attempt_id)
        if attempt is None:
            return None
        lines = reader.newest_lines(PAGE_LINES, attempt_id=attempt_id)
        return show(reader, gateway, attempt, names), [_event(number, line, names) for number, line in reversed(lines)]

    return gateway.records.read(ask)


def audit(
    gateway: Gateway, before: int | None, event_type: str | None, caller: str | None, attempt_id: str | None
) -> list[ShownEvent]:
    """Read a page of the audit trail, newest first, and one more event if there is a next page.

    Args:
        gateway: the account.
        before: only events with a lower number.
        event_type: only such events.
        caller: only events of this caller.
        attempt_id: only events of this attempt.
    """
    names = gateway.names.all()
    with gateway.records.read_apart() as connection:  # a filter can take a while; other readers must not wait for it
        reader = Reader(connection, gateway.records.now())
        lines = reader.newest_lines(PAGE_LINES + 1, before, event_type=event_type, caller=caller, attempt_id=attempt_id)
        return [_event(number, line, names) for number, line in lines]


def _event(number: int, raw: bytes, names: Mapping[str, str]) -> ShownEvent:
    line = Line.parse(raw)
    return ShownEvent(number, line, named(line.source, names), named(line.destination, names))

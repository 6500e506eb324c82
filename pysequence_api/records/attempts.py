"""Attempts to transfer, as the database keeps them, and the questions and changes that decisions need."""

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, Self

from pysequence_api.clock import from_micros, to_micros
from pysequence_api.records.approvals import APPROVAL_COLUMNS, Approval, ApprovalReader, stored
from pysequence_api.records.audit import FIRST_HASH, Channel, Decision, Event, EventType, Line
from pysequence_api.records.grants import apply
from pysequence_api.records.states import OPEN_STATES, TAKEN_STATES, State

WINDOW_MARGIN = timedelta(minutes=2)
"""How far the time of a transfer at Sequence may be from the time here: as far as the safeguards let clocks differ."""

FOLLOWED = timedelta(days=14)
"""How long a transfer that Sequence took is looked up, and one that it did not show."""
OWNER = "owner"
"""The caller that the terminal is: whoever has the account."""
DEFAULT_CALLER = "default"
"""The caller that has the API key of the settings."""

FIRST_UPSTREAM = "graphql"
"""The upstream of attempts that name none: for long there was only this one."""

Order = tuple[str | None, str | None, int]
"""Source id, destination id and amount in cents: what makes two attempts alike."""
_TIMES = {"created_at", "announced_at", "ended_at", "upstream_created_at", "followed_until"}
_LISTS = {name: f"({', '.join(repr(state.value) for state in states)})" for name, states in
          {"open": OPEN_STATES, "taken": TAKEN_STATES}.items()}  # fmt: skip
_IS_NAMED = (
    "(source_id, destination_id) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')"
    " FROM json_each(:named))"
)
_IS_AMONG = f"source_id IN (SELECT value FROM json_each(:sources)) AND NOT coalesce({_IS_NAMED}, 0)"
"""The conditions of a `PairSet` without and with ``sources``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to transfer. Times are aware, in UTC; hashes are raw SHA-256; amounts are cents.

    Attributes:
        ended_at: when it left `sending` or `unknown`, or ended before it was sent.
        upstream_created_at: when Sequence created the transfer, if it says so exactly.
        upstream_status: the newest status that Sequence told, in its own word.
        followed_until: it is looked up in the activity until then; ``None`` if it is not followed.
        owner: the process that works on it, see `records.owners`.
        upstream: the API that sent it. Only this one decides about it.
        caller_key_sha256: the caller's key that asked; ``None`` for the caller `default` and the terminal.
        policy_version: the version of the policy that let it through or refused it.
        rule: the rule of that policy.
        reason: what the caller says why.
    """

    id: str
    caller: str
    channel: str
    state: State
    amount_cents: int
    created_at: datetime
    upstream: str | None = None
    source_type: str | None = None
    source_id: str | None = None
    destination_type: str | None = None
    destination_id: str | None = None
    organization_id: str | None = None
    kyc_id: str | None = None
    description: str | None = None
    instant: bool = False
    request_sha256: bytes | None = None
    key_sha256: bytes | None = None
    code: str | None = None
    error: str | None = None
    owner: str | None = None
    announced_at: datetime | None = None
    ended_at: datetime | None = None
    upstream_created_at: datetime | None = None
    upstream_status: str | None = None
    followed_until: datetime | None = None
    transfer_id: str | None = None
    caller_key_sha256: bytes | None = None
    policy_version: int | None = None
    rule: str | None = None
    reason: str | None = None

    @property
    def sent_through(self) -> str:
        """The upstream that sent it."""
        return self.upstream or FIRST_UPSTREAM

    @property
    def order(self) -> Order:
        """What makes two attempts alike."""
        return self.source_id, self.destination_id, self.amount_cents

    @property
    def sent_at(self) -> datetime:
        """When it was announced, or else created."""
        return self.announced_at or self.created_at

    def event(self, event_type: EventType, now: datetime, **more: Any) -> Event:
        """Make an audit event about it."""
        return Event(
            timestamp=now,
            event_type=event_type,
            amount_cents=self.amount_cents,
            source=self.source_id or "",
            destination=self.destination_id or "",
            attempt_id=self.id,
            caller=self.caller,
            via=Channel(self.channel) if self.channel in set(Channel) else None,
            rule=self.rule,
            policy_version=self.policy_version,
            **more,
        )

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Read a row of `COLUMNS`."""
        values = dict(zip(_NAMES, row, strict=True))
        for name in _TIMES:
            if values[name] is not None:
                values[name] = from_micros(values[name])
        values["state"], values["instant"] = State(values["state"]), bool(values["instant"])
        return cls(**values)

    def as_row(self) -> tuple[Any, ...]:
        """Write a row of `COLUMNS`."""
        return tuple(map(_stored, _VALUES(self)))


_NAMES = tuple(field.name for field in fields(Attempt))
_VALUES = attrgetter(*_NAMES)
COLUMNS = ", ".join(_NAMES)


def _stored(value: object) -> object:
    if isinstance(value, datetime):
        return to_micros(value)
    return int(value) if isinstance(value, bool) else value


def caller_of(channel: str) -> str:
    """Return the caller of a channel."""
    return OWNER if channel == Channel.CLI else DEFAULT_CALLER


@dataclass(frozen=True, slots=True)
class Freeze:
    """Transfers are frozen since then, for this reason.

    Attributes:
        callers_only: the owner's terminal is not.
        caller: only this caller is.
    """

    since: datetime
    reason: str
    callers_only: bool = False
    caller: str | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """What counts in a window: its sum in cents, and how many transfers that are."""

    cents: int = 0
    count: int = 0


class Outline(NamedTuple):
    """The little of an attempt by which a list is filtered."""

    id: str
    state: str
    key_sha256: bytes | None


class PairSet(Protocol):
    """A set of pairs of accounts, by their ids: `safeguards.policy.Pairs`."""

    @property
    def named(self) -> frozenset[tuple[str, str]]:
        """The pairs; or, if there are ``sources``, the pairs that are left out."""

    @property
    def sources(self) -> frozenset[str]:
        """From each of these to any destination."""


class Reader(ApprovalReader):
    """Questions to the database. A connection that reads sees one moment of it in each call.

    Args:
        connection: to the database.
        now: the time, in UTC.
    """

    def attempt(self, attempt_id: str) -> Attempt | None:
        """Find an attempt by its id."""
        return self._one("WHERE id = ?", attempt_id)

    def attempt_by_key(self, caller: str, key_sha256: bytes) -> Attempt | None:
        """Find the newest attempt that an idempotency key of a caller names."""
        bound = "(SELECT attempt_id FROM idempotency WHERE caller = ? AND key_sha256 = ?)"
        return self._one(f"WHERE id = {bound}", caller, key_sha256)

    def outlines_of(self, caller: str, limit: int, before: Attempt | None = None) -> list[Outline]:
        """List the newest attempts of a caller, newest first, without what takes long to read.

        Args:
            caller: whose attempts.
            limit: how many.
            before: only those that come after this one in the list.
        """
        # By the index `attempt_of_caller`, which has these columns in this order.
        where = "caller = ?"
        values: list[object] = [caller]
        if before is not None:
            where += " AND (created_at, id) < (?, ?)"
            values += [to_micros(before.created_at), before.id]
        question = f"SELECT id, state, key_sha256 FROM attempt WHERE {where} ORDER BY created_at DESC, id DESC LIMIT ?"
        return [Outline(*row) for row in self._connection.execute(question, (*values, limit))]

    def attempt_by_transfer(self, transfer_id: str) -> Attempt | None:
        """Find the attempt that has a transfer."""
        return self._one("WHERE transfer_id = ?", transfer_id)

    def open_attempts(self) -> list[Attempt]:
        """List what is reserved, being sent, or of unknown outcome, oldest first."""
        return self._many(f"WHERE state IN {_LISTS['open']} ORDER BY created_at, id")

    def followed_attempts(self) -> list[Attempt]:
        """List what is looked up in the activity though nothing of it is open, oldest first."""
        # Without its name, SQLite takes an index of all attempts for the order.
        followed = "INDEXED BY attempt_followed WHERE followed_until IS NOT NULL"
        return self._many(f"{followed} AND state NOT IN {_LISTS['open']} ORDER BY created_at, id")

    def attempts_in(self, state: State) -> list[Attempt]:
        """List what is in a state, oldest first."""
        return self._many("WHERE state = ? ORDER BY created_at, id", state.value)

    def awaiting(self, caller: str | None = None) -> list[Attempt]:
        """List what waits for the owner's approval, of a caller or of all, oldest first."""
        # Without its name, SQLite takes an index of all attempts for the order.
        waiting = "INDEXED BY attempt_awaiting WHERE state = 'awaiting_approval'"
        if caller is None:
            return self._many(f"{waiting} ORDER BY created_at, id")
        return self._many(f"{waiting} AND caller = ? ORDER BY created_at, id", caller)

    def denied_since(self, caller: str, since: datetime) -> list[Attempt]:
        """List what the owner denied a caller since a time."""
        return self._many("WHERE state = 'denied' AND caller = ? AND ended_at > ?", caller, to_micros(since))

    def attempts_since(self, since: datetime) -> list[Attempt]:
        """List what was requested since then, oldest first."""
        return self._many("WHERE created_at >= ? ORDER BY created_at, id", to_micros(since))

    def attempts_counted_since(self, since: datetime) -> list[Attempt]:
        """List what counts in windows that began then, oldest first."""
        end = "coalesce(upstream_created_at, ended_at)"
        taken = f"state IN {_LISTS['taken']} AND {end} >= ?"
        return sorted(
            self.open_attempts() + self._many(f"WHERE {taken}", to_micros(since)), key=lambda one: one.created_at
        )

    def used_cents(self, window_start: datetime, caller: str | None = None) -> int:
        """Add up what counts in a window that began then and goes on now; see `used`."""
        return self.used(caller, None, window_start).cents

    def used(self, caller: str | None, pairs: PairSet | None, since: datetime, *, returned: bool = True) -> Used:
        """Add up what counts in a window that began then and goes on now.

        That is what is open, and what may have run in the window: its time at Sequence, or else the time from before it
        was announced to after it ended, with `WINDOW_MARGIN` around it, touches the window. What lies in the future
        counts: a clock that was set back releases nothing.

        Args:
            caller: whose attempts; ``None`` for those of all callers.
            pairs: between which accounts; ``None`` for all.
            since: when the window began.
            returned: whether attempts count whose money came back.
        """
        end = "coalesce(upstream_created_at, ended_at)"
        conditions = ["caller = :caller"] if caller is not None else []
        conditions += [] if pairs is None else [_IS_AMONG if pairs.sources else _IS_NAMED]
        which = "".join(f" AND {condition}" for condition in conditions)
        kept = "" if returned else " AND state <> 'returned'"
        # Without their names, SQLite takes the index of a caller's attempts, and reads all that it ever requested.
        total = "SELECT coalesce(sum(amount_cents), 0), count(*) FROM attempt INDEXED BY"
        values = {"caller": caller, "begin": to_micros(since - WINDOW_MARGIN)}
        if pairs is not None:
            values |= {"named": json.dumps(sorted(pairs.named)), "sources": json.dumps(sorted(pairs.sources))}
        found = [
            self._connection.execute(f"{total} {states}{which}", values).fetchone()
            for states in (
                f"attempt_open WHERE state IN {_LISTS['open']}",
                f"attempt_counted WHERE state IN {_LISTS['taken']} AND {end} >= :begin{kept}",
            )
        ]
        return Used(sum(cents for cents, _ in found), sum(count for _, count in found))

    def unfrozen_at(self, caller: str | None = None) -> datetime:
        """Return when transfers of all, or of this caller, were unfrozen for the last time; 1970 if never."""
        all_at = self._value("SELECT max(at) FROM audit WHERE event_type = 'unfrozen' AND caller IS NULL")
        row = None if caller is None else self.caller(caller)
        own_at = None if row is None or row.unfrozen_at is None else to_micros(row.unfrozen_at)
        return from_micros(max(all_at or 0, own_at or 0))

    def became_unknown_at(self, attempt: Attempt) -> datetime:
        """Return since when the outcome of an attempt is unknown, by its newest audit event."""
        at = self._value("SELECT max(at) FROM audit WHERE attempt_id = ?", attempt.id)
        return attempt.sent_at if at is None else from_micros(at)

    def count_never(self, caller: str, after: datetime) -> int:
        """Count a caller's requests for what the policy never allows, after a time."""
        question = "SELECT count(*) FROM attempt WHERE caller = ? AND created_at > ? AND code = 'never_allowed'"
        return int(self._value(question, caller, to_micros(after)))

    def count_refused(self, caller: str, codes: Collection[str], after: datetime) -> int:
        """Count a caller's attempts that the policy refused with one of these codes, after a time."""
        return int(
            self._value(
                "SELECT count(*) FROM attempt WHERE caller = ? AND created_at > ? AND state = 'rejected'"
                " AND policy_version IS NOT NULL AND code IN (SELECT value FROM json_each(?))",
                caller,
                to_micros(after),
                json.dumps(sorted(codes)),
            )
        )

    def count_equal(self, caller: str, after: datetime) -> int:
        """Count the most equal orders that a caller made after a time, without what certainly moved nothing."""
        counting = f"state IN {_LISTS['open']} OR state IN {_LISTS['taken']}"
        found = self._value(
            f"SELECT count(*) FROM attempt WHERE caller = ? AND created_at > ? AND ({counting})"
            " GROUP BY source_id, destination_id, amount_cents ORDER BY 1 DESC LIMIT 1",
            caller,
            to_micros(after),
        )
        return int(found or 0)

    def is_claimed(self, transfer_id: str) -> bool:
        """Say whether an attempt has this transfer already."""
        return self._value("SELECT 1 FROM attempt WHERE transfer_id = ?", transfer_id) is not None

    def events_of(self, attempt_id: str) -> list[bytes]:
        """List the audit lines of an attempt, oldest first."""
        rows = self._connection.execute("SELECT line FROM audit WHERE attempt_id = ? ORDER BY seq", (attempt_id,))
        return [line for (line,) in rows]

    def newest_event(self) -> int:
        """Return the number of the newest audit event; 0 if there is none."""
        return int(self._value("SELECT coalesce(max(seq), 0) FROM audit"))

    def events_after(self, seq: int, count: int) -> list[tuple[int, bytes]]:
        """List the audit events after one, oldest first: the number and the line of each.

        Args:
            seq: the number of that event.
            count: how many to list at most.
        """
        question = "SELECT seq, line FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._connection.execute(question, (seq, count)).fetchall()

    def freeze(self) -> Freeze | None:
        """Return why transfers are frozen, if they are."""
        since, reason, callers_only = self._connection.execute(
            "SELECT frozen_at, frozen_reason, frozen_callers_only FROM store"
        ).fetchone()
        return None if since is None else Freeze(from_micros(since), reason, bool(callers_only))

    def freeze_of(self, caller: str) -> Freeze | None:
        """Return why the transfers of one caller are frozen, if they are."""
        row = self.caller(caller)
        if row is None or row.frozen_at is None or row.frozen_reason is None:
            return None
        return Freeze(row.frozen_at, row.frozen_reason, caller=caller)

    def recorded_limits(self) -> tuple[int | None, int | None]:
        """Return the per-transfer and the daily limit of the last `serve`, in cents."""
        row: tuple[int | None, int | None] = self._connection.execute(
            "SELECT max_transfer_cents, max_daily_cents FROM store"
        ).fetchone()
        return row

    def restored_at(self) -> datetime | None:
        """Return when the records were restored for the last time, if they were."""
        micros = self._value("SELECT restored_at FROM store")
        return None if micros is None else from_micros(micros)

    def must_count_missing(self) -> bool:
        """Say whether the records were restored, and what they lack has not been counted yet."""
        return self._value("SELECT 1 FROM store WHERE restored_at NOTNULL AND missing_counted_at ISNULL") is not None

    def audit_head(self) -> str | None:
        """Return the hash of the newest audit event, in hexadecimal; ``None`` if there is none."""
        row = self._connection.execute(
            "SELECT sha256 FROM audit WHERE length(line) > 0 ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        return None if row is None else row[0].hex()

    def repeated_rejections(self) -> list[Attempt]:
        """List the rejected attempts that repeated the newest event and have no event of their own, newest first."""
        row = self._newest_rejection()
        if row is None:
            return []
        without_event = "NOT EXISTS(SELECT 1 FROM audit WHERE attempt_id = attempt.id)"
        return self._many(
            f"WHERE state = 'rejected' AND created_at >= ? AND {without_event} ORDER BY created_at DESC", row[0]
        )

    def newest_attempts(self, count: int, before: Attempt | None = None, caller: str | None = None) -> list[Attempt]:
        """List what was requested last, newest first.

        Args:
            count: at most so many.
            before: only what was requested before this one.
            caller: only of this one.
        """
        at, attempt_id = (None, None) if before is None else (to_micros(before.created_at), before.id)
        return self._many(
            "WHERE (?1 IS NULL OR (created_at, id) < (?1, ?2)) AND (?3 IS NULL OR caller = ?3)"
            " ORDER BY created_at DESC, id DESC LIMIT ?4",
            at,
            attempt_id,
            caller,
            count,
        )

    def returned_since(self, since: datetime, count: int) -> list[Attempt]:
        """List transfers since then whose money came back, newest first, at most so many."""
        end = "coalesce(upstream_created_at, ended_at)"
        return self._many(
            f"WHERE state IN {_LISTS['taken']} AND state = 'returned' AND {end} >= ? ORDER BY {end} DESC LIMIT ?",
            to_micros(since),
            count,
        )

    def newest_lines(
        self,
        count: int,
        before: int | None = None,
        *,
        event_type: str | None = None,
        caller: str | None = None,
        attempt_id: str | None = None,
    ) -> list[tuple[int, bytes]]:
        """List audit lines with their numbers, newest first.

        Args:
            count: at most so many.
            before: only lines with a lower number.
            event_type: only such events.
            caller: only events of this caller.
            attempt_id: only events of this attempt.
        """
        wanted = {"event_type": event_type, "caller": caller, "attempt_id": attempt_id}
        given = {name: value for name, value in wanted.items() if value is not None}
        conditions = ["length(line) > 0", *([] if before is None else ["seq < :before"])]
        conditions += [f"{name} = :{name}" for name in given]
        question = f"SELECT seq, line FROM audit WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT :count"
        return self._connection.execute(question, given | {"before": before, "count": count}).fetchall()

    def names(self) -> dict[str, str]:
        """Return the names of pods, ports and accounts that were seen, by id."""
        return dict(self._connection.execute("SELECT id, name FROM name"))

    def _newest_rejection(self) -> tuple[int, str] | None:
        row = self._connection.execute(
            "SELECT at, attempt_id, event_type FROM audit ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        return (row[0], row[1]) if row is not None and row[2] == EventType.REJECTED and row[1] is not None else None

    def _one(self, where: str, *values: object) -> Attempt | None:
        row = self._connection.execute(f"SELECT {COLUMNS} FROM attempt {where}", values).fetchone()
        return None if row is None else Attempt.from_row(row)

    def _many(self, where: str, *values: object) -> list[Attempt]:
        rows = self._connection.execute(f"SELECT {COLUMNS} FROM attempt {where}", values)
        return [Attempt.from_row(row) for row in rows]

    def _value(self, question: str, *values: object) -> Any:
        row = self._connection.execute(question, values).fetchone()
        return None if row is None else row[0]


class Writer(Reader):
    """Questions and changes within one transaction.

    Args:
        connection: to the database, in a transaction.
        now: the time, in UTC.
        distrust: why the files cannot be trusted with another transfer; ``None`` if they can.
    """

    def __init__(self, connection: sqlite3.Connection, now: datetime, distrust: str | None = None) -> None:
        super().__init__(connection, now)
        self.distrust = distrust
        self.lines: list[bytes] = []
        """The audit lines of this transaction."""
        self.changed_attempts = False

    def add_attempt(self, attempt: Attempt, **changes: Any) -> Attempt:
        """Add an attempt with some changes, and bind its idempotency key to it."""
        attempt = replace(attempt, **changes) if changes else attempt
        marks = ", ".join("?" * len(_NAMES))
        self._connection.execute(f"INSERT INTO attempt({COLUMNS}) VALUES({marks})", attempt.as_row())
        self.changed_attempts = True
        if attempt.key_sha256 is not None:
            self.bind_key(attempt)
        return attempt

    def bind_key(self, attempt: Attempt, key_sha256: bytes | None = None) -> None:
        """Have an idempotency key name an attempt: its own, or another one of its caller."""
        self._connection.execute(
            "INSERT INTO idempotency(caller, key_sha256, attempt_id) VALUES(?, ?, ?)"
            " ON CONFLICT(caller, key_sha256) DO UPDATE SET attempt_id = excluded.attempt_id",
            (attempt.caller, key_sha256 or attempt.key_sha256, attempt.id),
        )

    def move(self, attempt: Attempt, state: State, **changes: Any) -> Attempt:
        """Change the state of an attempt, and what changes with it.

        Raises:
            sqlite3.IntegrityError: it cannot go from its state to that one.
        """
        return self.update(attempt, state=state, **changes)

    def update(self, attempt: Attempt, **changes: Any) -> Attempt:
        """Change an attempt."""
        changes = {name: value for name, value in changes.items() if value != getattr(attempt, name)}
        if not changes:
            return attempt
        assignments = ", ".join(f"{name} = ?" for name in changes)
        values = map(_stored, changes.values())
        self._connection.execute(f"UPDATE attempt SET {assignments} WHERE id = ?", (*values, attempt.id))
        self.changed_attempts = True
        return replace(attempt, **changes)

    def add_approval(self, approval: Approval) -> None:
        """Note what the owner is asked about an attempt that waits.

        Raises:
            sqlite3.IntegrityError: it does not wait, or the owner was asked already.
        """
        marks = ", ".join("?" * len(APPROVAL_COLUMNS))
        values = [stored(getattr(approval, name)) for name in APPROVAL_COLUMNS]
        self._connection.execute(f"INSERT INTO approval({', '.join(APPROVAL_COLUMNS)}) VALUES({marks})", values)

    def decide_approval(
        self, attempt_id: str, decision: Decision, channel: str | None, decided_at: datetime | None = None
    ) -> None:
        """Note what the owner decided about an attempt that waits.

        Args:
            attempt_id: the attempt.
            decision: what was decided.
            channel: how.
            decided_at: when; by default now.

        Raises:
            sqlite3.IntegrityError: it does not wait, was decided before, or it is too late to approve it.
        """
        self._connection.execute(
            "UPDATE approval SET decision = ?, decided_at = ?, decided_via = ? WHERE attempt_id = ?",
            (decision, to_micros(decided_at or self.now), str(channel), attempt_id),
        )

    def set_owner_secrets(self, **changes: Any) -> None:
        """Change how the owner proves who it is; see `OwnerSecrets`.

        Raises:
            sqlite3.IntegrityError: a code was used already, or a session was signed out.
        """
        self._connection.execute("INSERT INTO owner(one) VALUES(1) ON CONFLICT(one) DO NOTHING")
        assignments = ", ".join(f"{name} = ?" for name in changes)
        self._connection.execute(f"UPDATE owner SET {assignments}", [stored(value) for value in changes.values()])

    def add_event(self, event: Event) -> None:
        """Add an audit event, after one that sums up repeated rejections, if there were any."""
        self.sum_up_rejections()
        self._add(event)

    def change_grants(self, event: Event, policy_text: str | None = None) -> None:
        """Add an audit event about callers, keys or policies, and make the change that it describes.

        Raises:
            sqlite3.IntegrityError: it contradicts what is there.
        """
        self.add_event(event)
        apply(self._connection, Line.model_validate(event.model_dump(mode="json", exclude_none=True)), policy_text)
        self.__dict__.pop("_newest_policy", None)

    def note_uses(self, used: Mapping[bytes, datetime], every: timedelta) -> None:
        """Note when keys were used, by their SHA-256, unless a use of about that time is noted already."""
        for sha256, used_at in used.items():
            self._connection.execute(
                "UPDATE caller_key SET last_used_at = ?1 WHERE sha256 = ?2"
                " AND coalesce(last_used_at NOT BETWEEN ?3 AND ?1, 1)",
                (to_micros(used_at), sha256, to_micros(used_at - every)),
            )

    def is_repeated(self, rejected: Attempt, within: timedelta) -> bool:
        """Say whether the newest audit event is an equal rejection, made within this time."""
        row = self._newest_rejection()
        if row is None or self.now - from_micros(row[0]) > within:
            return False
        earlier = self.attempt(row[1])
        return earlier is not None and (earlier.caller, earlier.code, earlier.order) == (
            rejected.caller,
            rejected.code,
            rejected.order,
        )

    def sum_up_rejections(self) -> None:
        """Add one event for the rejections that repeated the newest event and have no event of their own."""
        repeats = self.repeated_rejections()
        if repeats:
            newest = repeats[0]
            more = {"error": newest.error, "code": newest.code, "repeats": len(repeats)}
            self._add(newest.event(EventType.REJECTED, newest.created_at, **more))

    def _add(self, event: Event) -> None:
        line = event.line(self.audit_head() or FIRST_HASH)
        self.add_line(line, event.timestamp, event.event_type, event.attempt_id, event.caller)
        self.lines.append(line)

    def add_line(
        self, line: bytes, at: datetime, event_type: str, attempt_id: str | None = None, caller: str | None = None
    ) -> None:
        """Add a line of the audit trail as it stands there, without its line break."""
        newest = self._connection.execute(
            "SELECT seq, start + length(line) + 1 FROM audit ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        seq, start = newest or (0, 0)
        digest = hashlib.sha256(line).digest()
        self._connection.execute(
            "INSERT INTO audit(seq, start, line, sha256, at, event_type, attempt_id, caller)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            (seq + 1, start, line, digest, to_micros(at), str(event_type), attempt_id, caller),
        )

    def set_freeze(
        self,
        reason: str | None,
        *,
        callers_only: bool = False,
        caller: str | None = None,
        channel: Channel | None = None,
    ) -> None:
        """Freeze transfers, or unfreeze them with ``None``, with an audit event.

        Args:
            reason: why.
            callers_only: the owner's terminal goes on.
            caller: only the transfers of this one.
            channel: how that was requested, if it is to be recorded.
        """
        event_type = EventType.UNFROZEN if reason is None else EventType.FROZEN
        event = Event(timestamp=self.now, event_type=event_type, reason=reason, caller=caller, via=channel)
        if caller is not None:
            self.change_grants(event)
            return
        self.add_event(event)
        self._connection.execute(
            "UPDATE store SET frozen_at = ?, frozen_reason = ?, frozen_callers_only = ?",
            (None if reason is None else to_micros(self.now), reason, callers_only),
        )

    def record_limits(self, max_transfer_cents: int, max_daily_cents: int) -> None:
        """Record the limits that the server starts with."""
        self._connection.execute(
            "UPDATE store SET max_transfer_cents = ?, max_daily_cents = ?", (max_transfer_cents, max_daily_cents)
        )

    def set_restored(self, trail_synced: int) -> None:
        """Note that the records are restored now.

        Args:
            trail_synced: how many bytes of the audit trail are on the disk.
        """
        self._connection.execute(
            "UPDATE store SET restored_at = ?, missing_counted_at = NULL, trail_synced = ?",
            (to_micros(self.now), trail_synced),
        )

    def set_missing_counted(self) -> None:
        """Note that what was missing after a restore has been counted."""
        self._connection.execute("UPDATE store SET missing_counted_at = ?", (to_micros(self.now),))

    def remember_names(self, names: Iterable[tuple[str, str]]) -> None:
        """Remember what pods, ports and accounts are called."""
        self._connection.executemany(
            "INSERT INTO name(id, name) VALUES(?, ?) ON CONFLICT(id) DO UPDATE SET name = excluded.name", names
        )

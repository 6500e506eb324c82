"""A second, deliberately plain implementation of the decision, and random policies and histories to compare it on.

It works on the owner's own words, on lists and on dates as text. No step of the decision shares code with the real one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from pysequence_api.models import TransferOrder
from pysequence_api.records.attempts import Attempt, Used
from pysequence_api.records.states import State
from pysequence_api.safeguards.policy import Pairs

ACCOUNTS = {"a": "POD:1", "b": "POD:2", "c": "PORT:3", "d": "ACCOUNT:4"}
WORDS = {account.partition(":")[2]: word for word, account in ACCOUNTS.items()}
CALLERS = ("x", "y", "owner")
WINDOW_LIMITS = ("hour_cents", "day_cents", "month_cents", "hour_count", "day_count")
TWO_MINUTES = timedelta(minutes=2)
OPEN, TAKEN = ("reserved", "sending", "unknown"), ("accepted", "arrived", "returned")
Spec = dict[str, Any]


@dataclass
class PlainHistory:
    """A history that reads the whole list each time."""

    attempts: list[Attempt]

    def used(self, caller: str | None, pairs: Pairs | None, since: datetime, *, returned: bool) -> Used:
        """Add up what counts."""
        amounts = []
        for one in self.attempts:
            is_asked_for = caller in {None, one.caller} and (
                pairs is None or pairs.covers(one.source_id, one.destination_id)
            )
            if is_asked_for and _counts(one, since, returned=returned):
                amounts.append(one.amount_cents)
        return Used(sum(amounts), len(amounts))


def _counts(one: Attempt, since: datetime, *, returned: bool) -> bool:
    if one.state in OPEN:
        return True
    if one.state not in TAKEN or (one.state == "returned" and not returned):
        return False
    end = one.upstream_created_at or one.ended_at
    return end is not None and end + TWO_MINUTES >= since


def plain_codes(
    spec: Spec, caller: str, order: TransferOrder, attempts: list[Attempt], *, limits: tuple[int, int], now: datetime
) -> list[str]:
    """List the codes of all checks that fail, in the order of the language."""
    if caller == "owner":
        return [*_global_codes(order, attempts, limits, now)]
    table = spec["callers"].get(caller, {})
    source, to = WORDS[order.source_id], WORDS[order.destination_id]
    codes = []
    if "expires" in table and now.isoformat() >= table["expires"].isoformat():
        codes.append("caller_expired")
    if "move" not in table.get("scopes", []):
        codes.append("scope_missing")
    if source in spec["never"]["from"] or to in spec["never"]["to"]:
        codes.append("never_allowed")
    rules = table.get("rules", [])
    naming = [rule for rule in rules if source in rule["from"] and to in rule["to"]]
    rule = next(iter(naming or [rule for rule in rules if source in rule["from"] and rule["to"] == ["*"]]), None)
    own = [one for one in attempts if one.caller == caller]
    if rule is None:
        codes.append("pair_not_allowed")
    else:
        if order.amount_cents > rule["max_cents"]:
            codes.append("over_max")
        if order.instant and not rule.get("instant"):
            codes.append("instant_not_allowed")
        if order.amount_cents > rule.get("approve_above_cents", 10**9):
            codes.append("needs_approval")
        codes += _window_codes(rule, order, [one for one in own if _is_of(one, rule, rules)], now)
    codes += _window_codes(table, order, own, now)
    return [*codes, *_global_codes(order, attempts, limits, now)]


def _is_of(one: Attempt, rule: Spec, rules: list[Spec]) -> bool:
    source, to = WORDS[one.source_id or ""], WORDS[one.destination_id or ""]
    if rule["to"] == ["*"]:
        return source in rule["from"] and not any(source in each["from"] and to in each["to"] for each in rules)
    return source in rule["from"] and to in rule["to"]


def _window_codes(table: Spec, order: TransferOrder, attempts: list[Attempt], now: datetime) -> Iterator[str]:
    for name in WINDOW_LIMITS:
        if name not in table:
            continue
        window, unit = name.split("_")
        amounts = [one.amount_cents for one in attempts if _is_in(one, window, now)]
        sums = {"cents": sum(amounts) + order.amount_cents, "count": len(amounts) + 1}
        if sums[unit] > table[name]:
            yield f"over_{window}" if unit == "cents" else f"count_{window}"


def _global_codes(
    order: TransferOrder, attempts: list[Attempt], limits: tuple[int, int], now: datetime
) -> Iterator[str]:
    if order.amount_cents > limits[0]:
        yield "over_global"
    if sum(one.amount_cents for one in attempts if _is_in(one, "day", now)) + order.amount_cents > limits[1]:
        yield "over_global"


def _is_in(one: Attempt, window: str, now: datetime) -> bool:
    """Say whether an attempt may be in a window with one that Sequence makes up to two minutes before now."""
    if one.state in OPEN:
        return True
    if one.state not in TAKEN or (window == "month" and one.state == "returned"):
        return False
    last = (one.upstream_created_at or one.ended_at or now) + TWO_MINUTES
    first_now = now - TWO_MINUTES
    if window == "hour":
        return first_now - last <= timedelta(hours=1)
    length = len("2026-11-23") if window == "day" else len("2026-11")
    return last.isoformat()[:length] >= first_now.isoformat()[:length]


def as_toml(spec: Spec) -> str:
    """Write a policy."""
    lines = ["version = 1", f"accounts = {_toml(ACCOUNTS)}", f"never = {_toml(spec['never'])}"]
    lines += [f"callers.{name} = {_toml(table)}" for name, table in spec["callers"].items()]
    return "\n".join(lines)


def _toml(value: object) -> str:
    match value:
        case dict():
            return f"{{{', '.join(f'{name} = {_toml(each)}' for name, each in value.items())}}}"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat()
        case str():
            return f'"{value}"'
    return str(value)


_cents = st.integers(0, 400)
_pairs = [(source, to) for source in ACCOUNTS for to in ACCOUNTS if source != to]
BOUNDARIES = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))
_near = st.one_of(
    st.integers(-200, 200).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(0, 48 * 60).map(lambda minutes: timedelta(minutes=minutes)),
)
times = st.builds(lambda boundary, near: boundary + near, st.sampled_from(BOUNDARIES), _near)


@st.composite
def windows(draw: st.DrawFn, bounds: Spec | None = None) -> Spec:
    """Draw limits of windows, below those of a caller."""
    table = {}
    for name in WINDOW_LIMITS:
        most = (bounds or {}).get(name, 400 if "cents" in name else 5)
        if draw(st.booleans()):
            table[name] = draw(st.integers(0, most))
    return table


@st.composite
def rules(draw: st.DrawFn, caller: Spec) -> list[Spec]:
    """Draw rules, each pair in one of them at most."""
    bounds = [caller[name] for name in WINDOW_LIMITS if name in caller and "cents" in name]
    made: list[Spec] = []
    free = set(_pairs)
    for number in range(draw(st.integers(1, 3))):
        sources = draw(st.lists(st.sampled_from([*ACCOUNTS]), min_size=1, max_size=3, unique=True))
        to = draw(st.lists(st.sampled_from([*ACCOUNTS]), min_size=1, max_size=3, unique=True))
        pairs = {(source, one) for source in sources for one in to if source != one}
        if not pairs or not pairs <= free:
            continue
        free -= pairs
        rule = {
            "name": f"rule-{number}",
            "from": sources,
            "to": to,
            "max_cents": draw(st.integers(0, min([*bounds, 300]))),
        }
        if draw(st.integers(0, 3)) == 0:
            rule["approve_above_cents"] = draw(_cents)
        rule["instant"] = draw(st.booleans())
        made.append(rule | draw(windows(caller)))
    if not made or draw(st.integers(0, 4)) == 0:
        sources = draw(st.lists(st.sampled_from([*ACCOUNTS]), min_size=1, max_size=4, unique=True))
        most = min([*bounds, 300])
        rule = {"name": "any", "from": sources, "to": ["*"], "max_cents": most, "approve_above_cents": 0}
        made.append(rule | draw(windows(caller)))
    return made


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Draw a policy as plain data."""
    callers: Spec = {}
    for name in draw(st.sampled_from((["x"], ["x", "y"], ["y"]))):
        table = draw(windows())
        if draw(st.integers(0, 5)):
            table |= {"scopes": ["move"], "rules": draw(rules(table))}
        if draw(st.integers(0, 4)) == 0:
            table["expires"] = draw(times)
        callers[name] = table
    words = st.lists(st.sampled_from([*ACCOUNTS]), max_size=1)
    never = {"from": draw(words), "to": draw(words)} if draw(st.integers(0, 3)) == 0 else {"from": [], "to": []}
    return {"never": never, "callers": callers}


@st.composite
def attempts(draw: st.DrawFn, now: datetime, max_size: int = 12) -> list[Attempt]:
    """Draw a history, most of it close to the bounds of the windows that go on."""
    starts = st.sampled_from(
        (
            now,
            now - timedelta(hours=1),
            now.replace(hour=0, minute=0, second=0),
            now.replace(day=1, hour=0, minute=0),
            now - timedelta(days=9),
        )
    )
    near = st.integers(-300, 300).map(lambda seconds: timedelta(seconds=seconds))
    made = []
    for number in range(draw(st.integers(0, max_size))):
        source, to = draw(st.sampled_from(_pairs))
        state = draw(st.sampled_from([State(each) for each in (*OPEN, *TAKEN, *TAKEN, "failed", "rejected")]))
        at = draw(starts) + draw(near)
        one = an_attempt(
            f"{number}", draw(st.sampled_from(CALLERS)), source, to, amount_cents=draw(st.integers(1, 99)), at=at
        )
        if state not in OPEN:
            has_exact_time = draw(st.booleans()) and state in TAKEN
            one = replace(one, ended_at=at, upstream_created_at=at + draw(near) if has_exact_time else None)
        made.append(replace(one, state=state))
    return made


def an_attempt(identifier: str, caller: str, source: str, to: str, *, amount_cents: int, at: datetime) -> Attempt:
    """Make a reserved attempt between two accounts, by their words."""
    (source_type, _, source_id), (to_type, _, to_id) = (ACCOUNTS[word].partition(":") for word in (source, to))
    return Attempt(
        id=identifier,
        caller=caller,
        channel="api",
        state=State.RESERVED,
        amount_cents=amount_cents,
        created_at=at,
        announced_at=at,
        source_type=source_type,
        source_id=source_id,
        destination_type=to_type,
        destination_id=to_id,
    )


@st.composite
def orders(draw: st.DrawFn, spec: Spec) -> tuple[str, TransferOrder]:
    """Draw a caller of a policy and an order, most often one that a rule covers."""
    caller = draw(st.sampled_from([*spec["callers"]] * 2 + ["x", "owner"]))
    covered = [
        (source, to)
        for rule in spec["callers"].get(caller, {}).get("rules", [])
        for source, to in _pairs
        if source in rule["from"] and to in rule["to"]
    ]
    source, to = draw(st.sampled_from(covered * 4 + _pairs))
    one = an_attempt("", caller, source, to, amount_cents=draw(st.integers(1, 60)), at=BOUNDARIES[0])
    return caller, order_of(one, instant=draw(st.integers(0, 9)) == 0)


def order_of(one: Attempt, *, instant: bool = False) -> TransferOrder:
    """Make the order of an attempt."""
    return TransferOrder.model_validate(
        {
            "source_type": one.source_type,
            "source_id": one.source_id,
            "destination_type": one.destination_type,
            "destination_id": one.destination_id,
            "amount_cents": one.amount_cents,
            "instant": instant,
        }
    )

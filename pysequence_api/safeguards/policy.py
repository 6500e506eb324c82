"""The policy: what each caller may see and move, as the owner writes it in one TOML document.

`parse_policy` reads the document and reports everything that is wrong at once. `safeguards.judge` applies it.
"""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Protocol, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from pysequence_api.errors import SettingsError
from pysequence_api.models import AccountType
from pysequence_api.money import format_cents
from pysequence_api.records.attempts import OWNER
from pysequence_api.text import ID_LIMIT_CHARACTERS, quoted

VERSION = 1
"""The version of the language."""
ANY = "*"
"""Stands for every account, in `reads` and in `to`."""
MAX_POLICY_CHARACTERS = 100_000
MAX_PAIRS = 1_000
"""How many pairs of accounts the rules of one caller may name: each is part of a query."""
MAX_NAME_CHARACTERS = 32
MAX_WORD_CHARACTERS = 64
MAX_ID_CHARACTERS = 200
MAX_LIMIT_CENTS = 10**15
MAX_COUNT = 1_000_000
MAX_MINUTES = 7 * 24 * 60
MAX_COMPARED = 200
"""Among more words than that, no similar one is looked for."""
MAX_LISTED = 12
"""More words than that are not listed in a message."""

_NAME = re.compile(r"[a-z0-9_-]+")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_POSITION = re.compile(r"(?P<text>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_Path = tuple[str | int, ...]
Pair = tuple[str, str]


class Limits(Protocol):
    """The two global limits, in cents. No policy raises them."""

    @property
    def per_transfer(self) -> int:
        """The most that one transfer may move."""

    @property
    def per_day(self) -> int:
        """The most that all callers together may move on a UTC day."""


class Scope(StrEnum):
    """What a caller may do at all."""

    READ_ACCOUNTS = "read:accounts"
    READ_ACTIVITY = "read:activity"
    READ_METRICS = "read:metrics"
    MOVE = "move"
    FREEZE = "freeze"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a policy.

    Attributes:
        path: where, such as ``callers.openclaw.rules[1].max_cents`` or ``line 3, column 7``.
        text: what, and what to do about it.
    """

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path} {self.text}"


class PolicyError(SettingsError):
    """A policy cannot be used.

    Attributes:
        problems: everything that is wrong with it.
    """

    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, *problems: Problem) -> Self:
        """Make the error of some problems, with a line for each."""
        error = cls("\n  ".join(["The policy cannot be used:", *map(str, problems)]))
        error.problems = problems
        return error


@dataclass(frozen=True, slots=True)
class Pairs:
    """A set of pairs of accounts, by their ids, from source to destination.

    Attributes:
        named: the pairs; or, if there are ``sources``, the pairs that are left out.
        sources: from each of these to any destination.
    """

    named: frozenset[Pair]
    sources: frozenset[str] = frozenset()

    def covers(self, source_id: str | None, destination_id: str | None) -> bool:
        """Say whether the set has a pair."""
        is_named = (source_id, destination_id) in self.named
        return source_id in self.sources and not is_named if self.sources else is_named


def account_id(account: str) -> str:
    """Return the id of an account that is written as ``TYPE:id``."""
    return account.partition(":")[2]


def account_of(account_type: AccountType, identifier: str) -> str:
    """Write an account as ``TYPE:id``."""
    return f"{account_type.value}:{identifier}"


def _invalid(text: str) -> PydanticCustomError:
    return PydanticCustomError("policy", "{text}", {"text": text})


def _did_you_mean(word: str, known: Collection[str]) -> str:
    similar = get_close_matches(word, sorted(known), 1) if len(known) <= MAX_COMPARED else []
    if similar:
        return f" Did you mean {similar[0]!r}?"
    return f" Known are {', '.join(sorted(known))}." if 0 < len(known) <= MAX_LISTED else ""


def _read_account(value: object) -> str:
    if not isinstance(value, str):
        raise _invalid('must be an account in quotes, such as "POD:…".')
    kind, colon, identifier = value.partition(":")
    if not colon or kind not in set(AccountType):
        kinds = ", ".join(AccountType)
        meant = kind.upper()
        hint = f" Did you mean {meant}:…?" if colon and meant in set(AccountType) else ""
        raise _invalid(f"must be TYPE:id, where TYPE is one of {kinds}, not {quoted(value)}.{hint}")
    if not identifier.strip() or identifier != identifier.strip() or not identifier.isprintable():
        raise _invalid(f"must be TYPE:id, with an id without spaces around it, not {quoted(value)}.")
    if len(identifier) > MAX_ID_CHARACTERS:
        raise _invalid(f"must have an id of at most {MAX_ID_CHARACTERS} characters.")
    return value


def _resolve(value: object, info: ValidationInfo) -> str:
    accounts: dict[str, str] = info.context or {}
    if not isinstance(value, str):
        raise _invalid('must be a word from [accounts], in quotes, such as "checking".')
    if value == ANY:
        raise _invalid('must name an account: "*" stands for all only in `to` and in `reads`.')
    if value not in accounts:
        raise _invalid(f"is {quoted(value)}, which is not in [accounts].{_did_you_mean(value, accounts)}")
    return accounts[value]


def _resolve_or_any(value: object, info: ValidationInfo) -> str:
    return ANY if value == ANY else _resolve(value, info)


def _read_scope(value: object) -> Scope:
    if not isinstance(value, str):
        raise _invalid('must be a scope in quotes, such as "move".')
    if value not in set(Scope):
        scopes = [scope.value for scope in Scope]
        raise _invalid(f"is {quoted(value)}, which is not a scope.{_did_you_mean(value, scopes)}")
    return Scope(value)


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise _invalid("must name nothing twice.")
    if ANY in values and len(values) > 1:
        raise _invalid('must be ["*"] alone, or name accounts.')
    return values


def _at_least_one(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise _invalid("must name at least one account.")
    return values


def _check_name(value: str) -> str:
    if _NAME.fullmatch(value) is None or len(value) > MAX_NAME_CHARACTERS:
        raise _invalid(
            f"must have a name of lower case letters, digits, - and _ (at most {MAX_NAME_CHARACTERS} characters)."
        )
    return value


def _check_caller(value: str) -> str:
    if value == OWNER:
        raise _invalid("must not be there: the owner's terminal is held by the global limits only. Remove the table.")
    return _check_name(value)


def _check_word(value: str) -> str:
    if _WORD.fullmatch(value) is None or len(value) > MAX_WORD_CHARACTERS:
        raise _invalid(f"must be a word of letters, digits, - and _ (at most {MAX_WORD_CHARACTERS} characters).")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise _invalid("must be a time that UTC can say, too.") from None


def _check_version(value: int) -> int:
    if value != VERSION:
        raise _invalid(f"is {value}, which this program does not know. Write version = {VERSION}, or update it.")
    return value


_Cents = Annotated[int, Field(ge=0, le=MAX_LIMIT_CENTS)]
_Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
_Name = Annotated[str, AfterValidator(_check_name)]
_Known = Annotated[str, BeforeValidator(_resolve)]
_KnownOrAny = Annotated[str, BeforeValidator(_resolve_or_any)]
_AList = Field(strict=False)  # TOML has lists, and no tuples
_Accounts = Annotated[tuple[_Known, ...], _AList, AfterValidator(_each_once)]
_AccountsOrAny = Annotated[tuple[_KnownOrAny, ...], _AList, AfterValidator(_each_once)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class Windows(_Table):
    """Limits on what may move within a rolling hour, a UTC day and a UTC month. ``None`` is no limit."""

    hour_cents: _Cents | None = None
    day_cents: _Cents | None = None
    month_cents: _Cents | None = None
    hour_count: _Count | None = None
    day_count: _Count | None = None


class Rule(Windows):
    """What a caller may move between some accounts.

    Attributes:
        sources: from where, each as ``TYPE:id``.
        destinations: to where, each as ``TYPE:id``; or ``*`` for whatever no other rule of the caller names.
        max_cents: the most that one transfer may move.
        approve_above_cents: a larger transfer asks the owner first; ``None`` if none does.
        approval_minutes: how long the owner has for the answer.
        instant: whether instant transfers are allowed.
    """

    name: _Name
    sources: Annotated[_Accounts, AfterValidator(_at_least_one)] = Field(alias="from")
    destinations: Annotated[_AccountsOrAny, AfterValidator(_at_least_one)] = Field(alias="to")
    max_cents: _Cents
    approve_above_cents: _Cents | None = None
    approval_minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)] = 240
    instant: bool = False

    @property
    def is_for_any(self) -> bool:
        """Whether it covers every destination that no other rule names."""
        return self.destinations == (ANY,)

    def asks(self, amount_cents: int) -> bool:
        """Say whether a transfer of this amount needs the owner's approval."""
        return self.approve_above_cents is not None and amount_cents > self.approve_above_cents


class Caller(Windows):
    """What one caller may do. What is absent grants nothing.

    Attributes:
        reads: the accounts that it may see, each as ``TYPE:id``; or ``*`` for all.
        expires: from then on its key is worth nothing.
    """

    scopes: Annotated[
        tuple[Annotated[Scope, BeforeValidator(_read_scope)], ...], _AList, AfterValidator(_each_once)
    ] = ()
    reads: _AccountsOrAny = ()
    rules: Annotated[tuple[Rule, ...], _AList] = ()
    expires: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None

    @cached_property
    def rule_by_ids(self) -> dict[Pair, Rule]:
        """The rule of each pair of ids that a rule names; the id of ``*`` is empty."""
        return {
            (account_id(source), account_id(to)): rule
            for rule in self.rules
            for source in rule.sources
            for to in rule.destinations
        }

    def rule_for(self, source: str, destination: str) -> Rule | None:
        """Find the rule that covers a transfer between two accounts, each as ``TYPE:id``."""
        source_id, destination_id = account_id(source), account_id(destination)
        rule = self.rule_by_ids.get((source_id, destination_id)) or self.rule_by_ids.get((source_id, account_id(ANY)))
        if rule is None or source not in rule.sources:
            return None
        return rule if rule.is_for_any or destination in rule.destinations else None

    @cached_property
    def pairs_by_rule(self) -> dict[str, Pairs]:
        """The pairs of ids that each rule covers, by the rule's name."""
        named = {
            rule.name: frozenset((account_id(a), account_id(b)) for a in rule.sources for b in rule.destinations)
            for rule in self.rules
            if not rule.is_for_any
        }
        all_named = frozenset[Pair]().union(*named.values())
        rest = {
            rule.name: Pairs(all_named, frozenset(map(account_id, rule.sources)))
            for rule in self.rules
            if rule.is_for_any
        }
        return {name: Pairs(pairs) for name, pairs in named.items()} | rest

    def is_expired(self, now: datetime) -> bool:
        """Say whether the caller's time is over."""
        return self.expires is not None and now >= self.expires

    def may_read(self, account_type: AccountType, identifier: str) -> bool:
        """Say whether the caller may see an account."""
        return self.reads == (ANY,) or account_of(account_type, identifier) in self.reads


class Never(_Table):
    """Accounts that no caller may move money from or to, whatever the rules say. Each is ``TYPE:id``."""

    sources: _Accounts = Field((), alias="from")
    destinations: _Accounts = Field((), alias="to")


class Breaker(_Table):
    """What freezes a caller that has rules. 0 turns a number off.

    Attributes:
        never_hits: requests that `never` refused.
        unknown: its transfers of unknown outcome at one time.
        refusals: requests that the policy refused, within the minutes.
        equal_orders: equal orders under different idempotency keys, within the minutes.
        all_unknown: the transfers of unknown outcome of all callers, which freeze all callers.
        minutes: within which refusals and equal orders are counted.
    """

    never_hits: _Count = 1
    unknown: _Count = 2
    refusals: _Count = 5
    equal_orders: _Count = 3
    all_unknown: _Count = 3
    minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)] = 10


class Policy(_Table):
    """A whole policy, with each account as ``TYPE:id``.

    Attributes:
        accounts: the owner's words for accounts. They decide nothing.
        callers: what each caller may do, by its name.
    """

    version: Annotated[int, AfterValidator(_check_version)]
    accounts: dict[Annotated[str, AfterValidator(_check_word)], Annotated[str, BeforeValidator(_read_account)]] = {}
    never: Never = Never()
    breaker: Breaker = Breaker()
    callers: dict[Annotated[str, AfterValidator(_check_caller)], Caller] = {}

    def caller(self, name: str) -> Caller:
        """Return what a caller may do: nothing if the policy does not name it."""
        return self.callers.get(name, _NOTHING)

    def word(self, account: str) -> str:
        """Return the owner's word for an account, or else the account, as ``TYPE:id``."""
        return self.word_by_account.get(account, account)

    @cached_property
    def word_by_account(self) -> dict[str, str]:
        """The owner's words, by account."""
        return {account: word for word, account in self.accounts.items()}

    @cached_property
    def never_ids(self) -> tuple[frozenset[str], frozenset[str]]:
        """The ids that nothing may come from, and those that nothing may go to."""
        return frozenset(map(account_id, self.never.sources)), frozenset(map(account_id, self.never.destinations))


_NOTHING = Caller()


def parse_policy(text: str, limits: Limits) -> Policy:
    """Read a policy.

    Args:
        text: the TOML document.
        limits: the global limits, which no rule may exceed.

    Raises:
        PolicyError: with everything that is wrong with it.
    """
    document = _read_toml(text)
    accounts = _words(document)
    problems = [*_contradictions(document, accounts, limits)]
    try:
        policy = Policy.model_validate(document, context=accounts)
    except ValidationError as error:
        problems = [_described(detail) for detail in error.errors(include_url=False)] + problems
    if problems:
        raise PolicyError.of(*(Problem(_written(path), text) for path, text in _in_order(problems, document)))
    return policy


def _read_toml(text: str) -> dict[str, Any]:
    place = "the document"
    if len(text) > MAX_POLICY_CHARACTERS:
        raise PolicyError.of(Problem(place, f"is longer than {MAX_POLICY_CHARACTERS:,} characters. Shorten it."))
    try:
        return tomllib.loads(text)
    except RecursionError:
        wrong = "is nested too deeply."
    except ValueError as error:
        match = _POSITION.fullmatch(str(error))
        wrong = f"is not TOML: {(match['text'] if match else str(error))[:MAX_ID_CHARACTERS]}."
        if match is not None:
            lines = text.splitlines() or [""]
            place = f"line {match['line'] or len(lines)}, column {match['column'] or len(lines[-1]) + 1}"
    raise PolicyError.of(Problem(place, wrong))


def _words(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the accounts by word. Of one that cannot be read, the word alone is known; it is reported once."""
    accounts = document.get("accounts")
    found = accounts.items() if isinstance(accounts, dict) else ()
    return {word: value if isinstance(value, str) else repr(value) for word, value in found}


# What pydantic found, in words.

_UNITS = {"cents": " of cents, such as 10000 for $100.00", "count": "", "minutes": " of minutes"}
_HINTS = {
    "version": f"Write version = {VERSION} at the top.",
    "max_cents": "Write the most that one transfer may move, in cents.",
    "name": 'Give the rule a name, such as name = "rent".',
    "from": "List the accounts that money may come from.",
    "to": "List the accounts that money may go to.",
}
_LIST = 'must be a list, such as ["checking"].'
_TABLE = "must be a table."
_TIME = "must be a date and time with its zone and without quotes, such as 2027-01-01T00:00:00Z."
_TEXTS = {
    "string_type": "must be a text in quotes.",
    "bool_type": "must be true or false, without quotes.",
    "tuple_type": _LIST,
    "model_type": _TABLE,
    "dict_type": _TABLE,
    "datetime_type": _TIME,
    "timezone_aware": _TIME,
}


def _described(error: ErrorDetails) -> tuple[_Path, str]:
    path = tuple(part for part in error["loc"] if part != "[key]")
    field = str(path[-1]) if path else ""
    match error["type"]:
        case "missing":
            return path, f"is missing. {_HINTS[field]}"
        case "extra_forbidden":
            return path, f"is not known here.{_did_you_mean(field, _fields_at(path[:-1]))}"
        case "int_type":
            unit = _UNITS.get(field.rpartition("_")[2], "")
            return path, f"must be a whole number{unit}, without quotes and without a point."
        case "greater_than_equal":
            return path, f"must be at least {error['ctx']['ge']}."
        case "less_than_equal":
            return path, f"must be at most {error['ctx']['le']}."
        case kind:
            return path, _TEXTS.get(kind, error["msg"])


def _fields_at(path: _Path) -> list[str]:
    """Return the fields that a table may have."""
    models: dict[_Path, type[_Table]] = {(): Policy, ("never",): Never, ("breaker",): Breaker}
    model = models.get(path) or (Rule if isinstance(path[-1], int) else Caller)
    return [field.alias or name for name, field in model.model_fields.items()]


def _written(path: _Path) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _WORD.fullmatch(part) and len(part) <= ID_LIMIT_CHARACTERS else quoted(part)
            text += f".{key}" if text else key
    return text


def _in_order(problems: list[tuple[_Path, str]], document: Mapping[str, Any]) -> list[tuple[_Path, str]]:
    """Put problems in the order of the document; what is missing from it comes at the end of its table."""

    def place(problem: tuple[_Path, str]) -> list[int]:
        places: list[int] = []
        value: Any = document
        for part in problem[0]:
            if isinstance(value, dict):
                places.append([*value].index(part) if part in value else len(value))
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int):
                places.append(part)
                value = value[part]
        return places

    return sorted(problems, key=place)


# What contradicts itself. This reads the document as it was written, so that one error does not hide another.

_WINDOW_NAMES = tuple(Windows.model_fields)


def _contradictions(
    document: Mapping[str, Any], accounts: Mapping[str, str], limits: Limits
) -> Iterator[tuple[_Path, str]]:
    yield from _same_accounts(accounts)
    callers = document.get("callers")
    for name, caller in callers.items() if isinstance(callers, dict) else ():
        if not isinstance(caller, dict):
            continue
        path = ("callers", name)
        yield from _missing_half(path, caller)
        rules = [(index, rule) for index, rule in enumerate(_list(caller, "rules")) if isinstance(rule, dict)]
        for index, rule in rules:
            yield from _too_high((*path, "rules", index), rule, caller, limits)
            yield from _unasked((*path, "rules", index), rule)
        yield from _same_names((*path, "rules"), rules)
        yield from _same_pairs((*path, "rules"), rules, accounts)


def _same_accounts(accounts: Mapping[str, str]) -> Iterator[tuple[_Path, str]]:
    words: dict[str, str] = {}
    for word, account in accounts.items():
        identifier = account_id(account)
        if identifier in words:
            yield ("accounts", word), f"is the same account as {words[identifier]!r}. Give each account one word."
        elif identifier:
            words[identifier] = word


def _missing_half(path: _Path, caller: Mapping[str, Any]) -> Iterator[tuple[_Path, str]]:
    scopes, rules = caller.get("scopes", []), caller.get("rules", [])
    if not isinstance(scopes, list) or not isinstance(rules, list):
        return
    if Scope.MOVE in scopes and not rules:
        yield (*path, "rules"), 'is missing, so the scope "move" allows nothing. Add rules, or remove the scope.'
    if rules and Scope.MOVE not in scopes:
        yield (*path, "scopes"), 'must have "move", or the rules allow nothing. Add it, or remove the rules.'


def _too_high(
    path: _Path, rule: Mapping[str, Any], caller: Mapping[str, Any], limits: Limits
) -> Iterator[tuple[_Path, str]]:
    for field in ("max_cents", *_WINDOW_NAMES):
        value = _number(rule, field)
        windows = ("hour_cents", "day_cents", "month_cents") if field == "max_cents" else (field,)
        bounds = [(bound, f"the caller's {name}") for name in windows if (bound := _number(caller, name)) is not None]
        if field == "max_cents":
            bounds.append((limits.per_transfer, "the global limit per transfer"))
        if field in {"max_cents", "hour_cents", "day_cents"}:
            bounds.append((limits.per_day, "the global limit per day"))
        lowest = min(bounds, default=None)
        if value is not None and lowest is not None and value > lowest[0]:
            bound, whose = lowest
            shown, allowed = (format_cents(value), format_cents(bound)) if "cents" in field else (value, bound)
            yield (*path, field), f"is {shown}, above {whose} of {allowed}. Lower it."


def _unasked(path: _Path, rule: Mapping[str, Any]) -> Iterator[tuple[_Path, str]]:
    if ANY in _list(rule, "to") and _number(rule, "approve_above_cents") != 0:
        yield (*path, "approve_above_cents"), 'must be 0, because the rule has to = ["*"]: the owner approves each one.'


def _same_names(path: _Path, rules: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[_Path, str]]:
    first: dict[str, int] = {}
    for index, rule in rules:
        name = rule.get("name")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield (*path, index, "name"), f"is {quoted(name)}, as that of rules[{first[name]}] is. Rename one of them."


def _same_pairs(
    path: _Path, rules: list[tuple[int, dict[str, Any]]], accounts: Mapping[str, str]
) -> Iterator[tuple[_Path, str]]:
    first: dict[Pair, int] = {}
    for index, rule in rules:
        sources, destinations = _known(rule, "from", accounts), _known(rule, "to", accounts)
        if len(first) + len(sources) * len(destinations) > MAX_PAIRS:
            yield path, f"must name at most {MAX_PAIRS:,} pairs of accounts together."
            return
        pairs = [(source, to) for source in sources for to in destinations if accounts[source] != accounts.get(to)]
        if sources and destinations and not pairs:
            yield (*path, index, "to"), "must name another account than `from` does."
        reported: set[int] = set()
        for source, to in pairs:
            earlier = first.setdefault((accounts[source], accounts.get(to, to)), index)
            if earlier != index and earlier not in reported:
                reported.add(earlier)
                text = f"names {source} to {to}, as rules[{earlier}] does. Name each pair in one rule only."
                yield (*path, index, "to"), text


def _known(rule: Mapping[str, Any], field: str, accounts: Mapping[str, str]) -> list[str]:
    words = [word for word in _list(rule, field) if isinstance(word, str)]
    return [*dict.fromkeys(word for word in words if word in accounts or (word == ANY and field == "to"))]


def _list(table: Mapping[str, Any], field: str) -> list[Any]:
    value = table.get(field)
    return value if isinstance(value, list) else []


def _number(table: Mapping[str, Any], field: str) -> int | None:
    value = table.get(field)
    return value if type(value) is int else None

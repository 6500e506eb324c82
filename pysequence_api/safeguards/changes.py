"""What another policy changes, in lines for people."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic import BaseModel

from pysequence_api.money import format_cents
from pysequence_api.safeguards.policy import VERSION, Breaker, Policy


def compare(old: Policy | None, new: Policy) -> list[str]:
    """List what changes from one policy to another.

    Args:
        old: the policy in force; ``None`` if there is none.
        new: the other policy.

    Returns:
        One line for each value: ``+`` before one that is new, ``-`` before one that goes, ``~`` before one that
        changes. Rules are named, not numbered. Empty if both mean the same.
    """
    old = old or Policy(version=VERSION)
    before, after = dict(_values(old)), dict(_values(new))
    lines = []
    for path in [*before, *(path for path in after if path not in before)]:
        if path not in after:
            lines.append(f"- {path}{_assigned(before[path], path, old)}")
        elif path not in before:
            lines.append(f"+ {path}{_assigned(after[path], path, new)}")
        elif before[path] != after[path]:
            texts = _shown(before[path], path, old), _shown(after[path], path, new)
            if texts[0] == texts[1]:  # the same words, for other accounts
                texts = _joined(before[path]), _joined(after[path])
            lines.append(f"~ {path}: {texts[0]} → {texts[1]}")
    return lines


# Values by path, in the order of the documents. A table itself has none.


def _values(policy: Policy) -> Iterator[tuple[str, object]]:
    for word, account in policy.accounts.items():
        yield f"accounts.{word}", account
    yield from _fields("never", policy.never)
    yield from _fields("breaker", policy.breaker)
    for name, caller in policy.callers.items():
        yield from _fields(f"callers.{name}", caller)
        for rule in caller.rules:
            yield from _fields(f"callers.{name}.rules.{rule.name}", rule)


def _fields(path: str, table: BaseModel) -> Iterator[tuple[str, object]]:
    yield path, None
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        is_default = value == field.default and not isinstance(table, Breaker)
        if name not in {"rules", "name"} and not is_default:
            yield f"{path}.{field.alias or name}", frozenset(value) if isinstance(value, tuple) else value


def _assigned(value: object, path: str, policy: Policy) -> str:
    return "" if value is None else f" = {_shown(value, path, policy)}"


def _shown(value: object, path: str, policy: Policy) -> str:
    if isinstance(value, frozenset):
        return _joined(map(policy.word, value))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_cents(value) if isinstance(value, int) and path.endswith("_cents") else str(value)


def _joined(values: object) -> str:
    return ", ".join(sorted(map(str, values))) if isinstance(values, Iterable) else str(values)

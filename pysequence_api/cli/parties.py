"""Which pod, port or account a person means by a name or an id."""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from pysequence_api.cli.output import UNKNOWN
from pysequence_api.errors import NotFoundError
from pysequence_api.models import Accounts, AccountType, ExternalAccount, Pod, Port
from pysequence_api.money import format_cents

MAX_LISTED = 10
"""How many matches are listed, when several match."""
MAX_PROPOSED = 3
LEAST_LIKENESS = 0.6
"""How alike a name must be to be proposed for a typo, as ``difflib`` measures it."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a transfer.

    Attributes:
        id: its id at Sequence.
        type: its kind.
        name: what people call it; ``None`` if Sequence does not say, or does not list it.
        balance_cents: ``None`` if unknown.
        is_listed: whether the account lists it.
        can_be_source: whether Sequence would take money from it; ``None`` if it does not say.
    """

    id: str
    type: AccountType
    name: str | None = None
    balance_cents: int | None = None
    is_listed: bool = True
    can_be_source: bool | None = None

    @property
    def shown_name(self) -> str:
        """The name if there is one, else the id."""
        return self.name or self.id

    @property
    def shown_balance(self) -> str:
        """The balance for people."""
        return UNKNOWN if self.balance_cents is None else format_cents(self.balance_cents)


def find_side(wanted: str, accounts: Accounts, kind: AccountType | None) -> Side:
    """Find what is meant: by its exact id, else by its name in whatever case, else by a part of only one name.

    Args:
        wanted: a name or an id.
        accounts: where to look.
        kind: look among these only. What is not there is then taken for an id, as it is.

    Raises:
        NotFoundError: none or several match; the message says which.
    """
    sides = [side for side in _all_sides(accounts) if kind in (None, side.type)]
    matches = _matches(wanted, sides)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise NotFoundError(_ambiguous(wanted, matches))
    others = [side.type for side in _all_sides(accounts) if _folded(wanted) in {_folded(side.name or ""), side.id}]
    if kind is not None and wanted.strip() and others:
        raise NotFoundError(f"{wanted!r} is {_a(others[0])}, not {_a(kind)}. `pysequence-api accounts` lists them all.")
    proposal = _proposal(wanted, sides)
    if kind is not None and wanted.strip() and not proposal:
        return Side(wanted, kind, is_listed=False)
    raise NotFoundError(
        f"Nothing is named {wanted!r}, in whole or in part, and no pod, port or account has that id.{proposal}"
        " `pysequence-api accounts` lists them all."
        " For an id that the account does not list, say of what: --source-type or --destination-type."
    )


def find_pod(wanted: str, accounts: Accounts) -> Pod:
    """Find the pod that is meant, by the same rules.

    Raises:
        NotFoundError: none or several match; the message says which.
    """
    sides = [_side(pod, AccountType.POD) for pod in accounts.pods]
    matches = _matches(wanted, sides)
    if len(matches) > 1:
        raise NotFoundError(_ambiguous(wanted, matches))
    if not matches:
        raise NotFoundError(
            f"No pod is named {wanted!r}, in whole or in part, or has that id.{_proposal(wanted, sides)}"
            " `pysequence-api pods` lists them."
        )
    return next(pod for pod in accounts.pods if pod.id == matches[0].id)


def _proposal(wanted: str, sides: Sequence[Side]) -> str:
    """Ask whether the nearest names are meant, if any is near. None is ever taken without asking."""
    names = {_folded(side.name): side.name for side in sides if side.name}
    near = difflib.get_close_matches(_folded(wanted), names, MAX_PROPOSED, LEAST_LIKENESS)
    return f" Did you mean {' or '.join(repr(names[each]) for each in near)}?" if near else ""


def _matches(wanted: str, sides: Sequence[Side]) -> list[Side]:
    if matches := [side for side in sides if side.id == wanted]:
        return matches
    name = _folded(wanted)
    if not name:
        return []
    named = [(_folded(side.name or ""), side) for side in sides]
    return [side for other, side in named if other == name] or [side for other, side in named if name in other]


def _folded(name: str) -> str:
    # A letter with an accent can be written in two ways that look the same.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def _ambiguous(wanted: str, matches: Sequence[Side]) -> str:
    shown = ", ".join(f"{side.name!r} ({side.type.lower()} {side.id})" for side in matches[:MAX_LISTED])
    more = f", and {len(matches) - MAX_LISTED} more" if len(matches) > MAX_LISTED else ""
    return f"{len(matches)} match {wanted!r}: {shown}{more}. Name one in full, or by its id."


def _a(kind: AccountType) -> str:
    return "an account" if kind is AccountType.ACCOUNT else f"a {kind.lower()}"


def _all_sides(accounts: Accounts) -> list[Side]:
    return [
        *(_side(pod, AccountType.POD) for pod in accounts.pods),
        *(_side(port, AccountType.PORT) for port in accounts.ports),
        *(_side(account, AccountType.ACCOUNT, account.can_be_source) for account in accounts.accounts),
    ]


def _side(one: Pod | Port | ExternalAccount, kind: AccountType, can_be_source: bool | None = None) -> Side:
    return Side(one.id, kind, one.name, one.balance_cents, can_be_source=can_be_source)

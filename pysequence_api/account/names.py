"""The one resolver of names: which pod, port or account a caller means.

A full name takes precedence over a part of a name. Case does not matter, nor does how an accented letter is encoded.
"""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from pysequence_api.errors import NotFoundError, UnreadableAnswerError
from pysequence_api.models import Accounts, AccountType, ExternalAccount, Match, Pod, Port
from pysequence_api.text import quoted

MAX_LISTED_MATCHES = 10
MAX_SUGGESTIONS = 3
MIN_SIMILARITY = 0.6
"""How similar a name must be to be suggested for a typo, as measured by ``difflib``."""


class _Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str | None: ...


_T = TypeVar("_T", bound=_Named)


@dataclass(frozen=True, slots=True)
class Counterparty:
    """The source or the destination of a transfer.

    Attributes:
        id: its id at Sequence.
        type: whether it is a pod, a port or an account.
        name: ``None`` if unknown.
        balance_cents: ``None`` if unknown.
        organization_id: whose it is; ``None`` if unknown.
        is_listed: whether the account lists it.
        can_be_source: whether Sequence takes money from it; ``None`` if unknown.
        is_guess: whether it was found by a part of its name, and so needs a person to confirm it.
    """

    id: str
    type: AccountType
    name: str | None = None
    balance_cents: int | None = None
    organization_id: str | None = None
    is_listed: bool = True
    can_be_source: bool | None = None
    is_guess: bool = False

    @property
    def shown_name(self) -> str:
        """The name if there is one, else the id."""
        return self.name or self.id


def find_pod_by_name(name: str, pods: Sequence[Pod], *, complete: bool = True) -> Pod:
    """Find the pod with a name, else the only pod with a name that contains it.

    Args:
        name: a name, or a part of one.
        pods: where to look.
        complete: whether these are all pods.

    Raises:
        NotFoundError: no pod matches, or several do.
        UnreadableAnswerError: none matches, and these are not all pods.
    """
    return _only(name, _named(name, pods), pods, complete=complete)


def find_pod(wanted: str, pods: Sequence[Pod], *, complete: bool = True) -> Pod:
    """Find a pod by its exact id, else by its name; see `find_pod_by_name`."""
    return _only(wanted, _matches(wanted, pods), pods, complete=complete)


def find_counterparty(wanted: str, accounts: Accounts, kind: AccountType | None) -> Counterparty:
    """Find a pod, port or account by its exact id, else by its name.

    Args:
        wanted: an id or a name.
        accounts: where to look.
        kind: look only among these. What is not listed there is then used as an id.

    Raises:
        NotFoundError: nothing matches, or several do.
        UnreadableAnswerError: nothing matches, and the account is incomplete.
    """
    everything = _counterparties(accounts)
    candidates = [each for each in everything if kind in (None, each.type)]
    matches = _matches(wanted, candidates)
    if len(matches) == 1:
        [match] = matches
        return replace(match, is_guess=wanted != match.id and _folded(wanted) != _folded(match.name or ""))
    if matches:
        raise NotFoundError(_ambiguous(wanted, [(match, match.type.lower()) for match in matches]))
    suggestion = _suggestion(wanted, candidates)
    if kind is not None and wanted.strip():
        others = [each.type for each in everything if _folded(wanted) in {_folded(each.name or ""), each.id}]
        if others:
            raise NotFoundError(f"{quoted(wanted)} is {_with_article(others[0])}, not {_with_article(kind)}.")
        if not suggestion:
            return Counterparty(wanted, kind, is_listed=False)
    if not accounts.complete:
        raise _perhaps_left_out(wanted)
    raise NotFoundError(
        f"No pod, port or account is named {quoted(wanted)}, in whole or in part, or has that id.{suggestion}"
    )


def find_listed(party_id: str, accounts: Accounts, kind: AccountType) -> Counterparty | None:
    """Find a pod, port or account by its exact id; ``None`` if it is not listed."""
    return next((each for each in _counterparties(accounts) if (each.type, each.id) == (kind, party_id)), None)


def _only(wanted: str, matches: Sequence[Pod], pods: Sequence[Pod], *, complete: bool) -> Pod:
    if not matches and not complete:
        raise _perhaps_left_out(wanted)
    if not matches:
        raise NotFoundError(f"No pod is named {quoted(wanted)}, in whole or in part.{_suggestion(wanted, pods)}")
    if len(matches) > 1:
        raise NotFoundError(_ambiguous(wanted, [(match, "pod") for match in matches]))
    return matches[0]


def _perhaps_left_out(wanted: str) -> UnreadableAnswerError:
    return UnreadableAnswerError(
        f"Whether {quoted(wanted)} exists is unknown: Sequence left out a part of the account, or sent something that"
        " cannot be read.",
        advice="Try again later.",
    )


def ranked(wanted: str, parties: Sequence[_T]) -> list[tuple[_T, Match]]:
    """List everything that a text can mean, best first: ids and names, else parts of names, else similar names.

    Args:
        wanted: an id, a name, or a part of a name.
        parties: where to look.
    """
    found = [(party, Match.ID) for party in parties if party.id == wanted] + [
        (party, match) for party, match in _by_name(wanted, parties) if party.id != wanted
    ]
    if not found:
        similar = [*_similar(wanted, parties)]
        found = [(party, Match.SIMILAR) for party in parties if party.name and _folded(party.name) in similar]
        return sorted(found, key=lambda one: similar.index(_folded(one[0].name or "")))
    best_first = [*Match]
    return sorted(found, key=lambda one: (best_first.index(one[1]), len(one[0].name or "")))


def the_only(found: Sequence[tuple[_T, Match]]) -> _T | None:
    """Return what a text means for certain: the only id, else the only one with that full name; see `ranked`."""
    ids = [party for party, match in found if match is Match.ID]
    full = ids or [party for party, match in found if match.is_full]
    return full[0] if len(full) == 1 else None


def _matches(wanted: str, parties: Sequence[_T]) -> list[_T]:
    return [party for party in parties if party.id == wanted] or _named(wanted, parties)


def _named(wanted: str, parties: Sequence[_T]) -> list[_T]:
    found = _by_name(wanted, parties)
    return [party for party, match in found if match.is_full] or [party for party, _ in found]


def _by_name(wanted: str, parties: Sequence[_T]) -> list[tuple[_T, Match]]:
    """List what has this name, or a name with it in it."""
    name = _folded(wanted)
    if not name:
        return []
    names = [(_folded(party.name or ""), party) for party in parties]
    return [(party, _how(wanted, name, party, other)) for other, party in names if name in other]


def _how(wanted: str, folded: str, party: _Named, other: str) -> Match:
    if folded != other:
        return Match.PART
    return Match.EXACT if wanted == party.name else Match.CASE


def _folded(name: str) -> str:
    # An accented letter can be one character or two, and folding the case can separate them again.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def _suggestion(wanted: str, parties: Sequence[_Named]) -> str:
    similar = _similar(wanted, parties).values()
    return f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def _similar(wanted: str, parties: Sequence[_Named]) -> dict[str, str]:
    """Return the names that could be meant, best first, by how they are compared."""
    names = {_folded(party.name): party.name for party in parties if party.name}
    similar = difflib.get_close_matches(_folded(wanted), names, MAX_SUGGESTIONS, MIN_SIMILARITY)
    return {each: names[each] for each in similar}


def _ambiguous(wanted: str, matches: Sequence[tuple[_Named, str]]) -> str:
    shown = ", ".join(f"{match.name!r} ({kind} {match.id})" for match, kind in matches[:MAX_LISTED_MATCHES])
    more = f", and {len(matches) - MAX_LISTED_MATCHES} more" if len(matches) > MAX_LISTED_MATCHES else ""
    return f"{len(matches)} names match {quoted(wanted)}: {shown}{more}. Use the full name or the id."


def _with_article(kind: AccountType) -> str:
    return "an account" if kind is AccountType.ACCOUNT else f"a {kind.lower()}"


def _counterparties(accounts: Accounts) -> list[Counterparty]:
    return [
        *(_counterparty(pod, AccountType.POD) for pod in accounts.pods),
        *(_counterparty(port, AccountType.PORT) for port in accounts.ports),
        *(_counterparty(account, AccountType.ACCOUNT, account.can_be_source) for account in accounts.accounts),
    ]


def _counterparty(
    party: Pod | Port | ExternalAccount, kind: AccountType, can_be_source: bool | None = None
) -> Counterparty:
    return Counterparty(
        party.id, kind, party.name, party.balance_cents, party.organization_id, can_be_source=can_be_source
    )

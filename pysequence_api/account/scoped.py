"""What a caller may read of the account, and nothing else of it.

Routes read through `ScopedReads`. What a caller may not see is for it as if it did not exist: it is not listed, found,
added up or named, and the answer and the upstream calls are the same as for what does not exist.
"""

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from pydantic import BaseModel

from pysequence_api.account.find import find_accounts
from pysequence_api.account.fresh import Fresh, FreshReads
from pysequence_api.account.totals import total_activity
from pysequence_api.errors import NotFoundError, ScopeMissingError, UnreadableAnswerError
from pysequence_api.models import (
    Accounts,
    AccountType,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    ActivityTotals,
    ExternalAccount,
    FoundAccounts,
    Party,
    Pod,
    PodDetail,
    Port,
    Transfer,
    TransferDetail,
)
from pysequence_api.safeguards.policy import ANY, Caller
from pysequence_api.sequence.client import SequenceClient
from pysequence_api.text import quoted

OUTSIDE = {"MERCHANT", "EXTERNAL_ENTITY"}
"""The types of parties that are not in Sequence: no policy names them, and whoever sees the transfer sees them."""

MAX_BALANCES = 5
"""So many of the best candidates of a name have their balances, where each balance is one more request."""

_A = TypeVar("_A")
_T = TypeVar("_T", bound=Transfer)
_Account = TypeVar("_Account", Pod, Port, ExternalAccount)


@dataclass(frozen=True, slots=True)
class View:
    """What a caller may see.

    Attributes:
        reads: the accounts, each as ``TYPE:id``; ``None`` for everything.
    """

    reads: frozenset[str] | None = None

    @classmethod
    def of(cls, grants: Caller) -> "View":
        """Return what a policy lets a caller see."""
        return cls(None if grants.reads == (ANY,) else frozenset(grants.reads))

    def has(self, kind: str | None, identifier: str | None) -> bool:
        """Say whether an account may be seen."""
        return self.reads is None or f"{kind}:{identifier}" in self.reads

    def accounts(self, accounts: Accounts, organization_id: str | None = None) -> Accounts:
        """Keep the accounts that may be seen, of all organizations or of one, and the organizations that have any."""

        def seen(kind: AccountType, found: tuple[_Account, ...]) -> tuple[_Account, ...]:
            return tuple(
                one
                for one in found
                if self.has(kind, one.id) and (organization_id is None or one.organization_id == organization_id)
            )

        pods = seen(AccountType.POD, accounts.pods)
        ports = seen(AccountType.PORT, accounts.ports)
        external = seen(AccountType.ACCOUNT, accounts.accounts)
        everything: list[Pod | Port | ExternalAccount] = [*pods, *ports, *external]
        return Accounts(
            pods=pods,
            ports=ports,
            accounts=external,
            organization_ids=tuple(dict.fromkeys(one.organization_id for one in everything)),
            complete=accounts.complete,
        )

    def everything(self, accounts: Accounts) -> Accounts:
        """Keep the accounts that may be seen."""
        return accounts if self.reads is None else self.accounts(accounts)

    def shows(self, transfer: Transfer) -> bool:
        """Say whether a transfer may be seen: one of its parties may."""
        return any(self.has(party.type, party.id) for party in (transfer.source, transfer.destination))

    def transfer(self, transfer: _T) -> _T:
        """Return a transfer without what it says of a party that may not be seen."""
        parties = {"source": self._party(transfer.source), "destination": self._party(transfer.destination)}
        if parties == {"source": transfer.source, "destination": transfer.destination}:
            return transfer
        # These are free texts, which can name either party.
        return transfer.model_copy(update=parties | {"description": None, "error_reason": None})

    def ordered(self, party: Party) -> Party:
        """Return a party that the caller itself named by its id, without what it may not see of it."""
        return party if self.has(party.type, party.id) else Party(id=party.id, type=party.type)

    def pod(self, pod: PodDetail) -> PodDetail:
        """Return the detail of a pod that may be seen, without what it says of other accounts."""
        if self.reads is None:
            return pod
        transfers = tuple(self.transfer(one) for one in pod.recent_transfers if self.shows(one))
        # The liability is another account, and Sequence does not say which.
        return pod.model_copy(update={"recent_transfers": transfers, "liability": None})

    def _party(self, party: Party) -> Party:
        if party.type in OUTSIDE or self.has(party.type, party.id):
            return party
        return Party(type=party.type)


def ignore_age(age_seconds: float) -> None:
    """Take no notice of the age of an answer."""


@dataclass(frozen=True, slots=True)
class ScopedReads:
    """Reads the account as far as a caller may see it.

    Every method raises what the method of `SequenceClient` with the same name raises.

    Attributes:
        client: reads everything.
        view: what the caller may see.
        fresh: answers that are young enough to be used again.
        records: the state of the records when the request of the caller began; see `FreshReads.read`.
        again: whether they may be used for this caller.
        on_age: called with the age in seconds of each answer that is used again.
    """

    client: SequenceClient
    view: View
    fresh: FreshReads
    records: str | None
    again: bool = True
    on_age: Callable[[float], None] = ignore_age

    async def accounts(self, organization_id: str | None = None, *, balances: bool = True) -> Accounts:
        """List pods, ports and external accounts; see `SequenceClient.accounts`.

        Raises:
            NotFoundError: nothing of that organization may be seen, or it does not exist.
            UnreadableAnswerError: that is unknown, because the list is not complete.
        """
        if self.view.reads is None:
            return (await self._accounts(organization_id, balances=balances)).value
        seen = self.view.accounts((await self._accounts(balances=balances)).value, organization_id)
        if organization_id is not None and not seen.organization_ids:
            if not seen.complete:
                raise UnreadableAnswerError(
                    f"Whether organization {quoted(organization_id)} exists is unknown: Sequence left out a part of the"
                    " account, or sent something that cannot be read.",
                    advice="Try again later.",
                )
            raise NotFoundError(f"The account is not a member of organization {quoted(organization_id)}.")
        return seen

    async def made_of_accounts(self, what: Hashable, make: Callable[[Accounts], _A]) -> _A:
        """Return what is made of all accounts that the caller may see, made once for each answer of Sequence.

        Args:
            what: names what is made.
            make: depends on nothing but the accounts.
        """
        answer = await self._accounts()
        return answer.made((what, self.view), lambda everything: make(self.view.everything(everything)))

    async def with_balance(self, account: _Account) -> _Account:
        """Return an account of the list with its balance; see `SequenceClient.with_balance`."""
        return await self._read(
            ("balance", type(account).__name__, account.id), lambda: self.client.with_balance(account)
        )

    async def find(self, wanted: str, organization_id: str | None = None) -> FoundAccounts:
        """Find what a text can mean, with the balances of the best candidates.

        Args:
            wanted: an id, a name, or a part of a name.
            organization_id: look only in this organization.

        Raises:
            NotFoundError: nothing of that organization may be seen, or it does not exist.
        """
        accounts = await self.accounts(organization_id, balances=False)
        best_ids = {one.id for one in find_accounts(wanted, accounts).candidates[:MAX_BALANCES]}

        async def with_balances(accounts: tuple[_Account, ...]) -> tuple[_Account, ...]:
            return tuple([await self.with_balance(one) if one.id in best_ids else one for one in accounts])

        update = {
            "pods": await with_balances(accounts.pods),
            "ports": await with_balances(accounts.ports),
            "accounts": await with_balances(accounts.accounts),
        }
        return find_accounts(wanted, accounts.model_copy(update=update))

    async def pod_detail(self, organization_id: str, pod_id: str) -> PodDetail:
        """Read one pod; see `SequenceClient.pod_detail`. Makes no upstream call for one that may not be seen."""
        not_found = NotFoundError(f"No pod {quoted(pod_id)} in organization {quoted(organization_id)}.")
        if not self.view.has(AccountType.POD, pod_id):
            raise not_found
        pod = await self._read(
            ("pod", organization_id, pod_id), lambda: self.client.pod_detail(organization_id, pod_id), PodDetail
        )
        if not self.view.has(AccountType.POD, pod.id):
            raise not_found
        return self.view.pod(pod)

    async def activity(
        self, organization_id: str, *, first: int, after: str, only: ActivityFilter, is_named: bool = False
    ) -> ActivityPage:
        """Read one page of transfers; see `SequenceClient.activity`.

        What may not be seen is left out before paging. If few may be, a page is short although there is a next one.

        Args:
            organization_id: the organization.
            first: the number of transfers, 1 to 100.
            after: the end cursor of the previous page; empty for the first page.
            only: which transfers to list.
            is_named: whether the caller named the organization, so that the answer tells whether it exists.
        """
        key = ("activity", self.view, organization_id, first, after, only)
        if self.view.reads is None:
            return await self._read(
                key, lambda: self.client.activity(organization_id, first=first, after=after, only=only), ActivityPage
            )
        if is_named:
            await self.accounts(organization_id, balances=False)
        name = only.name.casefold()

        def keep(transfer: Transfer) -> bool:
            return self.view.shows(transfer) and _is_named(self.view.transfer(transfer), name)

        # Sequence would also look for the name in what may not be seen.
        nameless = only.model_copy(update={"name": ""})
        page = await self._read(
            key, lambda: self.client.activity(organization_id, first=first, after=after, only=nameless, keep=keep)
        )
        return page.model_copy(update={"transfers": tuple(map(self.view.transfer, page.transfers))})

    async def activity_totals(
        self, organization_id: str, date_start: date, date_end: date, *, is_named: bool = False
    ) -> ActivityTotals:
        """Add up what was completed with third parties, from at most `MAX_UPSTREAM_PAGES` of Sequence's pages.

        Args:
            organization_id: the organization.
            date_start: the first day.
            date_end: the last day.
            is_named: whether the caller named the organization, so that the answer tells whether it exists.
        """
        if is_named and self.view.reads is not None:
            await self.accounts(organization_id, balances=False)
        only = ActivityFilter(date_start=date_start, date_end=date_end, hide_internal=True)
        seen: list[Transfer] = []

        def take(transfer: Transfer) -> bool:
            if self.view.shows(transfer):
                seen.append(self.view.transfer(transfer))
            return False  # so that the page never fills, and reading goes on

        async def add_up() -> ActivityTotals:
            end = await self.client.activity(organization_id, first=1, only=only, keep=take)
            return total_activity(seen, end, organization_id, date_start, date_end)

        return await self._read(("totals", self.view, organization_id, only), add_up)

    async def activity_summary(self) -> ActivitySummary:
        """Read this month's numbers; see `SequenceClient.activity_summary`.

        Raises:
            ScopeMissingError: the caller may not see everything, which they are about.
        """
        if self.view.reads is not None:
            raise ScopeMissingError(
                'The summary is about all accounts, so that it needs `reads = ["*"]` in the policy. Only the owner can'
                " grant it. List the activity instead."
            )
        return await self._read("summary", self.client.activity_summary, ActivitySummary)

    async def transfer_detail(self, organization_id: str, transfer_id: str) -> TransferDetail:
        """Read one transfer; see `SequenceClient.transfer_detail`."""

        async def read() -> TransferDetail:
            return await self.client.transfer_detail(organization_id, transfer_id)

        key = ("transfer", organization_id, transfer_id)
        if self.view.reads is None:
            return await self._read(key, read, TransferDetail)
        not_found = NotFoundError(f"No transfer {quoted(transfer_id)} in organization {quoted(organization_id)}.")
        try:
            transfer = await self._read(key, read, TransferDetail)
        except NotFoundError:
            raise not_found from None
        if not self.view.shows(transfer):
            raise not_found
        return self.view.transfer(transfer)

    async def _accounts(self, organization_id: str | None = None, *, balances: bool = True) -> Fresh[Accounts]:
        async def read() -> Accounts:
            return await self.client.accounts(organization_id, balances=balances, records=self.records)

        with_balances = balances or not self.client.capabilities.balances_apart
        return await self._answer(("accounts", organization_id, with_balances), read, Accounts)

    async def _read(self, key: Hashable, read: Callable[[], Awaitable[_A]], shape: type[BaseModel] | None = None) -> _A:
        return (await self._answer(key, read, shape)).value

    async def _answer(
        self, key: Hashable, read: Callable[[], Awaitable[_A]], shape: type[BaseModel] | None
    ) -> Fresh[_A]:
        """Read, or use an answer again. The key names all that the answer depends on.

        What the terminal can read has a shape, so that other processes use it again.
        """
        answer, is_used_again = await self.fresh.read(key, read, self.records, again=self.again, shape=shape)
        if is_used_again:
            self.on_age(self.fresh.age_seconds(answer))
        return answer


def _is_named(transfer: Transfer, folded_name: str) -> bool:
    return any(folded_name in (party.name or "").casefold() for party in (transfer.source, transfer.destination))

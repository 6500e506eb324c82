"""What the gateway needs of Sequence, whichever way it is reached."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from pysequence_api.errors import NotFoundError
from pysequence_api.models import (
    Accounts,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    ExternalAccount,
    Pod,
    PodDetail,
    PodReference,
    Port,
    TotalBalance,
    TransferDetail,
    TransferOrder,
    TransferReceipt,
)
from pysequence_api.sequence.telemetry import TokenLife, Vitals
from pysequence_api.text import quoted

_Named = TypeVar("_Named", Pod, Pod | Port | ExternalAccount)


class PreparedTransfer(ABC):
    """A transfer that has its turn and its access token. Only the transfer service may send it."""

    @abstractmethod
    async def send(self) -> TransferReceipt:
        """Send it once, on a fresh connection.

        Returns:
            What Sequence said when it took the transfer.

        Raises:
            NotAuthorizedError: Sequence did not accept the token. Nothing moved; `renew` gets another one.
            SequenceError: with ``nothing_moved`` where that is certain; after any other the money may have moved.
        """

    @abstractmethod
    async def renew(self) -> None:
        """Get another access token and another turn, so that it can be sent again after a `NotAuthorizedError`.

        Raises:
            SequenceError: that failed, or took so long that the transfer may not be sent anymore. Nothing moved.
        """


class SequenceClient(ABC):
    """One account at Sequence. Every method raises a `SequenceError` if the service, or the way to it, fails."""

    @property
    @abstractmethod
    def clock_offset_seconds(self) -> float | None:
        """How far Sequence's clock is ahead of ours by its newest ``Date``; ``None`` while it has said nothing."""

    @property
    @abstractmethod
    def vitals(self) -> Vitals:
        """Numbers since the client was opened."""

    @abstractmethod
    async def token_life(self) -> TokenLife | None:
        """Say how old the access token in use is, and how long it is good; ``None`` without one. Asks nobody."""

    @abstractmethod
    async def accounts(self, organization_id: str | None = None) -> Accounts:
        """List pods, ports and external accounts with their balances.

        Args:
            organization_id: only those of this organization.

        Raises:
            NotFoundError: the account is not a member of that organization.
        """

    @abstractmethod
    async def pod_detail(self, organization_id: str, pod_id: str) -> PodDetail:
        """Read one pod.

        Raises:
            NotFoundError: there is no such pod or organization.
        """

    @abstractmethod
    async def activity_summary(self, *, urgent: bool = False) -> ActivitySummary:
        """Read this month's numbers.

        Args:
            urgent: goes ahead of waiting reads, because a transfer waits for it.
        """

    @abstractmethod
    async def activity(
        self,
        organization_id: str,
        *,
        first: int = 10,
        after: str = "",
        only: ActivityFilter | None = None,
        urgent: bool = False,
    ) -> ActivityPage:
        """Read a page of transfers, newest first.

        Args:
            organization_id: whose.
            first: how many, 1 to 100.
            after: the cursor of the page before; empty for the first page.
            only: which transfers.
            urgent: goes ahead of waiting reads, because a transfer waits for it.

        Raises:
            NotFoundError: there is no such organization.
        """

    @abstractmethod
    async def transfer_detail(self, organization_id: str, transfer_id: str) -> TransferDetail:
        """Read one transfer.

        Raises:
            NotFoundError: there is no such transfer or organization.
        """

    @abstractmethod
    async def prepare_transfer(self, order: TransferOrder) -> PreparedTransfer:
        """Wait for a turn, ahead of all reads, and for a valid access token. This sends nothing.

        Args:
            order: what to move.

        Raises:
            SequenceError: there is no turn or no token. Nothing moved.
        """

    @abstractmethod
    async def stay_signed_in(self) -> None:
        """Renew what gives access shortly before it runs out, until cancelled. Failures are logged, and tried again."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""

    async def pods(self) -> tuple[Pod, ...]:
        """List all pods of all organizations."""
        return (await self.accounts()).pods

    async def total_balance(self) -> TotalBalance:
        """Add up what all pods hold, and say what the sum leaves out."""
        return total_of(await self.accounts())

    async def pod_by_name(self, name: str) -> Pod:
        """Find a pod by its name, in whatever case, else by a part of the name that only one pod has.

        Raises:
            NotFoundError: none or several match; the message says which.
        """
        return find_by_name(name, await self.pods())


def total_of(accounts: Accounts) -> TotalBalance:
    """Add up what all pods of a list hold, and say what the sum leaves out."""
    known = [pod.balance_cents for pod in accounts.pods if pod.balance_cents is not None]
    left_out = tuple(PodReference(id=pod.id, name=pod.name) for pod in accounts.pods if pod.balance_cents is None)
    return TotalBalance(
        total_balance_cents=sum(known) if known or not left_out else None,
        pod_count=len(accounts.pods),
        left_out=left_out,
        complete=accounts.complete and not left_out,
    )


def find_by_name(name: str, pods: tuple[Pod, ...]) -> Pod:
    """Find the one pod that a name means; see `SequenceClient.pod_by_name`."""
    matches = named(name, pods)
    if not matches:
        raise NotFoundError(f"No pod is named {quoted(name)}, in whole or in part.")
    if len(matches) > 1:
        names = ", ".join(f"{pod.name!r} ({pod.id})" for pod in matches)
        raise NotFoundError(f"Several pods match {quoted(name)}: {names}.")
    return matches[0]


def named(name: str, parties: Sequence[_Named]) -> list[_Named]:
    """Find all that have a name, in whatever case, else all that have it as a part of theirs."""
    wanted = name.casefold()
    matches = [party for party in parties if (party.name or "").casefold() == wanted]
    if wanted and not matches:
        matches = [party for party in parties if wanted in (party.name or "").casefold()]
    return matches

"""What the gateway needs of Sequence, whichever way it is reached."""

from abc import ABC, abstractmethod

from pysequence_api.models import (
    Accounts,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    Pod,
    PodDetail,
    TransferDetail,
    TransferOrder,
    TransferReceipt,
)
from pysequence_api.sequence.telemetry import TokenLife, Vitals


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

"""The interface to one account at Sequence. Each upstream API implements it."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pysequence_api.models import (
    Accounts,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    ExternalAccount,
    Pod,
    PodDetail,
    Port,
    Transfer,
    TransferDetail,
    TransferOrder,
    TransferReceipt,
)
from pysequence_api.sequence.telemetry import RequestStatistics, TokenLife

MAX_UPSTREAM_PAGES = 5
"""How many pages of Sequence's are read for one of ours, if most of their transfers are filtered out here."""
NOT_A_CURSOR = "`after` is not a cursor of this list. Pass the `end_cursor` of the page before."
HasBalance = TypeVar("HasBalance", Pod, Port, ExternalAccount)
Keep = Callable[[Transfer], bool]


class Upstream(StrEnum):
    """The APIs of Sequence."""

    GRAPHQL = "graphql"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an upstream can do.

    Attributes:
        upstream: which one it is; an attempt is decided only by the one that sent it.
        resend: a transfer whose answer was lost can be sent again, and moves money once.
        kyc: a transfer names a KYC id.
        sign_in: there is an account to sign in to, and an access token, which expires.
        balances_apart: each balance is a request of its own, so that a list can be read without them.
    """

    upstream: Upstream
    resend: bool = False
    kyc: bool = False
    sign_in: bool = False
    balances_apart: bool = False


class PreparedTransfer(ABC):
    """A transfer with a turn and an access token, ready to be sent. Only the transfer service may send it."""

    @abstractmethod
    async def send(self, check: Callable[[], Awaitable[None]] | None = None) -> TransferReceipt:
        """Send the transfer once, on a new connection.

        Args:
            check: awaited once the connection is open, right before the first byte. If it raises, nothing is sent.

        Raises:
            NotAuthorizedError: Sequence did not accept the token. Nothing moved; call `renew` to try once more.
            SequenceError: nothing moved if ``nothing_moved`` is set; otherwise the money may have moved.
        """

    @abstractmethod
    async def renew(self) -> None:
        """Get a new access token and a new turn, to send the transfer again after a `NotAuthorizedError`.

        Raises:
            SequenceError: this failed, or took so long that the transfer must not be sent anymore. Nothing moved.
        """


class SequenceClient(ABC):
    """One account at Sequence. Every method raises a `SequenceError` if Sequence or the connection to it fails."""

    capabilities: Capabilities
    """What this upstream can do."""

    @property
    @abstractmethod
    def clock_offset_seconds(self) -> float | None:
        """How far Sequence's clock is ahead of ours, by its latest answer; ``None`` before the first one."""

    @property
    @abstractmethod
    def statistics(self) -> RequestStatistics:
        """Counts and durations since the client was opened."""

    @abstractmethod
    async def token_life(self) -> TokenLife | None:
        """Return the age and the remaining life of the access token, ``None`` without one. Makes no upstream call."""

    @abstractmethod
    async def try_token(self, access_token: str) -> None:
        """Send the smallest read with this access token. No other token is used, and none is renewed.

        Raises:
            NotAuthorizedError: Sequence does not accept it.
        """

    @abstractmethod
    async def accounts(
        self,
        organization_id: str | None = None,
        *,
        balances: bool = True,
        urgent: bool = False,
        records: str | None = None,
    ) -> Accounts:
        """List pods, ports and external accounts.

        Args:
            organization_id: list only this organization.
            balances: whether they are needed; without them, this can be fewer requests, and they can be unknown.
            urgent: take precedence over waiting reads, because a transfer waits for this one.
            records: the state of the records, if the answer has to be newer than it. A read that another caller began
                in another state is not shared, because a transfer came between.

        Raises:
            NotFoundError: the account is not a member of that organization.
        """

    @abstractmethod
    async def pod_detail(self, organization_id: str, pod_id: str) -> PodDetail:
        """Read one pod.

        Raises:
            NotFoundError: the pod or the organization does not exist.
        """

    @abstractmethod
    async def activity_summary(self, *, urgent: bool = False) -> ActivitySummary:
        """Read this month's numbers.

        Args:
            urgent: go ahead of other waiting reads, because a transfer waits for this one.
        """

    @abstractmethod
    async def activity(
        self,
        organization_id: str,
        *,
        first: int = 10,
        after: str = "",
        only: ActivityFilter | None = None,
        keep: Keep | None = None,
        urgent: bool = False,
    ) -> ActivityPage:
        """Read one page of transfers, newest first.

        With ``keep``, at most `MAX_UPSTREAM_PAGES` of Sequence's pages are read to fill it. If that is not enough, it
        is short and has a next page, which goes on where this one ended.

        Args:
            organization_id: the organization.
            first: the number of transfers, 1 to 100.
            after: the end cursor of the previous page; empty for the first page.
            only: which transfers to list.
            keep: says of a transfer whether it is listed; ``None`` if all are.
            urgent: go ahead of other waiting reads, because a transfer waits for this one.

        Raises:
            InvalidRequestError: ``after`` is not a cursor. Makes no upstream call for one that was not given out.
            NotFoundError: the organization does not exist.
        """

    @abstractmethod
    async def transfer_detail(self, organization_id: str, transfer_id: str) -> TransferDetail:
        """Read one transfer.

        Raises:
            NotFoundError: the transfer or the organization does not exist.
        """

    @abstractmethod
    def check_order(self, order: TransferOrder) -> None:
        """Check that this upstream can carry out an order. Makes no upstream call.

        Raises:
            InvalidRequestError: it cannot; the text says what to change.
        """

    @abstractmethod
    async def read_clock(self) -> None:
        """Send the smallest read, because a transfer waits for Sequence's time; `clock_offset_seconds` has it then."""

    @abstractmethod
    async def prepare_transfer(self, order: TransferOrder, *, attempt_id: str, caller: str) -> PreparedTransfer:
        """Wait for a turn, ahead of all reads, and for a valid access token. This sends nothing.

        Args:
            order: what to move.
            attempt_id: names the transfer at Sequence, where it can be sent again: the same id moves money once.
            caller: who asked for it, for Sequence's own log.

        Raises:
            SequenceError: there was no turn or no token. Nothing moved.
        """

    @abstractmethod
    async def stay_signed_in(self) -> None:
        """Renew the access token shortly before it expires, until cancelled. Failures are logged and retried."""

    @abstractmethod
    def stop(self) -> None:
        """Release the reads that wait for their turn, because the program stops."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""

    async def with_balance(self, account: HasBalance) -> HasBalance:
        """Return a pod, port or account of a list that was read without balances, with its balance.

        Raises:
            NotFoundError: it does not exist anymore.
        """
        return account  # where balances come along

    async def pods(self) -> tuple[Pod, ...]:
        """List all pods of all organizations."""
        return (await self.accounts()).pods

"""`SequenceClient` over the GraphQL API of Sequence's web application (docs/upstream-graphql.md)."""

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx

from pysequence_api.clock import steady_seconds
from pysequence_api.errors import GraphQLError, InvalidRequestError, NotAuthorizedError
from pysequence_api.models import (
    Accounts,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    PageInfo,
    PodDetail,
    Transfer,
    TransferDetail,
    TransferOrder,
    TransferReceipt,
)
from pysequence_api.sequence.client import (
    MAX_UPSTREAM_PAGES,
    Capabilities,
    Keep,
    PreparedTransfer,
    SequenceClient,
    Upstream,
)
from pysequence_api.sequence.graphql.answers import Answer, read_answer
from pysequence_api.sequence.graphql.cursors import checked, unchecked
from pysequence_api.sequence.graphql.documents import DOCUMENTS, Operation
from pysequence_api.sequence.graphql.parsing import (
    read_accounts,
    read_activity,
    read_cursors,
    read_payment,
    read_pod_detail,
    read_summary,
    read_transfer_detail,
)
from pysequence_api.sequence.observations import Observations, OnName, ignore_name
from pysequence_api.sequence.pacing import Pacer, Priority, Turn
from pysequence_api.sequence.sharing import SharedReads
from pysequence_api.sequence.sign_in.tokens import TokenSource
from pysequence_api.sequence.telemetry import RequestStatistics, TokenLife, waiting
from pysequence_api.sequence.transport import HttpEndpoint, ServerClock, new_tls
from pysequence_api.settings import Settings, variable

ORIGIN = "https://app.getsequence.io"
MAX_PAGE_TRANSFERS = 100
HOLDING_STATUSES = {429, 503}
"""With these, ``Retry-After`` holds back every request, not only the one that was answered."""

Variables = dict[str, Any]


class GraphQLSequenceClient(SequenceClient):
    """One account at Sequence, used within one event loop. Create it with `open`.

    Args:
        reads: the endpoint for reads, which reuses connections.
        transfers: the endpoint for transfers, with a new connection each, because an idle one can break while sending.
        tokens: where access tokens come from.
        pacer: where requests get their turn.
    """

    capabilities = Capabilities(Upstream.GRAPHQL, kyc=True, sign_in=True)

    def __init__(
        self, *, reads: HttpEndpoint, transfers: HttpEndpoint, tokens: TokenSource, pacer: Pacer, on_name: OnName
    ) -> None:
        self._observations = Observations(on_name)
        self._reads = reads
        self._transfers = transfers
        self._tokens = tokens
        self._pacer = pacer
        self._statistics = RequestStatistics()
        self._clock = ServerClock()
        self._shared_reads: SharedReads[Answer] = SharedReads()

    @classmethod
    def open(
        cls,
        settings: Settings,
        data_directory: Path,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        on_name: OnName = ignore_name,
        is_owner: bool = False,
    ) -> Self:
        """Return a client. This sends nothing and touches no file.

        Args:
            settings: addresses, pacing, deadlines, and the credentials for signing in.
            data_directory: the directory of the token cache and the pacing files.
            transport: used instead of the network, for example the sandbox in this process. The caller closes it.
            on_name: called with the id and the name of each pod, port and account in an answer.
            is_owner: the requests are the owner's, which go ahead of those of other processes.

        Raises:
            SettingsError: a proxy or certificate variable of the environment, or ``SEQUENCE_TOTP``, cannot be used.
        """
        timeout_seconds = settings.request_timeout_seconds
        token_url = f"{settings.auth_url}/oauth/token"
        over_tls = any(url.startswith("https:") for url in (settings.graphql_url, token_url))
        tls = new_tls(certificates=over_tls and transport is None)

        def endpoint(url: str, *, keep_alive: bool) -> HttpEndpoint:
            return HttpEndpoint(
                url, timeout_seconds=timeout_seconds, keep_alive=keep_alive, tls=tls, transport=transport
            )

        return cls(
            reads=endpoint(settings.graphql_url, keep_alive=True),
            transfers=endpoint(settings.graphql_url, keep_alive=False),
            tokens=TokenSource(settings, data_directory, endpoint=endpoint(token_url, keep_alive=False)),
            pacer=Pacer(
                data_directory,
                interval_seconds=settings.request_interval_seconds,
                jitter_seconds=settings.request_jitter_seconds,
                is_owner=is_owner,
            ),
            on_name=on_name,
        )

    @property
    def clock_offset_seconds(self) -> float | None:
        """How far Sequence's clock is ahead of ours; see `SequenceClient.clock_offset_seconds`."""
        return self._clock.offset_seconds

    @property
    def statistics(self) -> RequestStatistics:
        """Counts and durations since the client was opened."""
        return self._statistics

    async def token_life(self) -> TokenLife | None:
        """Return the age of the access token; see `SequenceClient.token_life`."""
        return await self._tokens.life()

    async def try_token(self, access_token: str) -> None:
        """Send the smallest read with this access token; see `SequenceClient.try_token`."""
        request = _Request(self._reads, Operation.SUMMARY, {}, Priority.READ)
        read_summary(await self._send_once(request, _Permit(await self._turn(request.priority), access_token)))

    async def accounts(
        self,
        organization_id: str | None = None,
        *,
        balances: bool = True,  # noqa: ARG002 - they come along
        urgent: bool = False,
        records: str | None = None,  # noqa: ARG002 - what was sent is not shared
    ) -> Accounts:
        """List pods, ports and external accounts; see `SequenceClient.accounts`."""
        answer = await self._read(Operation.ACCOUNTS, {}, Priority.URGENT if urgent else Priority.READ)
        accounts = read_accounts(answer, organization_id)
        self._warn_of_gaps(answer)
        self._observations.learn(*accounts.pods, *accounts.ports, *accounts.accounts)
        return accounts

    async def pod_detail(self, organization_id: str, pod_id: str) -> PodDetail:
        """Read one pod; see `SequenceClient.pod_detail`."""
        answer = await self._read(Operation.POD, {"organizationId": organization_id, "id": pod_id})
        pod = read_pod_detail(answer, organization_id, pod_id)
        self._warn_of_gaps(answer)
        return pod

    async def activity_summary(self, *, urgent: bool = False) -> ActivitySummary:
        """Read this month's numbers; see `SequenceClient.activity_summary`."""
        priority = Priority.URGENT if urgent else Priority.READ
        answer = await self._read(Operation.SUMMARY, {}, priority)
        summary = read_summary(answer)
        self._warn_of_gaps(answer)
        return summary

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
        """Read one page of transfers; see `SequenceClient.activity`."""
        if not 1 <= first <= MAX_PAGE_TRANSFERS:
            raise InvalidRequestError(f"A page has 1 to {MAX_PAGE_TRANSFERS} transfers.")
        after = unchecked(after, organization_id)
        variables = {"organizationId": organization_id, "transferFilter": _filter(only or ActivityFilter())}
        priority = Priority.URGENT if urgent else Priority.READ
        if keep is None:
            page, _ = await self._read_page(variables | {"after": after, "first": first}, priority)
        else:
            page = await self._read_kept(variables | {"first": MAX_PAGE_TRANSFERS}, first, after, keep, priority)
        self._observations.learn_from(*page.transfers)
        end = page.page_info.model_copy(update={"end_cursor": checked(page.page_info.end_cursor, organization_id)})
        return page.model_copy(update={"page_info": end})

    async def transfer_detail(self, organization_id: str, transfer_id: str) -> TransferDetail:
        """Read one transfer; see `SequenceClient.transfer_detail`."""
        answer = await self._read(Operation.TRANSFER, {"organizationId": organization_id, "id": transfer_id})
        detail = read_transfer_detail(answer, organization_id, transfer_id)
        self._warn_of_gaps(answer)
        self._observations.learn_from(detail)
        return detail

    async def read_clock(self) -> None:
        """Read this month's numbers; see `SequenceClient.read_clock`."""
        await self.activity_summary(urgent=True)

    def check_order(self, order: TransferOrder) -> None:
        """Check that an order names a KYC id; see `SequenceClient.check_order`."""
        if order.kyc_id is None:
            raise InvalidRequestError(f"Name a KYC id, or set {variable('kyc_id')}.")

    async def prepare_transfer(
        self,
        order: TransferOrder,
        *,
        attempt_id: str,  # noqa: ARG002 - there is no place for them
        caller: str,  # noqa: ARG002
    ) -> PreparedTransfer:
        """Wait for a turn and a token; see `SequenceClient.prepare_transfer`."""
        variables = {
            "id": order.kyc_id,
            "source": {"id": order.source_id, "type": order.source_type.value},
            "destination": {"id": order.destination_id, "type": order.destination_type.value},
            "amount": order.amount_cents,
            "isInstantTransfer": order.instant,
            "achDescription": order.description,
        }
        request = _Request(self._transfers, Operation.CREATE_PAYMENT, variables, Priority.TRANSFER)
        with waiting():
            return _PreparedPayment(self, request, await self._permit(request.priority))

    async def stay_signed_in(self) -> None:
        """Renew the access token in time; see `SequenceClient.stay_signed_in`."""
        await self._tokens.keep_fresh()

    def stop(self) -> None:
        """Release waiting reads; see `SequenceClient.stop`."""
        self._pacer.stop()

    async def aclose(self) -> None:
        """Cancel running reads and close the connections."""
        await self._shared_reads.aclose()
        await self._tokens.aclose()
        for endpoint in (self._reads, self._transfers):
            await endpoint.aclose()

    async def _read_kept(
        self, variables: Variables, first: int, after: str, keep: Keep, priority: Priority
    ) -> ActivityPage:
        """Fill one page of ours from as few of Sequence's as possible."""
        transfers: list[Transfer] = []
        complete = True
        for _ in range(MAX_UPSTREAM_PAGES):
            page, answer = await self._read_page(variables | {"after": after}, priority)
            complete = complete and page.complete
            kept = [one for one in page.transfers if keep(one)][: first - len(transfers)]
            transfers += kept
            after, has_next_page = page.page_info.end_cursor, page.page_info.has_next_page
            if len(transfers) == first and kept[-1] is not page.transfers[-1]:
                after, has_next_page = read_cursors(answer).get(kept[-1].id, ""), True
                complete = complete and bool(after)
            if len(transfers) == first or not has_next_page or not after:
                break
        page_info = PageInfo(end_cursor=after, has_next_page=has_next_page)
        return ActivityPage(transfers=tuple(transfers), page_info=page_info, complete=complete)

    async def _read_page(self, variables: Variables, priority: Priority) -> tuple[ActivityPage, Answer]:
        answer = await self._read(Operation.ACTIVITY, variables, priority)
        page = read_activity(answer, variables["organizationId"])
        self._warn_of_gaps(answer)
        return page, answer

    def _warn_of_gaps(self, answer: Answer) -> None:
        self._observations.warn_of_gaps(answer.operation, answer.gaps)

    async def _read(self, operation: Operation, variables: Variables, priority: Priority = Priority.READ) -> Answer:
        """Read. Equal reads that wait at the same time become one request."""
        request = _Request(self._reads, operation, variables, priority)
        key = (operation, json.dumps(variables, sort_keys=True), priority)
        with waiting():
            return (await self._shared_reads.result(key, partial(self._read_once, request))).unread()

    async def _read_once(self, request: "_Request", stop_sharing: Callable[[], None]) -> Answer:
        try:
            permit = await self._permit(request.priority)
        finally:
            stop_sharing()  # the request is about to be sent, and a later caller needs newer data
        try:
            return await self._send_once(request, permit)
        except NotAuthorizedError:
            permit = await self._new_permit(request.priority, permit)
        return await self._send_once(request, permit)

    async def _permit(self, priority: Priority) -> "_Permit":
        await self._tokens.access_token()  # before the turn, so that a failed sign-in wastes none
        turn = await self._turn(priority)
        return _Permit(turn, await self._tokens.access_token())  # the first one may have expired while waiting

    async def _new_permit(self, priority: Priority, rejected: "_Permit") -> "_Permit":
        token = await self._tokens.renew(rejected.token)
        return _Permit(await self._turn(priority), token)

    async def _turn(self, priority: Priority) -> Turn:
        with self._statistics.turn():
            return await self._pacer.take(priority)

    async def _send_once(
        self, request: "_Request", permit: "_Permit", check: Callable[[], Awaitable[None]] | None = None
    ) -> Answer:
        name = request.operation.value
        body = {"query": DOCUMENTS[request.operation], "variables": request.variables, "operationName": name}

        async def begin() -> None:
            await permit.turn.begin()
            if check is not None:
                await check()

        with self._statistics.exchange(name) as exchange:
            http_answer = await request.endpoint.send(
                name,
                headers=_headers(permit.token),
                content=json.dumps(body).encode(),
                before_first_byte=begin,
                after_writing=permit.turn.renew,
            )
            self._clock.read(http_answer)
            if http_answer.status in HOLDING_STATUSES and http_answer.retry_after_seconds:
                await self._pacer.hold(http_answer.retry_after_seconds)
            answer = read_answer(name, http_answer, secret=permit.token)
            if answer.errors:
                exchange.outcome = GraphQLError.__name__
            return answer


@dataclass(frozen=True, slots=True)
class _Permit:
    """What a request needs to be sent: a turn and an access token."""

    turn: Turn
    token: str


@dataclass(frozen=True, slots=True)
class _Request:
    endpoint: HttpEndpoint
    operation: Operation
    variables: Variables
    priority: Priority


class _PreparedPayment(PreparedTransfer):
    def __init__(self, client: GraphQLSequenceClient, request: _Request, permit: _Permit) -> None:
        self._client = client
        self._request = request
        self._permit = permit
        self._sent_at_seconds: float | None = None

    async def send(self, check: Callable[[], Awaitable[None]] | None = None) -> TransferReceipt:
        """Send the transfer; see `PreparedTransfer.send`."""
        if self._sent_at_seconds is None:
            self._sent_at_seconds = steady_seconds()
        with waiting():
            answer = (await self._client._send_once(self._request, self._permit, check)).unread()
            receipt = read_payment(answer)
        self._client._warn_of_gaps(answer)
        self._client._observations.learn_from(*receipt.transfers)
        return receipt

    async def renew(self) -> None:
        """Get a new token and a new turn; see `PreparedTransfer.renew`."""
        with waiting():
            self._permit = await self._client._new_permit(self._request.priority, self._permit)
        sent_at_seconds = self._sent_at_seconds
        # A lookup after a crash relies on this: a transfer is sent at most two deadlines after it was announced.
        if sent_at_seconds is not None and steady_seconds() - sent_at_seconds > self._request.endpoint.timeout_seconds:
            raise NotAuthorizedError(
                "Sequence did not accept the access token (401), and getting a new one took too long to send this"
                " transfer. Nothing moved.",
                advice="Try again.",
            )


def _headers(token: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": (
            "application/graphql-response+json, application/graphql+json, application/json,"
            " text/event-stream, multipart/mixed"
        ),
        "origin": ORIGIN,
        "referer": f"{ORIGIN}/",
        "sec-fetch-dest": "empty",
        "sec-fetch-mode": "cors",
        "sec-fetch-site": "same-origin",
        "x-request-id": f"webapp-{uuid.uuid4()}",
    }


def _filter(only: ActivityFilter) -> Variables:
    created_at = {"start": only.date_start, "end": only.date_end}
    keys: Variables = {
        "createdAt": {key: day.isoformat() for key, day in created_at.items() if day is not None},
        "statuses": list(only.statuses),
        "directions": list(only.directions),
        "activityTypes": list(only.activity_types),
        "hideInternalTransfers": only.hide_internal,
        "name": only.name,
    }
    return {key: value for key, value in keys.items() if value}

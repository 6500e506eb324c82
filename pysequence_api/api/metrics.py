"""``/metrics``: numbers for a monitoring system, in Prometheus format.

Each part of the program keeps its own counts, and this page reads them on request. Nothing is global: two applications
in one process have separate numbers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pysequence_api.api.parameters import OpenGateway, needs
from pysequence_api.errors import Code, SafeguardsUnavailableError
from pysequence_api.gateway import Gateway
from pysequence_api.records.attempts import DEFAULT_CALLER
from pysequence_api.records.states import OPEN_STATES, State
from pysequence_api.safeguards.policy import Scope
from pysequence_api.safeguards.status import Limits
from pysequence_api.sequence.telemetry import RequestStatistics, TokenLife
from pysequence_api.web.errors import responses
from pysequence_api.web.request_log import RequestCounts

METRICS_PATH = "/metrics"
ENDS = (State.ACCEPTED.value, "replayed", *(code.value for code in (Code.REFUSED, Code.OUTCOME_UNKNOWN)))
"""Always shown, so that the first one of each is a change that an alert can see."""
_FORMATS = {
    "text/plain": {"schema": {"type": "string"}},
    "application/openmetrics-text": {"schema": {"type": "string"}},
}

router = APIRouter(tags=["metrics"], dependencies=[needs(Scope.READ_METRICS)])


@dataclass(frozen=True, slots=True)
class Snapshot(Collector):
    """All numbers at one moment.

    Attributes:
        limits: ``None`` if the records cannot be read.
    """

    requests: RequestCounts
    vitals: RequestStatistics
    ends: dict[tuple[str, str], int]
    limits: Limits | None
    token: TokenLife | None

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self.requests.registry.collect()
        yield from _of_client(self.vitals)
        transfers = CounterMetricFamily(
            "pysequence_transfers",
            "Requested transfers by caller and result: a state, or the code of an error.",
            labels=["caller", "end"],
        )
        always = dict.fromkeys(((DEFAULT_CALLER, end) for end in ENDS), 0)
        for labels, count in sorted((always | self.ends).items()):
            transfers.add_metric(labels, count)
        yield transfers
        yield from _of_limits(self.limits)
        yield from _of_token(self.token)


@router.get(
    METRICS_PATH,
    response_class=Response,
    responses=responses(401, 403, 422, 500, 503) | {200: {"description": "The metrics", "content": _FORMATS}},
)
async def read_metrics(request: Request, gateway: OpenGateway) -> Response:
    """Get metrics in Prometheus format. Makes no call to Sequence."""
    snapshot = await _snapshot(gateway, cast(RequestCounts, request.app.state.request_counts))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(snapshot), headers={"Content-Type": media_type})


async def _snapshot(gateway: Gateway, requests: RequestCounts) -> Snapshot:
    try:
        limits = gateway.limits()
    except SafeguardsUnavailableError:
        limits = None  # `pysequence_safeguards_available` is then 0, and the numbers of the day are missing
    return Snapshot(
        requests, gateway.client.statistics, gateway.transfers.ends, limits, await gateway.client.token_life()
    )


def _of_client(vitals: RequestStatistics) -> Iterable[Metric]:
    requests = CounterMetricFamily(
        "pysequence_upstream_requests",
        "Requests to Sequence by operation and outcome: ok, or the class of the error.",
        labels=["operation", "outcome"],
    )
    for (operation, outcome), count in sorted(vitals.requests.items()):
        requests.add_metric([operation, outcome], count)
    durations = SummaryMetricFamily(
        "pysequence_upstream_request_seconds", "Duration of requests to Sequence.", labels=["operation"]
    )
    for operation, duration in sorted(vitals.exchanges.items()):
        durations.add_metric([operation], duration.count, duration.seconds)
    turns = SummaryMetricFamily(
        "pysequence_pacing_wait_seconds", "How long requests to Sequence waited because of the pacing."
    )
    turns.add_metric([], vitals.turns.count, vitals.turns.seconds)
    return requests, durations, turns


def _of_limits(limits: Limits | None) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "pysequence_safeguards_available",
        "1 if the records can be read; 0 if they cannot, so that no transfer is possible.",
        value=int(limits is not None),
    )
    if limits is not None:
        numbers = {
            "used_today": (
                "Cents that count against the daily limit, including unsettled transfers.",
                limits.used_cents,
            ),
            "left_today": ("Cents that can still be transferred today.", limits.remaining_cents),
            "daily_limit": ("The daily limit in cents.", limits.max_daily_cents),
        }
        for name, (text, cents) in numbers.items():
            yield GaugeMetricFamily(f"pysequence_{name}_cents", text, value=cents)
        text = "Transfers without a result: in progress, or with an unknown outcome."
        by_state = GaugeMetricFamily("pysequence_unsettled_transfers", text, labels=["state"])
        for state in OPEN_STATES:
            by_state.add_metric([state.value], sum(one.state is state for one in limits.unsettled))
        yield by_state


def _of_token(token: TokenLife | None) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "pysequence_token_present", "1 if there is an access token, valid or not.", value=int(token is not None)
    )
    if token is not None and token.age_seconds is not None:
        text = "Age of the access token, if the token contains it."
        yield GaugeMetricFamily("pysequence_token_age_seconds", text, value=token.age_seconds)
    if token is not None and token.left_seconds is not None:
        text = "Seconds until the access token expires; negative if it has expired."
        yield GaugeMetricFamily("pysequence_token_left_seconds", text, value=token.left_seconds)

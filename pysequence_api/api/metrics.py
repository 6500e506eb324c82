"""``/metrics``: what a monitoring system watches, in Prometheus form.

The numbers of the HTTP side are counted here; those of the client and the guard are kept there, as plain numbers, and
read when somebody asks. Nothing is global: two applications in one process have numbers of their own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pysequence_api.api.parameters import OpenGateway
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.gateway import Gateway
from pysequence_api.safeguards.transfers import Limits
from pysequence_api.sequence.telemetry import RequestStatistics, TokenLife
from pysequence_api.web.errors import responses

METRICS_PATH = "/metrics"
NO_ROUTE = "none"
"""Stands for every path that does not exist, so that strangers cannot make up series."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER_METHOD = "OTHER"
BUCKETS_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
_TEXTS = {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {"schema": {"type": "string"}}}

router = APIRouter(tags=["metrics"])


class RequestMeter:
    """Counts the requests of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pysequence_http_requests",
            "Requests by the route's template, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "pysequence_http_request_seconds",
            "How long requests took.",
            ["route"],
            buckets=BUCKETS_SECONDS,
            registry=self.registry,
        )

    def count(self, route: str | None, method: str, status: int, duration_seconds: float) -> None:
        """Count one request.

        Args:
            route: the route's template; ``None`` if there was none.
            method: as it was sent.
            status: of the answer.
            duration_seconds: until the answer was sent.
        """
        known_method = method if method in METHODS else OTHER_METHOD
        self._requests.labels(route or NO_ROUTE, known_method, str(status)).inc()
        self._durations.labels(route or NO_ROUTE).observe(duration_seconds)


@dataclass(frozen=True, slots=True)
class Snapshot(Collector):
    """All numbers at one moment.

    Attributes:
        limits: ``None`` while the ledger cannot be trusted.
    """

    requests: RequestMeter
    vitals: RequestStatistics
    ends: dict[str, int]
    limits: Limits | None
    token: TokenLife | None

    def collect(self) -> Iterator[Metric]:
        """Give them, one family after the other."""
        yield from self.requests.registry.collect()
        yield from _of_client(self.vitals)
        transfers = CounterMetricFamily("pysequence_transfers", "Transfers asked for, by their end.", labels=["end"])
        for end, count in sorted(self.ends.items()):
            transfers.add_metric([end], count)
        yield transfers
        yield from _of_limits(self.limits)
        yield from _of_token(self.token)


@router.get(
    METRICS_PATH,
    response_class=Response,
    responses=responses(401, 500) | {200: {"description": "The numbers", "content": _TEXTS}},
)
async def read_metrics(request: Request, gateway: OpenGateway) -> Response:
    """Give the numbers that a monitoring system watches, in Prometheus form. Asks nothing of Sequence."""
    snapshot = await _snapshot(gateway, cast(RequestMeter, request.app.state.request_meter))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(snapshot), headers={"Content-Type": media_type})


async def _snapshot(gateway: Gateway, requests: RequestMeter) -> Snapshot:
    try:
        limits = gateway.limits()
    except SafeguardsUnavailableError:
        limits = None  # which is the alarm; the numbers of the day are then left out
    return Snapshot(
        requests, gateway.client.statistics, gateway.transfers.ends, limits, await gateway.client.token_life()
    )


def _of_client(vitals: RequestStatistics) -> Iterable[Metric]:
    requests = CounterMetricFamily(
        "pysequence_upstream_requests",
        "Requests to Sequence by operation and outcome: ok, or the class of the failure.",
        labels=["operation", "outcome"],
    )
    for (operation, outcome), count in sorted(vitals.requests.items()):
        requests.add_metric([operation, outcome], count)
    durations = SummaryMetricFamily(
        "pysequence_upstream_request_seconds", "How long requests to Sequence took.", labels=["operation"]
    )
    for operation, duration in sorted(vitals.exchanges.items()):
        durations.add_metric([operation], duration.count, duration.seconds)
    turns = SummaryMetricFamily("pysequence_pacing_wait_seconds", "How long requests waited for their turn.")
    turns.add_metric([], vitals.turns.count, vitals.turns.seconds)
    return requests, durations, turns


def _of_limits(limits: Limits | None) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "pysequence_safeguards_available",
        "1 while ledger and audit trail can be trusted; 0 means that no transfer is possible.",
        value=int(limits is not None),
    )
    if limits is not None:
        numbers = {
            "used_today": ("Cents that count today, with all that is unsettled.", limits.used_cents),
            "left_today": ("Cents that may still move today.", limits.remaining_cents),
            "daily_limit": ("The daily limit in cents.", limits.max_daily_cents),
        }
        for name, (text, cents) in numbers.items():
            yield GaugeMetricFamily(f"pysequence_{name}_cents", text, value=cents)
        text = "Transfers that have not ended: on their way, or of unknown outcome."
        by_state = GaugeMetricFamily("pysequence_unsettled_transfers", text, labels=["state"])
        for state in ("reserved", "unknown"):
            by_state.add_metric([state], sum(one.state == state for one in limits.unsettled))
        yield by_state


def _of_token(token: TokenLife | None) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "pysequence_token_present", "1 if there is an access token, good or not.", value=int(token is not None)
    )
    if token is not None and token.age_seconds is not None:
        text = "How long ago the access token was issued, if it says so."
        yield GaugeMetricFamily("pysequence_token_age_seconds", text, value=token.age_seconds)
    if token is not None and token.left_seconds is not None:
        text = "How long the access token is good; below 0 it has run out."
        yield GaugeMetricFamily("pysequence_token_left_seconds", text, value=token.left_seconds)

"""Creates the FastAPI application."""

from functools import cache

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from pysequence_api import __version__
from pysequence_api.api import accounts, activity, attempts, freeze, health, limits, metrics, pods, transfers
from pysequence_api.api.direct import DirectRoutes
from pysequence_api.api.document import DescribedApi
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import Gateway
from pysequence_api.records.keys import looks_like_key
from pysequence_api.settings import variable
from pysequence_api.web.access import HostCheck, KeyCheck, OriginCheck
from pysequence_api.web.errors import add_handlers
from pysequence_api.web.keyless import limit_keyless_lines
from pysequence_api.web.query import check_query
from pysequence_api.web.request_log import KeepFailure, RequestCounts, RequestLog
from pysequence_api.web.root_path import WithoutRootPath

DESCRIPTION = """\
A gateway to GetSequence for programs: read balances and activity, and transfer money within limits.

Every path except `/api/health` needs an API key in the header `X-API-Key`. Fields that end in `_cents` hold amounts in
cents; the texts beside them are for people. Times are as RFC 3339 has them: in UTC, with milliseconds and `Z`. Every
answer has an `X-Request-ID`. Every error is an `Error`: `detail` says what to do, and `code` is for programs. Later
versions may add fields and codes. Caches must not store answers.
"""
TAGS = [
    {"name": "pods", "description": "Pods and their balances."},
    {"name": "accounts", "description": "Everything that holds money: pods, ports and external accounts."},
    {"name": "activity", "description": "Transfers of the account, past and pending."},
    {"name": "transfers", "description": "Transfer money, within the limits."},
    {"name": "limits", "description": "The limits, and the amount left today."},
    {"name": "freeze", "description": "Stop your own transfers."},
    {"name": "metrics", "description": "Metrics for a monitoring system."},
    {"name": "health", "description": "The health check."},
]
_WITH_KEY = (pods, accounts, limits, activity, transfers, attempts, freeze, metrics)
"""The modules whose routes need a key."""


class Api(DescribedApi):
    """The application.

    Attributes:
        front: stands before FastAPI, whose own layers take as long as a short answer.
    """

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, after all checks."""
        await self.front(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that passed the checks."""
        await super().__call__(scope, receive, send)


def create_app(gateway: Gateway) -> Api:
    """Create the application of an open gateway, which the caller closes.

    Raises:
        SettingsError: nobody has a key, or the API key of the settings is the key of a caller.
        SafeguardsUnavailableError: the records, which know the callers, cannot be read.
    """
    key = _default_key(gateway)
    root_path = gateway.settings.root_path
    app = Api(
        title="pysequence-api",
        version=__version__,
        description=DESCRIPTION,
        contact={"name": "Whoever runs this server"},
        openapi_tags=TAGS,
        servers=[{"url": root_path or "/", "description": "This server"}],
        redirect_slashes=False,
        docs_url=None,  # a browser cannot send the key, and these pages load a third-party script
        redoc_url=None,
    )
    limit_keyless_lines()
    app.state.gateway = gateway
    app.state.request_counts = RequestCounts()
    app.router.routes.extend(_routes())
    app.state.api_routes = [route for module in (health, *_WITH_KEY) for route in module.router.routes]
    add_handlers(app)
    app.add_middleware(KeepFailure)
    app.front = RequestLog(
        DirectRoutes(app, app.state.api_routes, app.answer),
        app.state.request_counts,
        key,
        # Requests that these refuse are logged and counted too.
        checks=(
            HostCheck(gateway.settings.allowed_hosts),
            OriginCheck(gateway.settings.allowed_hosts),
            KeyCheck(gateway.callers, key),
        ),
    )
    if root_path:
        app.front = WithoutRootPath(app.front, root_path)  # before the checks: they and the routes see one path
    return app


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """Put the routes together, once for all applications of this process: they take longer than the rest of one."""
    router = APIRouter(generate_unique_id_function=_operation_id, dependencies=[Depends(check_query)])
    router.include_router(health.router)
    for module in _WITH_KEY:
        router.include_router(module.router)
    return tuple(router.routes)


def _default_key(gateway: Gateway) -> str | None:
    """Return the key of the caller `default`, if it has one."""
    key = gateway.settings.api_key
    given = "" if key is None else key.get_secret_value()
    if not given and not gateway.callers.has_keys():
        raise SettingsError(
            f"{variable('api_key')} is not set, and no caller has a key, so no program could use the server. Add one:"
            " pysequence-api callers add NAME"
        )
    if looks_like_key(given.encode()) and gateway.callers.knows(given.encode()):
        raise SettingsError(
            f"{variable('api_key')} is the key of a caller, which would then be allowed everything. Unset it, or set it"
            " to a key of its own: pysequence-api key new"
        )
    return given or None


def _operation_id(route: APIRoute) -> str:
    return route.name

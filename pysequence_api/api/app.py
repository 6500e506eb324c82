"""Creates the FastAPI application."""

from fastapi import FastAPI, Security
from fastapi.routing import APIRoute

from pysequence_api import __version__
from pysequence_api.api import accounts, activity, health, limits, metrics, pods, transfers
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import Gateway
from pysequence_api.settings import variable
from pysequence_api.web.access import API_KEY, HostCheck, KeyCheck
from pysequence_api.web.errors import add_handlers
from pysequence_api.web.keyless import limit_keyless_lines
from pysequence_api.web.request_log import RequestCounts, RequestLog
from pysequence_api.web.root_path import WithoutRootPath

DESCRIPTION = """\
A gateway to GetSequence for programs: read balances and activity, and transfer money within limits.

Every path except `/api/health` needs the API key in the header `X-API-Key`. Fields that end in `_cents` hold amounts in
cents; the texts beside them are for people. Times are in UTC. Every answer has an `X-Request-ID`. Every error is
`{"detail": "..."}`, and says what to do. Caches must not store answers.
"""
TAGS = [
    {"name": "pods", "description": "Pods and their balances."},
    {"name": "accounts", "description": "Everything that holds money: pods, ports and external accounts."},
    {"name": "activity", "description": "Transfers of the account, past and pending."},
    {"name": "transfers", "description": "Transfer money, within the limits."},
    {"name": "limits", "description": "The limits, and the amount left today."},
    {"name": "metrics", "description": "Metrics for a monitoring system."},
    {"name": "health", "description": "The health check."},
]


def create_app(gateway: Gateway) -> FastAPI:
    """Create the application of an open gateway, which the caller closes.

    Raises:
        SettingsError: the gateway's settings have no API key.
    """
    key = gateway.settings.api_key
    if key is None or not key.get_secret_value():
        raise SettingsError(f"{variable('api_key')} is not set. Without an API key, anyone could use the server.")
    root_path = gateway.settings.root_path
    app = FastAPI(
        title="pysequence-api",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        servers=[{"url": root_path}] if root_path else None,
        redirect_slashes=False,
        docs_url=None,  # a browser cannot send the key, and these pages load a third-party script
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    limit_keyless_lines()
    app.state.gateway = gateway
    app.state.request_counts = RequestCounts()
    app.include_router(health.router)
    for module in (pods, accounts, activity, transfers, limits, metrics):
        app.include_router(module.router, dependencies=[Security(API_KEY)])
    add_handlers(app)
    # The last one is the outermost: requests that the checks reject are logged and counted too.
    app.add_middleware(KeyCheck, key=key.get_secret_value())
    app.add_middleware(HostCheck, names=gateway.settings.allowed_hosts)
    app.add_middleware(RequestLog, counts=app.state.request_counts, key=key.get_secret_value())
    if root_path:
        app.add_middleware(WithoutRootPath, root_path=root_path)  # before the checks: they and the routes see one path
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name

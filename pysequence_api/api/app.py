"""Puts the application together."""

from fastapi import FastAPI, Security
from fastapi.routing import APIRoute

from pysequence_api import __version__
from pysequence_api.api import accounts, activity, health, limits, metrics, pods, transfers
from pysequence_api.api.metrics import RequestMeter
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import Gateway
from pysequence_api.settings import variable
from pysequence_api.web.errors import add_handlers
from pysequence_api.web.hosts import HostCheck
from pysequence_api.web.keys import API_KEY, KeyCheck
from pysequence_api.web.request_log import RequestLog

DESCRIPTION = """\
A trust boundary in front of GetSequence: programs read balances and activity, and move money within limits.

Every path but `/api/health` needs the key in `X-API-Key`. Amounts are in cents; texts beside them are for people.
Times are UTC. `X-Request-ID` comes back on every answer. Every failure is `{"detail": "..."}` with one line that a
person can act on. Nothing may be stored by a cache.
"""
TAGS = [
    {"name": "pods", "description": "Accounts at Sequence, with their balances."},
    {"name": "accounts", "description": "Everything that can hold money: pods, ports, external accounts."},
    {"name": "activity", "description": "What moved, and how far it has come."},
    {"name": "transfers", "description": "Moving money, within the limits."},
    {"name": "limits", "description": "What may still move today."},
    {"name": "metrics", "description": "Numbers for a monitoring system."},
    {"name": "health", "description": "Whether the server runs."},
]


def create_app(gateway: Gateway) -> FastAPI:
    """Make the application over an open gateway.

    Args:
        gateway: opened, and closed, by the caller.

    Returns:
        The application, which checks the key of ``gateway.settings``.

    Raises:
        SettingsError: there is no key.
    """
    key = gateway.settings.api_key
    if key is None or not key.get_secret_value():
        raise SettingsError(f"{variable('api_key')} is not set. Without a key, the server would be open to everyone.")
    app = FastAPI(
        title="pysequence-api",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        redirect_slashes=False,
        redoc_url=None,  # one page is enough, and each is a foreign script next to a key
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.gateway = gateway
    app.state.request_meter = RequestMeter()
    app.include_router(health.router)
    for subject in (pods, accounts, activity, transfers, limits, metrics):
        app.include_router(subject.router, dependencies=[Security(API_KEY)])
    add_handlers(app)
    # The last one added is the outermost: also what the key check refuses has an id and a line in the log.
    app.add_middleware(KeyCheck, key=key.get_secret_value())
    app.add_middleware(HostCheck, names=gateway.settings.allowed_hosts)
    app.add_middleware(RequestLog, meter=app.state.request_meter)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name

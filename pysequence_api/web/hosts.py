"""Which names the server answers to.

A page in somebody's browser can have its own name resolve to this machine and then send requests here. They carry that
page's name in ``Host``. A page cannot have the name that this machine has for itself, which is always ours.
"""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pysequence_api.settings import is_loopback, variable
from pysequence_api.web.keys import HEALTH_PATH, POLICY_VIOLATION


class HostCheck:
    """Lets through what was sent to one of our names, and what asks for health, which is asked by address.

    Args:
        app: what is behind it.
        names: in lower case, without ports; without any, every name is ours.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, or hand over."""
        kind = scope["type"]
        if not self._names or kind == "lifespan" or scope["path"] == HEALTH_PATH or self._is_ours(scope):
            await self._app(scope, receive, send)
        elif kind == "http":
            detail = f"This server does not answer to the host name of this request. {variable('allowed_hosts')} lists"
            answer = JSONResponse({"detail": f"{detail} those that it answers to."}, status_code=400)
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Invalid host"})

    def _is_ours(self, scope: Scope) -> bool:
        given = Headers(scope=scope).getlist("host")
        if len(given) != 1:
            return False
        name = _without_port(given[0].lower())
        return name in self._names or is_loopback(name.removeprefix("[").removesuffix("]"))


def _without_port(host: str) -> str:
    # The colons of an IPv6 address are inside of its brackets.
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host

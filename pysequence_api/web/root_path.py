"""Serving below a path of a proxy, such as ``https://example.net/sequence``."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send


def path_to(request: Request, *parts: str) -> str:
    """Return a path of this server as the client sees it: below the root path, if there is one.

    Args:
        request: the request that is answered.
        *parts: a path, and what follows it; each further part is one segment, which is encoded.
    """
    path, *segments = parts
    root_path: str = request.app.state.gateway.settings.root_path
    return "/".join([f"{root_path}{path}", *(quote(segment, safe="") for segment in segments)])


class WithoutRootPath:
    """Removes the root path from requests, once, if the proxy in front did not.

    Everything behind it sees the paths of a server without a root path, so the checks and the routes agree on them.

    Args:
        app: the application behind it.
        root_path: for example ``/sequence``.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its shorter path."""
        if scope["type"] != "lifespan" and scope["path"].startswith(f"{self._root_path}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._root_path)}
            raw_path = scope.get("raw_path")
            if raw_path is not None:
                scope["raw_path"] = raw_path.removeprefix(self._root_path.encode())
        await self._app(scope, receive, send)

"""Serving below a path of a proxy, such as ``https://example.net/sequence``."""

from starlette.types import ASGIApp, Receive, Scope, Send


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

"""The route ``/mcp``. It only allows ``POST``: there are no streams to hold open, and no sessions to end."""

from importlib.util import find_spec
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request, Response

from pysequence_api.errors import NotFoundError
from pysequence_api.web.access import MCP_PATH
from pysequence_api.web.body import read_json_object

SDK = "mcp"
NOT_INSTALLED = "This server has no MCP. Its owner can add it, in the clone of pysequence-api: pip install '.[mcp]'"

router = APIRouter()


def add_mcp(app: FastAPI) -> None:
    """Add the route to an application of `create_app`, whose checks of keys, hosts and origins it shares."""
    app.include_router(router)


@router.post(MCP_PATH, include_in_schema=False)
async def mcp(request: Request) -> Response:
    """Answer one message of the Model Context Protocol."""
    if find_spec(SDK) is None:
        raise NotFoundError(NOT_INSTALLED)
    message = await read_json_object(request)
    server: Any = await anyio.to_thread.run_sync(_load)
    response: Response = await server.answer(request, message)
    return response


def _load() -> Any:
    """Import the SDK in a thread. That takes a second; meanwhile, the server answers other requests."""
    from pysequence_api.mcp import server  # noqa: PLC0415 - an extra, and slow to load

    return server

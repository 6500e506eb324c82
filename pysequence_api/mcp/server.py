"""Connects the tools to the SDK's server. Imported by the first request, because the SDK takes a second to load.

Each request gets its own session manager. Nothing has to start or stop with the application, and no stream stays open.
"""

import json
import logging
from functools import cache
from typing import Any

import anyio
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    JSONRPCNotification,
    JSONRPCRequest,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as ToolDescription
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from pysequence_api import __version__
from pysequence_api.errors import GatewayError
from pysequence_api.mcp.arguments import schema_of
from pysequence_api.mcp.tools import BY_NAME, INSTRUCTIONS, Call, Tool, refusal, tools_of, use
from pysequence_api.text import quoted
from pysequence_api.web.head import caller_of

UNEXPECTED = "Internal error. The server's log has the details. If it was a transfer, look at get_limits first."
TOLD = "tool %s by %s: %s"
Context = ServerRequestContext[Any, Request]

log = logging.getLogger(__name__)
logging.getLogger("mcp").setLevel(logging.WARNING)  # it logs each request, as the request log does


async def answer(request: Request, message: dict[str, Any]) -> Response:
    """Answer one request.

    Args:
        request: with the gateway in the state of its application, and the caller in its own.
        message: its body.
    """
    try:
        # Without an id, it is a notification. The SDK would treat a request with an invalid id as one, too.
        (JSONRPCRequest if "id" in message else JSONRPCNotification).model_validate(message)
    except ValidationError:
        return _NO_MESSAGE
    body = json.dumps(message).encode()
    answered = _Answered()

    bodies: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not bodies:
            await anyio.sleep_forever()  # the SDK watches for a disconnect; a call continues without its client
        return bodies.pop()

    manager = StreamableHTTPSessionManager(_SERVER, json_response=True, stateless=True)
    async with manager.run():
        await manager.handle_request(request.scope, receive, answered.send)
    return answered.response()


class _Answered:
    """Collects an answer."""

    def __init__(self) -> None:
        self._start: Message = {}
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._body += message.get("body", b"")

    def response(self) -> Response:
        """Return the whole answer."""
        response = Response(bytes(self._body), self._start["status"])
        response.raw_headers = list(self._start["headers"])
        return response


def _call(context: Context) -> Call:
    request = context.request
    assert request is not None
    return Call(request.app.state.gateway, caller_of(request))


async def _list(context: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
    try:
        tools = tools_of(_call(context))
    except GatewayError as error:
        raise MCPError(INTERNAL_ERROR, error.detail) from error
    return ListToolsResult(tools=[describe(tool) for tool in tools])


async def _use(context: Context, params: CallToolRequestParams) -> CallToolResult:
    tool = BY_NAME.get(params.name)
    if tool is None:
        raise MCPError(INVALID_PARAMS, f"There is no tool {quoted(params.name)}. The tools are {', '.join(BY_NAME)}.")
    call = _call(context)
    try:
        told = await use(tool, call, params.arguments or {})
    except GatewayError as error:
        log.log(logging.WARNING if error.status >= 500 else logging.INFO, TOLD, tool.name, call.caller.name, error.code)
        return _result(refusal(error), is_error=True)
    except Exception:
        log.exception("unexpected error in %s", tool.name)
        return _result(refusal(GatewayError(UNEXPECTED)), is_error=True)
    log.info(TOLD, tool.name, call.caller.name, "ok")
    return _result(told)


@cache  # each agent that connects lists the tools, and their schemas take longer than the rest of that request
def describe(tool: Tool) -> ToolDescription:
    """Describe a tool as the protocol does."""
    if tool.is_read_only:
        hints = ToolAnnotations(read_only_hint=True)
    else:
        hints = ToolAnnotations(
            read_only_hint=False,
            destructive_hint=tool.is_destructive,
            idempotent_hint=True,
            open_world_hint=tool.is_destructive,
        )
    return ToolDescription(
        name=tool.name, description=tool.description, input_schema=schema_of(tool.arguments), annotations=hints
    )


def _result(content: dict[str, Any], *, is_error: bool = False) -> CallToolResult:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content, is_error=is_error)


_NO_MESSAGE = JSONResponse(
    {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": INVALID_REQUEST, "message": "The body is not JSON-RPC 2.0."},
    },
    status_code=400,
)
_SERVER: Server[Any] = Server(
    "pysequence-api", version=__version__, instructions=INSTRUCTIONS, on_list_tools=_list, on_call_tool=_use
)
_SERVER.middleware.clear()  # spans for OpenTelemetry, which nothing here collects

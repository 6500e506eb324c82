"""The head of a request: read once, for the checks, the log and the routes."""

from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.types import Scope

from pysequence_api.records.callers import Caller
from pysequence_api.web.connections import CONNECTION_STATE, Connection

CALLER_STATE = "caller"
FIELDS_STATE = "fields"
FAILURE_STATE = "failure"
_AGE_STATE = "age"


class Head:
    """The head of a request, and what is known about it.

    Attributes:
        scope: the request, as ASGI has it.
        path: the decoded path.
    """

    __slots__ = ("_fields", "_state", "path", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.path = cast(str, scope["path"])
        self._fields: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:  # ASGI has the names in lower case
            self._fields.setdefault(name, []).append(value)
        # The routes find there what they need. They do not find this object, which would be a reference cycle.
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state[FIELDS_STATE] = self._fields

    def all(self, name: bytes) -> Sequence[bytes]:
        """Return the values of a header, as they were sent.

        Args:
            name: the name of the header, in lower case.
        """
        return self._fields.get(name, ())

    @property
    def caller(self) -> Caller | None:
        """Who sent the request; ``None`` until that is known."""
        return self._state.get(CALLER_STATE)

    @property
    def failure(self) -> Exception | None:
        """What stopped a route of the application."""
        return self._state.get(FAILURE_STATE)

    @property
    def age_seconds(self) -> int | None:
        """How old the answer is; ``None`` if it is new."""
        return self._state.get(_AGE_STATE)

    @property
    def route(self) -> str | None:
        """The route's template, once it is known."""
        template = getattr(self.scope.get("route"), "path_format", None)
        return template if isinstance(template, str) else None

    @property
    def source(self) -> str:
        """The address of the connection. Headers such as ``X-Forwarded-For`` are ignored."""
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"

    def admit(self, caller: Caller, **more: object) -> None:
        """Note who sent the request, and that the connection may stay.

        Args:
            caller: who sent it.
            **more: what else its route finds in the ``state``.
        """
        self._state[CALLER_STATE] = caller
        self._state.update(more)
        if (connection := self.connection) is not None:
            connection.has_sent_key = True

    @property
    def connection(self) -> Connection | None:
        """The connection; ``None`` without a server."""
        connection = self._state.get(CONNECTION_STATE)
        return connection if isinstance(connection, Connection) else None


def caller_of(request: Request) -> Caller:
    """Return who sent a request that passed the checks."""
    caller = request.scope["state"][CALLER_STATE]
    assert isinstance(caller, Caller)
    return caller


def header_values(request: Request, name: bytes) -> Sequence[bytes]:
    """Return the values of a header, as they were sent.

    Args:
        request: the request.
        name: the name of the header, in lower case.
    """
    fields: dict[bytes, list[bytes]] = request.scope["state"][FIELDS_STATE]
    return fields.get(name, ())


def tell_age(request: Request, age_seconds: float) -> None:
    """Tell how old an answer is: as old as the oldest part of it. An error does not tell it."""
    state = request.scope["state"]
    state[_AGE_STATE] = max(int(age_seconds), state.get(_AGE_STATE, 0))

"""Answers requests to fixed paths without the router of FastAPI, which takes longer than such an answer.

FastAPI tries one route after another and resolves a tree of dependencies for each request. A function that takes
nothing but the request needs neither. Its route stays in FastAPI, which describes it and answers other methods.
"""

from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pysequence_api.errors import GatewayError
from pysequence_api.web.errors import answer_error
from pysequence_api.web.query import check_query


class DirectRoutes:
    """Answers GET where the function of the route, and all its checks, take the request alone.

    Args:
        app: the application.
        routes: the routes of the application.
        answer_others: answers everything else.
    """

    def __init__(self, app: FastAPI, routes: Iterable[APIRoute], answer_others: ASGIApp) -> None:
        self._app = app
        self._answer_others = answer_others
        self._routes = {route.path: route for route in routes if "GET" in (route.methods or ()) and _is_direct(route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        route = self._routes.get(scope["path"]) if is_get else None
        if route is None:
            await self._answer_others(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, route
        request = Request(scope, receive, send)
        try:
            await check_query(request)
            for check in route.dependant.dependencies:
                await check.call(request)  # type: ignore[misc]  # see `_is_direct`
            answer = await route.endpoint(request)
        except (GatewayError, RequestValidationError) as error:
            answer = await answer_error(request, error)
        await answer(scope, receive, send)


def _is_direct(route: APIRoute) -> bool:
    functions = [route.endpoint, *(check.call for check in route.dependant.dependencies)]
    return all(function is not None and _takes_request_alone(function) for function in functions)


def _takes_request_alone(function: Callable[..., Any]) -> bool:
    return [one.annotation for one in signature(function).parameters.values()] == [Request]

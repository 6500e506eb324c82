"""The GraphQL engine: a document in, ``{"data": ...}`` or ``{"errors": ..., "data": null}`` out.

The answers are Sequence's, not a library's: with any error there is no data, and an error is only its message
(upstream-graphql, The endpoint).
"""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from ariadne import load_schema_from_path, make_executable_schema
from graphql import DocumentNode, GraphQLError, execute_sync, parse, validate
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from pysequence_api.sandbox.resolvers import BINDABLES, Context

_logger = logging.getLogger(__name__)
_REMEMBERED_DOCUMENTS = 64
SCHEMA = make_executable_schema(
    load_schema_from_path(str(Path(__file__).with_name("schema.graphql"))), *BINDABLES, convert_names_case=True
)


class GraphqlRequest(BaseModel):
    """The JSON body (upstream-graphql, The endpoint)."""

    model_config = ConfigDict(strict=True)

    query: str
    variables: dict[str, JsonValue] | None = None
    operation_name: str | None = Field(None, alias="operationName")


def execute(request: GraphqlRequest, context: Context) -> dict[str, Any]:
    """Check a document against the schema and run its operation.

    Args:
        request: the document, its variables and which operation.
        context: the ledger that it works on.

    Returns:
        The body of the answer.
    """
    if not request.operation_name:
        return _failure(["Must provide operation name."])
    document = _checked(request.query)
    if isinstance(document, tuple):
        return _failure(list(document))
    result = execute_sync(
        SCHEMA,
        document,
        context_value=context,
        variable_values=request.variables,
        operation_name=request.operation_name,
    )
    if result.errors:
        return _failure([_message(error) for error in result.errors])
    return {"data": result.data}


@lru_cache(maxsize=_REMEMBERED_DOCUMENTS)
def _checked(text: str) -> DocumentNode | tuple[str, ...]:
    """Parse and validate a document: the document, or what is wrong with it."""
    try:
        document = parse(text)
        errors = validate(SCHEMA, document)
    except GraphQLError as error:
        return (error.message,)
    except RecursionError:
        return ("The document is nested too deeply.",)
    return tuple(error.message for error in errors) or document


def _message(error: GraphQLError) -> str:
    cause = error.original_error
    if cause is None or isinstance(cause, GraphQLError):
        return error.message
    _logger.error("a resolver failed", exc_info=cause)
    return "Internal server error"


def _failure(messages: list[str]) -> dict[str, Any]:
    return {"errors": [{"message": message} for message in messages], "data": None}

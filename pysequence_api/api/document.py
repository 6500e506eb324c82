"""The OpenAPI document: what FastAPI makes of the routes, and what it leaves out.

That is: the headers of answers, request bodies as named components, and an example for each route. The examples are
answers of the sandbox; ``tests/api/test_examples.py`` writes them, and holds them against today's answers.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from pysequence_api.web.access import HEALTH_PATH, KEY_SCHEMES
from pysequence_api.web.errors import HEADERS, Error

EXAMPLES_PATH = Path(__file__).with_name("examples.json")
REQUEST_ID = "X-Request-ID"
_METHODS = {"get", "head", "post", "put", "patch", "delete"}


class DescribedApi(FastAPI):
    """An application with a whole OpenAPI document, which is made when somebody asks for it."""

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        if self.openapi_schema is None:
            document = super().openapi()
            examples = json.loads(EXAMPLES_PATH.read_bytes())
            components = document["components"]
            components["headers"] = HEADERS
            error = Error.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
            for field in error["properties"].values():
                field.pop("default", None)  # a field that is left out has no value
            components["schemas"] |= error.pop("$defs") | {Error.__name__: error}
            components["securitySchemes"] = KEY_SCHEMES
            for path, item in document["paths"].items():
                if path != HEALTH_PATH:
                    for operation in item.values():
                        operation["security"] = [{name: []} for name in KEY_SCHEMES]
            for operation in operations(document):
                _name_body(operation, components["schemas"])
                for answer in operation["responses"].values():
                    answer.setdefault("headers", {})[REQUEST_ID] = {"$ref": f"#/components/headers/{REQUEST_ID}"}
                _add_examples(operation, examples.get(operation["operationId"], {}))
            components["schemas"] = dict(sorted(components["schemas"].items()))
        return self.openapi_schema or {}


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every operation of an OpenAPI document."""
    for path in document["paths"].values():
        yield from (operation for method, operation in path.items() if method in _METHODS)


def _name_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move the schema of a body, and what it refers to, to the components."""
    media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = media.get("schema", {})
    if "title" in schema:
        schemas |= schema.pop("$defs", {})
        schemas[schema["title"]] = schema
        media["schema"] = {"$ref": f"#/components/schemas/{schema['title']}"}


def _add_examples(operation: dict[str, Any], examples: dict[str, Any]) -> None:
    """Add the request and the answers of one route as the sandbox had them."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in examples.get("parameters", {}):
            parameter["example"] = examples["parameters"][parameter["name"]]
    if "body" in examples:
        operation["requestBody"]["content"]["application/json"]["example"] = examples["body"]
    for status, answer in examples.get("answers", {}).items():
        kind = "application/json" if not isinstance(answer, str) else "text/plain"
        operation["responses"][status]["content"][kind]["example"] = answer

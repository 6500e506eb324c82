"""Every answer matches the OpenAPI schema."""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.strategies import one_of
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from pysequence_api.errors import Code
from pysequence_api.records.states import State
from tests.api.server import Server
from tests.world import API_KEY

MAX_EXAMPLES = 25
AnyCase = schemathesis.Case[Any]
HEADERS = {"X-API-Key": API_KEY}
load_all_checks()


@pytest.fixture(scope="module")
def api_schema(sandbox_server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{sandbox_server.url}/openapi.json", headers=HEADERS)


FREEZE = ("post", "/api/freeze")
ROUTES = {
    ("get", "/api/attempts"),
    ("get", "/api/attempts/{attempt_id}"),
    ("get", "/api/health"),
    ("get", "/api/pods"),
    ("get", "/api/pods/balance"),
    ("get", "/api/pods/{pod_name}/balance"),
    ("get", "/api/pods/detail/{pod_id}"),
    ("get", "/api/pods/{org_id}/{pod_id}"),
    ("get", "/api/accounts"),
    ("get", "/api/accounts/find"),
    ("get", "/api/activity/summary"),
    ("get", "/api/activity"),
    ("get", "/api/activity/totals"),
    ("get", "/api/transfers/{transfer_id}"),
    ("get", "/api/activity/{org_id}/{transfer_id}"),
    ("post", "/api/transfers"),
    ("post", "/api/transfers/preview"),
    ("get", "/api/limits"),
    ("get", "/metrics"),
    FREEZE,
}


MAX_QUERY_CHARACTERS = 4_000


def no_server_error(ctx: schemathesis.CheckContext, response: schemathesis.Response, case: AnyCase) -> bool | None:
    """Allow 502 for an invalid KYC id: only Sequence can reject it."""
    body = case.body if isinstance(case.body, dict) else {}
    if response.status_code == 502 and body.get("kyc_id"):
        return None
    return not_a_server_error(ctx, response, case)


CHECKS = [
    no_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.ignored_auth,
]


# The freeze comes last: no transfer is possible after it.
@pytest.mark.parametrize(("method", "path"), [*sorted(ROUTES - {FREEZE}), FREEZE])
def test_answers_match_the_schema(api_schema: Any, sandbox_server: Server, method: str, path: str) -> None:
    operation = api_schema[path][method]
    has_input = any(operation.iter_parameters()) or operation.body
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if has_input else [GenerationMode.POSITIVE]

    @given(case=one_of([operation.as_strategy(mode) for mode in modes]))
    @settings(max_examples=MAX_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: AnyCase) -> None:
        assume(len(str(case.query or "")) < MAX_QUERY_CHARACTERS)  # the server closes the connection on a longer head
        case.call_and_validate(base_url=sandbox_server.url, headers=HEADERS, checks=CHECKS)

    check()


@pytest.mark.parametrize(("method", "path"), sorted(route for route in ROUTES if "{" in route[1]))
def test_answers_about_existing_ids_match_the_schema(
    api_schema: Any, sandbox_server: Server, method: str, path: str
) -> None:
    with httpx.Client(base_url=sandbox_server.url, headers=HEADERS, trust_env=False) as client:
        pod = client.get("/api/pods").json()[0]
        transfer = client.get("/api/activity").json()["transfers"][0]
        order = {"source_id": pod["id"], "destination_id": client.get("/api/pods").json()[1]["id"], "amount_cents": 100}
        attempt = client.post("/api/transfers", json=order).json()
    known = {
        "pod_name": pod["name"],
        "pod_id": pod["id"],
        "org_id": pod["organization_id"],
        "transfer_id": transfer["id"],
        "attempt_id": attempt["attempt_id"],
    }
    case = api_schema[path][method].Case(path_parameters={name: known[name] for name in known if f"{{{name}}}" in path})
    answer = case.call_and_validate(base_url=sandbox_server.url, headers=HEADERS, checks=CHECKS)
    assert answer.status_code == 200


@pytest.fixture(scope="module")
def document(sandbox_server: Server) -> dict[str, Any]:
    """The OpenAPI schema."""
    found: dict[str, Any] = httpx.get(f"{sandbox_server.url}/openapi.json", headers=HEADERS, trust_env=False).json()
    return found


def test_routes_are_described(document: dict[str, Any]) -> None:
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == ROUTES
    assert len({operation["operationId"] for operation in operations.values()}) == len(ROUTES)
    for (_, path), operation in operations.items():
        assert operation["description"]
        assert operation["tags"]
        answers = operation["responses"]
        assert "500" in answers
        if path != "/api/health":
            assert operation["security"] == [{"APIKeyHeader": []}]
            assert {"401", "500"} <= set(answers)
            assert path == "/metrics" or "503" in answers
        for status, answer in answers.items():
            name = {"200": None, "401": "Unauthorized", "422": "InvalidRequest"}.get(status, "Error")
            if name:
                assert answer["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
    transfer = operations["post", "/api/transfers"]
    assert {"400", "401", "403", "408", "409", "413", "422", "429", "502", "503"} <= set(transfer["responses"])
    assert transfer["requestBody"]["required"] is True


def test_codes_outcomes_and_retries_are_enumerations(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Code"]["enum"]) == {code.value for code in Code}
    assert set(schemas["Outcome"]["enum"]) == {"nothing_moved", "unknown"}
    assert set(schemas["Retry"]["enum"]) == {"never", "same_key", "new_key", "later"}
    assert set(schemas["State"]["enum"]) == {state.value for state in State}
    for name in ("Error", "InvalidRequest"):
        assert schemas[name]["properties"]["code"] == {"$ref": "#/components/schemas/Code"} | {
            "description": schemas[name]["properties"]["code"]["description"]
        }
        assert {"detail", "code"} <= set(schemas[name]["required"])
    assert set(schemas["Unauthorized"]["properties"]) == {"detail"}


def test_key_is_described(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["APIKeyHeader"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-API-Key")

"""Every answer matches the OpenAPI schema."""

from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.strategies import one_of
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from pysequence_api.api.document import REQUEST_ID, operations
from pysequence_api.errors import Code
from pysequence_api.records.states import State
from tests.api.server import Server
from tests.world import API_KEY

MAX_EXAMPLES = max(6, settings().max_examples // 100)
"""For each route. The profile ``long`` has more."""
AnyCase = schemathesis.Case[Any]
HEADERS = {"X-API-Key": API_KEY}
load_all_checks()


@pytest.fixture(scope="module")
def api_schema(sandbox_server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{sandbox_server.url}/openapi.json", headers=HEADERS)


@pytest.fixture(scope="module")
def document(sandbox_server: Server) -> dict[str, Any]:
    """The OpenAPI schema."""
    found: dict[str, Any] = httpx.get(f"{sandbox_server.url}/openapi.json", headers=HEADERS, trust_env=False).json()
    return found


FREEZE = ("post", "/api/freeze")
ROUTES = {
    ("get", "/api/attempts"),
    ("get", "/api/attempts/{attempt_id}"),
    ("delete", "/api/attempts/{attempt_id}"),
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
    checks.response_headers_conformance,
    checks.ignored_auth,
]


def test_requests_that_follow_links_match_the_schema(
    api_schema: Any, document: dict[str, Any], sandbox_server: Server
) -> None:
    order = document["paths"]["/api/transfers"]["post"]["requestBody"]["content"]["application/json"]["example"]
    linked = api_schema.include(operation_id=["make_transfer", "get_attempt", "get_transfer"])
    seen = set()

    class Calls(linked.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: AnyCase) -> None:
            if case.operation.label == "POST /api/transfers":
                case.body = order
            if case.query:
                case.query.pop("wait_seconds", None)  # longer than this client waits for an answer

        def get_call_kwargs(self, case: AnyCase) -> dict[str, Any]:  # noqa: ARG002 - the name is part of the interface
            return {"base_url": sandbox_server.url, "headers": HEADERS}

        def validate_response(self, response: Any, case: AnyCase, **_: Any) -> None:
            seen.add((case.operation.label, response.status_code))
            case.validate_response(response, checks=CHECKS)

    Calls.run(
        settings=settings(
            max_examples=6,
            stateful_step_count=4,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
    )
    assert {("POST /api/transfers", 200), ("GET /api/attempts/{attempt_id}", 200)} <= seen
    assert ("GET /api/transfers/{transfer_id}", 200) in seen


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


@pytest.mark.parametrize(("method", "path"), sorted(route for route in ROUTES if "{" in route[1] and route[0] == "get"))
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
            assert REQUEST_ID in answer["headers"]
            if int(status) >= 400:
                assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    transfer = operations["post", "/api/transfers"]
    assert {"400", "401", "403", "408", "409", "413", "422", "429", "502", "503"} <= set(transfer["responses"])
    assert transfer["requestBody"]["required"] is True


def test_codes_outcomes_and_retries_are_enumerations(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Code"]["enum"]) == {code.value for code in Code}
    assert set(schemas["Outcome"]["enum"]) == {"nothing_moved", "unknown"}
    assert set(schemas["Retry"]["enum"]) == {"never", "same_key", "new_key", "later"}
    assert set(schemas["State"]["enum"]) == {state.value for state in State}
    error = schemas["Error"]["properties"]
    for name, enumeration in {"code": "Code", "outcome": "Outcome", "retry": "Retry"}.items():
        assert error[name]["$ref"] == f"#/components/schemas/{enumeration}"
    assert schemas["Error"]["required"] == ["detail"]  # 401 has nothing else


def test_words_of_sequence_are_open_enumerations(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    transfer = schemas["Transfer"]["properties"]
    for field, name in {"status": "TransferStatus", "direction": "Direction", "activity_type": "ActivityType"}.items():
        assert transfer[field]["anyOf"] == [{"$ref": f"#/components/schemas/{name}"}, {"type": "null"}]
        known, others = schemas[name]["anyOf"]
        assert known["enum"]
        assert others == {"type": "string"}  # a client that is generated from it accepts a word that is not listed


def test_every_route_has_a_valid_example(document: dict[str, Any]) -> None:
    for operation in operations(document):
        name = operation["operationId"]
        for status, answer in operation["responses"].items():
            for media in answer["content"].values():
                assert "example" in media or status != "200" or "application/json" not in answer["content"], name
                if "example" in media:
                    validate(document, media)
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert set(media["schema"]) == {"$ref"}
            validate(document, media)


def validate(document: dict[str, Any], media: dict[str, Any]) -> None:
    schema = media["schema"] | {"components": document["components"]}
    jsonschema.validate(media["example"], schema, jsonschema.Draft202012Validator)


def test_links_lead_from_a_transfer_to_its_attempt(document: dict[str, Any]) -> None:
    names = {operation["operationId"]: operation for operation in operations(document)}
    links = {
        (name, status): set(answer["links"])
        for name, operation in names.items()
        for status, answer in operation["responses"].items()
        if "links" in answer
    }
    assert links["make_transfer", "200"] == {"get_attempt", "get_transfer"}
    assert links["make_transfer", "502"] == links["make_transfer", "202"] == {"get_attempt"}
    assert links["get_attempt", "200"] == {"get_transfer"}
    for targets in links.values():
        assert targets <= set(names)


def test_document_names_server_and_headers(document: dict[str, Any]) -> None:
    assert [server["url"] for server in document["servers"]] == ["/"]
    assert document["info"]["contact"]
    described = {
        header for one in operations(document) for answer in one["responses"].values() for header in answer["headers"]
    }
    assert described == set(document["components"]["headers"])
    transfer = document["paths"]["/api/transfers"]["post"]["responses"]
    assert {"Retry-After", "Idempotency-Replayed"} <= set(transfer["409"]["headers"])

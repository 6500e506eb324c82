"""Request ids, the line in the log, and failures that nobody foresaw."""

import logging
import re

import pytest

from pysequence_api.errors import GatewayError
from tests.api.conftest import KEY, Api

pytestmark = pytest.mark.anyio
LINE = re.compile(r"[A-Z]+ \S+ [0-9]{3} [0-9]+ ms \(upstream [0-9]+ ms\) from \S+ [A-Za-z0-9._-]+")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/health", 200),
        ("GET", "/api/pods", 200),
        ("GET", "/api/nothing", 404),
        ("GET", "/api/transfers/nothing", 404),
        ("DELETE", "/api/pods", 405),
        ("GET", "/api/activity?first=0", 422),
        ("POST", "/api/transfers", 422),
        ("GET", "/docs", 200),
    ],
)
async def test_every_answer_has_an_id(shared_api: Api, method: str, path: str, status: int) -> None:
    first, second = await shared_api.client.request(method, path), await shared_api.client.request(method, path)
    assert first.status_code == second.status_code == status
    ids = {answer.headers["x-request-id"] for answer in (first, second)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)
    own = await shared_api.client.request(method, path, headers={"X-Request-ID": "my.own_id-7"})
    assert own.headers.get_list("x-request-id") == ["my.own_id-7"]


@pytest.mark.parametrize("value", [b"", b"two words", b"a" * 65, b"line\tbreak", "é".encode(), b'"quoted"', b"a,b"])
async def test_ids_that_are_not_plain_are_replaced(shared_api: Api, value: bytes) -> None:
    answer = await shared_api.client.get("/api/health", headers=[(b"X-Request-ID", value)])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_two_ids_are_replaced(shared_api: Api) -> None:
    answer = await shared_api.client.get("/api/health", headers=[("X-Request-ID", "a"), ("X-Request-ID", "b")])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_one_line_for_each_request(shared_api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pysequence_api.api")
    paths = {
        "/api/pods/Rent/balance?secret=1": "/api/pods/{pod_name}/balance",
        "/api/transfers/some-id?secret=2": "/api/transfers/{transfer_id}",
        "/api/nothing%0Aelse?secret=3": "/api/nothing%0Aelse",
        "/api/health": "/api/health",
    }
    for path in paths:
        await shared_api.client.get(path, headers={"X-Request-ID": "this-one"})
    lines = [record.getMessage() for record in caplog.records if record.name == "pysequence_api.api"]
    assert [line.split()[1] for line in lines] == list(paths.values())
    assert all(LINE.fullmatch(line) and line.endswith(" this-one") for line in lines)
    assert "secret" not in "".join(lines)
    assert KEY not in "".join(lines)


async def test_a_failure_that_nobody_foresaw(
    shared_api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError("the account number is 123456789")

    monkeypatch.setattr(type(shared_api.gateway.client), "activity_summary", fail)
    answer = await shared_api.client.get("/api/activity/summary", headers={"X-Request-ID": "this-one"})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal error (request this-one); the server's log has more."}
    assert answer.headers["x-request-id"] == "this-one"
    assert "ZeroDivisionError" in caplog.text


async def test_errors_know_their_answers(shared_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [GatewayError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    for kind in kinds:

        async def fail(*_: object, kind: type[GatewayError] = kind) -> None:
            raise kind("What to do.", attempt_id="attempt", retry_after_seconds=7)

        monkeypatch.setattr(type(shared_api.gateway.client), "activity_summary", fail)
        answer = await shared_api.client.get("/api/activity/summary")
        assert answer.status_code == kind.status
        assert answer.json()["detail"] == "What to do. (attempt attempt)"
        assert answer.headers["retry-after"] == "7"

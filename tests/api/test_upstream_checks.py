"""`doctor` makes every read that the program depends on, and tells what is wrong with each."""

from typing import Any

import pytest

from pysequence_api.doctor.finding import Finding
from pysequence_api.doctor.reads import read_everything
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.graphql.documents import Operation
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

READS = {
    "accounts": Operation.ACCOUNTS,
    "pod": Operation.POD,
    "activity": Operation.ACTIVITY,
    "transfer": Operation.TRANSFER,
}
INVALID = {
    "kind": "status",
    "status": 400,
    "body": {"errors": [{"message": 'Cannot query field "name" on type "Pod"'}]},
}


async def read(world: World, organization_id: str | None = ORGANIZATION_ID) -> list[Finding]:
    return await read_everything(world.gateway.client, organization_id)


async def test_every_read_is_made(world: World) -> None:
    for organization_id in (ORGANIZATION_ID, None):
        world.sandbox.journal.clear()
        (finding,) = await read(world, organization_id)
        assert finding.level == "ok"
        assert [request.operation for request in world.requests()] == list(READS.values())
    assert {*READS.values(), Operation.SUMMARY, Operation.CREATE_PAYMENT} == set(Operation)


async def test_a_read_that_fails_is_a_problem(world: World) -> None:
    for name, operation in READS.items():
        world.fail(INVALID, operation=operation)
        (finding,) = await read(world)
        assert (finding.level, finding.exit_code) == ("problem", 4)
        assert finding.said.startswith(f"{name}: ")
        assert "Update" in finding.fix


@pytest.mark.parametrize("fault", ["garbage", {"kind": "html", "status": 403}, {"kind": "redirect"}], ids=str)
async def test_every_problem_is_reported(world: World, fault: Any) -> None:
    world.fail(fault, operation="*", count=10)
    findings = await read(world)
    assert [finding.said.split(":")[0] for finding in findings] == ["accounts", "activity"]
    assert all(finding.fix for finding in findings)


async def test_a_made_up_organization_is_a_problem(world: World) -> None:
    (finding,) = await read(world, "nowhere")
    assert (finding.level, finding.exit_code) == ("problem", 2)


async def test_an_incomplete_answer_is_a_warning(world: World) -> None:
    for name, path in (
        ("accounts", "me.memberships.1.organization.pods.0.name"),
        ("pod", "organization.pod.transferReferences"),
        ("activity", "organization.transferReferences.pageInfo"),
        ("transfer", "organization.transferReference.details"),
    ):
        world.fail({"kind": "values", "paths": [path], "value": 5}, operation=READS[name])
        (finding,) = await read(world)
        assert finding.level == "warning"
        assert finding.said.startswith(f"{name}: ")


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 429}, {"kind": "status", "status": 401}], ids=str)
async def test_without_access_nothing_is_tried(world: World, fault: Any) -> None:
    world.fail(fault, operation="*", count=10)
    world.sandbox.journal.clear()
    (finding,) = await read(world)
    assert finding.level == "warning"
    assert len(world.requests()) == 1

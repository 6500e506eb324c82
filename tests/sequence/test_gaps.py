"""One bad entry spoils only itself: its field is null, the answer is marked as incomplete, and a warning names it."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pysequence_api.account.names import find_counterparty, find_pod, find_pod_by_name
from pysequence_api.account.totals import total_of
from pysequence_api.errors import GraphQLError, NotFoundError, UnreadableAnswerError
from pysequence_api.models import Accounts
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.nodes import MAX_GAPS, Gaps
from tests.sequence.conftest import DESTINATION_ID, ClientWorld, order_of, transfer

pytestmark = pytest.mark.anyio

ACCOUNTS = "SelectSourceAndDestination"
PODS = "me.memberships.0.organization.pods"
EDGES = "organization.transferReferences.edges"
Read = Callable[[GraphQLSequenceClient], Awaitable[Any]]


async def read_transfer(client: GraphQLSequenceClient) -> Any:
    page = await client.activity(ORGANIZATION_ID, first=1)
    return await client.transfer_detail(ORGANIZATION_ID, page.transfers[0].id)


READS: dict[str, tuple[Read, str, Callable[[Any], object]]] = {
    ACCOUNTS: (lambda client: client.accounts(), f"{PODS}.0.metadata", lambda found: found.pods[0].balance_cents),
    "PodDrawerContent": (
        lambda client: client.pod_detail(ORGANIZATION_ID, DESTINATION_ID),
        "organization.pod.metadata",
        lambda found: found.balance_cents,
    ),
    "ActivitySummary": (
        lambda client: client.activity_summary(),
        "activitySummary.totalIncomingFundsInCents",
        lambda found: found.total_incoming_cents,
    ),
    "ActivityLogV2Transfers": (
        lambda client: client.activity(ORGANIZATION_ID),
        f"{EDGES}.0.node.amount",
        lambda found: found.transfers[0].amount_cents,
    ),
    "TransferReferenceDrawerContentV2": (
        read_transfer,
        "organization.transferReference.amount",
        lambda found: found.amount_cents,
    ),
}
"""Each read, with a field of its answer and where that is shown."""
SUBJECTS = {
    "PodDrawerContent": ["organization", "pod"],
    "ActivitySummary": ["activitySummary"],
    "ActivityLogV2Transfers": ["organization", "transferReferences"],
    "TransferReferenceDrawerContentV2": ["organization", "transferReference"],
    ACCOUNTS: ["me", "memberships"],
}


def error_beside(*, path: list[str] | None, message: str = "Internal server error") -> dict[str, Any]:
    return {"kind": "graphql_error", "message": message, "path": path, "keep_data": True}


@pytest.mark.parametrize("operation", READS)
async def test_a_field_that_cannot_be_read_is_null(
    world: ClientWorld, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    read, path, shown = READS[operation]
    client = world.client()
    whole = await read(client)
    assert whole.complete
    assert shown(whole) is not None
    null = {"kind": "nulls", "paths": [path]}
    for fault, *effects in (
        ("a wrong type", {"kind": "values", "paths": [path], "value": "nonsense"}),
        ("an error", null, error_beside(path=path.split("."))),
        ("an error without a path", null, error_beside(path=None)),
    ):
        caplog.clear()
        world.fail(*effects, operation=operation, when="after")
        found = await read(client)
        assert shown(found) is None, fault
        assert not found.complete, fault
        warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1, fault
        assert operation in warnings[0]
        assert (path in warnings[0]) == (fault != "an error without a path")
        assert await read(client) == whole


async def test_a_gap_that_stays_is_logged_once(world: ClientWorld, caplog: pytest.LogCaptureFixture) -> None:
    client = world.client()
    for value in ("nonsense", "nonsense", None, "nonsense"):
        if value:
            world.fail({"kind": "values", "paths": [f"{PODS}.0.name"], "value": 5}, operation=ACCOUNTS)
        await client.accounts()
    assert caplog.text.count(f"{PODS}.0.name") == 2


async def test_an_entry_that_cannot_be_read_is_left_out(world: ClientWorld) -> None:
    client = world.client()
    whole = await client.accounts()
    values: tuple[object, ...] = (5, "text", [], {}, {"id": 5}, {"id": ""})
    for value in values:
        world.fail({"kind": "values", "paths": [f"{PODS}.1"], "value": value}, operation=ACCOUNTS)
        found = await client.accounts()
        assert found.pods == whole.pods[:1] + whole.pods[2:], value
        assert (found.complete, total_of(found).complete) == (False, False), value
        world.fail({"kind": "values", "paths": [f"{EDGES}.1"], "value": value}, operation="ActivityLogV2Transfers")
        page = await client.activity(ORGANIZATION_ID, first=3)
        assert (len(page.transfers), page.complete) == (2, False), value


@pytest.mark.parametrize("operation", SUBJECTS)
async def test_an_answer_without_what_was_asked_for_is_an_error(world: ClientWorld, operation: str) -> None:
    read, _, _ = READS[operation]
    client = world.client()
    missing = {"kind": "nulls", "paths": [".".join(SUBJECTS[operation])]}
    world.fail(missing, error_beside(path=list(SUBJECTS[operation])), operation=operation, when="after")
    with pytest.raises(GraphQLError):
        await read(client)


POD_ERRORS: list[tuple[list[str] | None, str, bool]] = [
    (["organization", "pod"], "Pod not found", True),
    (["organization"], "Organization not found", True),
    (None, "Pod not found", True),
    (["organization", "pod", "liabilityMetadata"], "Institution not found", False),
    (["organization", "pod"], "Internal server error", False),
]


async def test_only_an_error_about_the_pod_says_that_there_is_none(world: ClientWorld) -> None:
    client = world.client()
    for path, message, is_missing in POD_ERRORS:
        world.fail(
            {"kind": "nulls", "paths": ["organization.pod"]},
            error_beside(path=path, message=message),
            operation="PodDrawerContent",
            when="after",
        )
        with pytest.raises(NotFoundError if is_missing else GraphQLError):
            await client.pod_detail(ORGANIZATION_ID, DESTINATION_ID)


async def test_not_found_beside_the_pod_is_a_gap(world: ClientWorld) -> None:
    error = error_beside(path=["organization", "pod", "icon"], message="Icon not found")
    world.fail(error, operation="PodDrawerContent", when="after")
    pod = await world.client().pod_detail(ORGANIZATION_ID, DESTINATION_ID)
    assert (pod.name, pod.complete) == ("Rent", False)


async def test_gaps_of_other_organizations_do_not_matter(world: ClientWorld) -> None:
    client = world.client()
    whole = await client.accounts(ORGANIZATION_ID)
    other = "me.memberships.1.organization.pods.0.name"
    for organization_id, complete in ((ORGANIZATION_ID, True), (None, False)):
        world.fail({"kind": "values", "paths": [other], "value": 5}, operation=ACCOUNTS)
        found = await client.accounts(organization_id)
        assert found.complete == complete
        if complete:
            assert found == whole
    # What may be in the list after all does not exist only if the list is whole.
    world.fail({"kind": "values", "paths": [other], "value": 5}, operation=ACCOUNTS)
    with pytest.raises(NotFoundError):
        await client.accounts("nowhere")
    world.fail({"kind": "values", "paths": ["me.memberships.1.organization.id"], "value": 5}, operation=ACCOUNTS)
    found = await client.accounts("nowhere")
    assert (found.pods, found.complete) == ((), False)


async def test_kyc_ids_that_cannot_be_read_are_unknown(world: ClientWorld) -> None:
    client = world.client()
    assert (await client.accounts()).kyc_ids
    for step in ("kycs", "kycs", "kycs.0", "kycs.0.id"):
        world.fail(
            {"kind": "values", "paths": [f"me.memberships.0.organization.{step}"], "value": True}, operation=ACCOUNTS
        )
        found = await client.accounts()
        assert (found.kyc_ids, found.complete) == (None, True)


async def test_the_total_of_what_is_left_out_is_unknown(world: ClientWorld) -> None:
    paths = [f"me.memberships.{number}.organization.pods" for number in (0, 1)]
    world.fail({"kind": "values", "paths": paths, "value": "nonsense"}, operation=ACCOUNTS)
    accounts = await world.client().accounts()
    total = total_of(accounts)
    assert accounts.ports
    assert (total.total_balance_cents, total.complete) == (None, False)


async def test_an_incomplete_list_proves_no_absence(world: ClientWorld) -> None:
    client = world.client()
    whole = await client.accounts()
    left_out = whole.pods[0]
    world.fail({"kind": "values", "paths": [f"{PODS}.0.id"], "value": 5}, operation=ACCOUNTS)
    partial: Accounts = await client.accounts()
    assert find_pod_by_name(whole.pods[1].name or "", partial.pods, complete=False) == whole.pods[1]
    for wanted in (left_out.name or "", "no such pod at all"):
        with pytest.raises(UnreadableAnswerError):
            find_pod_by_name(wanted, partial.pods, complete=partial.complete)
        with pytest.raises(UnreadableAnswerError):
            find_pod(wanted, partial.pods, complete=partial.complete)
        with pytest.raises(UnreadableAnswerError):
            find_counterparty(wanted, partial, None)


async def test_a_transfer_with_a_gap_is_not_recognized(world: ClientWorld) -> None:
    client = world.client()
    for key in ("source", "amount", "createdAt", "activityType", "description"):
        path = f"{EDGES}.0.node.{key}"
        world.fail({"kind": "values", "paths": [path], "value": True}, operation="ActivityLogV2Transfers")
        page = await client.activity(ORGANIZATION_ID, first=3)
        assert [one.is_recognizable for one in page.transfers] == [False, True, True], key
        beside = error_beside(path=[*EDGES.split("."), "1", "node", key])
        world.fail(beside, operation="ActivityLogV2Transfers", when="after")
        page = await client.activity(ORGANIZATION_ID, first=3)
        assert [one.is_recognizable for one in page.transfers] == [True, False, True], key
        assert "is_recognizable" not in page.transfers[0].model_dump()


async def test_an_ok_with_gaps_is_an_ok(world: ClientWorld) -> None:
    base = "forKYC.createPayment.ok.organization"
    for path in ("id", "transferReferences", "transferReferences.edges.0", "transferReferences.edges.0.node.amount"):
        world.fail({"kind": "values", "paths": [f"{base}.{path}"], "value": True}, when="after")
        receipt = await transfer(world.client(), order_of())
        assert receipt.organization_id == (None if path == "id" else ORGANIZATION_ID)


def test_gaps_without_end_take_little_room() -> None:
    gaps = Gaps()
    for number in range(100_000):
        gaps.add(("list", str(number), "x" * 1000), "not\na <b>text")
    assert len(gaps.paths) <= MAX_GAPS + 1
    assert gaps.touch(("something", "else"))
    assert len(str(gaps)) < 1000
    assert "\n" not in str(gaps)

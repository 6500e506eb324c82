"""Everything that a name can mean, best first, and whether one of it is meant for certain."""

from pathlib import Path

import pytest

from pysequence_api.account.find import find_accounts
from pysequence_api.models import AccountType, Match
from tests.account.test_names import ACCOUNTS
from tests.world import open_world


@pytest.mark.parametrize(
    ("wanted", "match", "candidates"),
    [
        ("Rent", "p-1", [("p-1", Match.EXACT), ("p-2", Match.PART)]),
        ("RENT ", "p-1", [("p-1", Match.CASE), ("p-2", Match.PART)]),
        ("cafe\u0301 ☕", "p-5", [("p-5", Match.CASE)]),
        ("reserve", None, [("p-2", Match.PART)]),
        ("p-1", "p-1", [("p-1", Match.ID), ("p-7", Match.EXACT)]),  # an id takes precedence over a name
        ("a-2", "a-2", [("a-2", Match.ID)]),
        ("checking", None, [("p-8", Match.CASE), ("a-1", Match.CASE)]),
        ("Salery", None, [("i-1", Match.SIMILAR)]),
        ("nothing like it", None, []),
        ("  ", None, []),
    ],
)
def test_candidates_are_ranked_and_only_an_id_or_one_full_name_is_a_match(
    wanted: str, match: str | None, candidates: list[tuple[str, Match]]
) -> None:
    found = find_accounts(wanted, ACCOUNTS)
    assert found.match == match
    assert [(one.id, one.matched) for one in found.candidates] == candidates


def test_a_candidate_has_its_type_and_balance() -> None:
    port, account = (find_accounts(name, ACCOUNTS).candidates[-1] for name in ("salary", "checking"))
    assert (port.type, port.balance_cents, port.can_be_source) == (AccountType.PORT, 5, None)
    assert (account.type, account.balance_cents, account.can_be_source) == (AccountType.ACCOUNT, 7, False)


def test_what_was_left_out_could_be_another_candidate() -> None:
    assert not find_accounts("rent", ACCOUNTS.model_copy(update={"complete": False})).complete


@pytest.mark.anyio
async def test_one_call_finds_a_balance(tmp_path: Path, upstream: str) -> None:
    async with open_world(tmp_path, upstream=upstream) as world, world.http() as client:
        before = len(world.requests())
        found = (await client.get("/api/accounts/find", params={"name": "groceries"})).json()
        assert len(world.requests()) - before <= 2
        [candidate] = found["candidates"]
        assert (found["match"], found["complete"]) == (candidate["id"], True)
        assert (candidate["type"], candidate["matched"], candidate["balance"]) == ("POD", "case", "$876.43")
        many = (await client.get("/api/accounts/find", params={"name": "a"})).json()
        assert many["match"] is None
        assert len(many["candidates"]) > 5
        assert {one["type"] for one in many["candidates"]} == {"POD", "PORT", "ACCOUNT"}
        nothing = await client.get("/api/accounts/find", params={"name": "xyzzy"})
        assert (nothing.status_code, nothing.json()) == (200, {"match": None, "candidates": [], "complete": True})

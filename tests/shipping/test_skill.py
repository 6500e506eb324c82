"""The skill: agents can load it, and its commands work against a server on the sandbox."""

import json
import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from pysequence_api.account.preview import Verdict
from pysequence_api.api.schema import openapi_schema
from pysequence_api.api.transfers import TransferRequest
from pysequence_api.errors import Code, Retry
from pysequence_api.records.states import State
from tests.shipping.conftest import Site
from tests.shipping.documented import Block, blocks_of, section_of, shell_blocks, table_rows
from tests.shipping.files import REFERENCES, SKILL

MAX_TOKENS, CHARACTERS_PER_TOKEN = 1000, 4
MAX_NAME_CHARACTERS, MAX_DESCRIPTION_CHARACTERS, MAX_COMPATIBILITY_CHARACTERS = 64, 1024, 500


@pytest.fixture(scope="module")
def front() -> dict[str, Any]:
    """The front matter of the skill."""
    matter = re.match(r"---\n(.*?)\n---\n", SKILL.read_text(), re.DOTALL)
    assert matter is not None
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(matter[1])
    return document


def test_front_matter_follows_the_format(front: dict[str, Any]) -> None:
    assert front["name"] == SKILL.parent.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", front["name"])
    assert len(front["name"]) <= MAX_NAME_CHARACTERS
    assert 0 < len(front["description"]) <= MAX_DESCRIPTION_CHARACTERS
    assert 0 < len(front["compatibility"]) <= MAX_COMPATIBILITY_CHARACTERS
    assert set(front) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}


def test_front_matter_names_what_the_commands_need(front: dict[str, Any]) -> None:
    """OpenClaw loads the skill only if all of this is available."""
    needs = front["metadata"]["openclaw"]
    shell = "".join(block.text for block in blocks_of(SKILL))
    assert set(needs["requires"]["env"]) == set(re.findall(r"\$(SEQUENCE_\w+)", shell))
    assert needs["primaryEnv"] == "SEQUENCE_API_KEY"
    assert {line.split()[0] for block in blocks_of(SKILL) for line in block.commands} == set(needs["requires"]["bins"])


@pytest.mark.parametrize("block", shell_blocks(SKILL))
def test_commands_succeed(site: Site, block: Block) -> None:
    assert block.runnable == block.commands
    output = site.run_block(block)
    assert output
    assert '"detail"' not in output


def test_the_same_key_moves_money_once(site: Site) -> None:
    block = next(block for block in blocks_of(SKILL) if "-X POST" in block.text)
    first, second = (json.loads(site.run_block(block)) for _ in range(2))
    assert first["id"]
    same = ("id", "attempt_id", "amount_cents", "daily_remaining_cents")
    assert [first[name] for name in same] == [second[name] for name in same]


def test_it_is_short_and_names_each_reference() -> None:
    """An agent carries all of it along, and reads a reference when it needs that."""
    text = SKILL.read_text()
    assert len(text) < MAX_TOKENS * CHARACTERS_PER_TOKEN
    assert {SKILL.parent / name for name in re.findall(r"\]\((references/.+?)\)", text)} == set(REFERENCES) != set()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 502, 503])
def test_the_table_of_errors_has_every_status(status: int) -> None:
    assert re.search(rf"^\| {status}\b", (SKILL.parent / "references" / "errors.md").read_text(), re.MULTILINE)


def test_the_references_name_what_exists() -> None:
    """A filter, a field, a state, a verdict or a route that the program does not have would cost an agent a call."""
    text = "".join(page.read_text() for page in (SKILL, *REFERENCES))
    document = openapi_schema()
    paths = set(re.findall(r"`(?:GET|POST|DELETE) (/api/[^`?]*)", text))
    assert paths <= set(document["paths"])
    operation = document["paths"]["/api/activity"]["get"]
    filters = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
    assert first_cells("reading.md", "Filters of the activity") == filters - {"org_id"}
    fields = set(TransferRequest.model_fields) - {"kyc_id"}
    assert first_cells("transfers.md", "The body") == fields
    assert first_cells("transfers.md", "What became of it") == {*State}
    verdicts = section_of(SKILL.parent / "references" / "transfers.md", "Look before a transfer")
    assert set(re.findall(r"^\* `(\w+)`:", verdicts, re.MULTILINE)) == {*Verdict}
    assert first_cells("errors.md", "Errors and keys") >= {*Retry}
    codes = {code for row in table_rows(SKILL.parent / "references" / "errors.md", "Errors and keys")
             if row[0].isdigit() for code in re.findall(r"`([a-z]+_?[a-z_]*)`", row[1])}  # fmt: skip
    assert codes <= {*Code}


def first_cells(page: str, title: str) -> set[str]:
    rows = table_rows(SKILL.parent / "references" / page, title)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_the_skill_forbids_splitting_amounts_and_sending_twice() -> None:
    rules = SKILL.read_text().partition("## Never")[2].lower().split("\n* ")[1:]
    assert all(rule.startswith("never ") for rule in rules)
    assert any("split an amount" in rule for rule in rules)
    assert any("again" in rule and "key" in rule for rule in rules)

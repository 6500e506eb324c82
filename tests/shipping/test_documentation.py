"""The documentation is complete and true: its commands run, and its tables match the program."""

import pkgutil
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, SecretStr
from typer.core import TyperGroup
from typer.main import get_command

import pysequence_api
from pysequence_api.cli import app
from pysequence_api.cli.program import LazyCommand, LazyGroup
from pysequence_api.env_files import ENV_FILE
from pysequence_api.errors import GatewayError
from pysequence_api.notify import open_channels
from pysequence_api.safeguards.judge import PolicyCode
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.policy import Breaker, Caller, Policy, Rule, Scope, parse_policy
from pysequence_api.settings import NotifyEvent, Settings
from tests.api.server import free_port
from tests.shipping.conftest import Site, listening
from tests.shipping.documented import Block, blocks_of, policies, section_of, shell_blocks, table_rows
from tests.shipping.files import (
    AGENTS,
    APPROVALS,
    ARCHITECTURE,
    CALLERS,
    DOCKERFILE,
    ERRORS,
    NOTIFICATIONS,
    OPERATIONS,
    OWNERS_PAGE,
    README,
    REFERENCES,
    ROOT,
    SECURITY,
    SKILL,
    UPSTREAM,
    variables,
)
from tests.world import open_world

GUIDES = [AGENTS, APPROVALS, CALLERS, OPERATIONS, OWNERS_PAGE, SECURITY, ERRORS, NOTIFICATIONS]
PAGES = [README, *GUIDES, ARCHITECTURE, *UPSTREAM]
ENTRY_POINT = "pysequence-api"
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


@cache
def commands() -> dict[str, list[set[str]]]:
    """Return every command with the spellings of each option, groups included if they are commands themselves."""

    def below(group: TyperGroup, prefix: str) -> Iterator[tuple[str, list[set[str]]]]:
        context = typer.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert isinstance(command, LazyCommand | LazyGroup)
            command = command.load()
            full_name = f"{prefix} {name}"
            if isinstance(command, TyperGroup):
                yield from below(command, full_name)
            if not isinstance(command, TyperGroup) or getattr(command, "invoke_without_command", False):
                options = [set(parameter.opts) for parameter in command.params if parameter.name != "help"]
                yield full_name, [spellings for spellings in options if min(spellings).startswith("-")]

    tree = get_command(app)
    assert isinstance(tree, TyperGroup)
    return dict(below(tree, ENTRY_POINT))


def documented_commands() -> dict[str, set[str]]:
    """Return every command in the README's table with the options of its row."""
    rows = [row[0] for row in table_rows(README, "Command line") if row[0].startswith(f"`{ENTRY_POINT} ")]
    names = [re.match(rf"`({ENTRY_POINT}(?: [a-z]+)+)", row) for row in rows]
    return {name[1]: set(_OPTION.findall(row)) for name, row in zip(names, rows, strict=True) if name}


def error_classes(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield root
    for below in root.__subclasses__():
        yield from error_classes(below)


async def _schema(directory: Path) -> dict[str, Any]:
    async with open_world(directory) as world, world.http() as client:
        schema: dict[str, Any] = (await client.get("/openapi.json")).json()
        return schema


@pytest.mark.parametrize("block", shell_blocks(*PAGES))
def test_a_shell_block_runs(site: Site, block: Block) -> None:
    site.run_block(block)


@pytest.mark.parametrize(
    "line", [line for path in PAGES for block in blocks_of(path) if block.language == "sh" for line in block.servers]
)
def test_a_server_starts(site: Site, tmp_path: Path, line: str) -> None:
    data = {"SEQUENCE_DATA_DIR": str(tmp_path), "SEQUENCE_SERVER_PORT": str(free_port())}
    with listening(shlex.split(line), site.environment | data, tmp_path) as first_line:
        assert "http://" in first_line


@pytest.mark.parametrize("path", [*PAGES, SKILL, *REFERENCES])
def test_commands_are_only_in_shell_blocks_which_are_run(path: Path) -> None:
    for block in blocks_of(path):
        is_shell = block.language == "sh"
        assert is_shell or not re.search(r"^\s*(\w+=\S+ )*(pysequence-api|curl) ", block.text, re.MULTILINE)


@pytest.mark.parametrize("path", [*PAGES, SKILL, *REFERENCES])
def test_every_command_in_the_text_exists(path: Path) -> None:
    known = commands()
    for words in re.findall(r"`pysequence-api ((?:[a-z]+ ?)+)", path.read_text()):
        name = f"{ENTRY_POINT} {words.strip()}"
        assert any(f"{name} ".startswith(f"{one} ") for one in known), name


def test_the_readme_has_one_command_to_run_and_one_to_test() -> None:
    for marker in ("run", "test"):
        assert len(re.findall(rf"^<!-- {marker} -->\n```sh\n.+\n```$", README.read_text(), re.MULTILINE)) == 1


def test_the_readme_has_every_command_with_every_option() -> None:
    known, documented = commands(), documented_commands()
    assert set(documented) == set(known)
    elsewhere = set(_OPTION.findall(re.sub(r"^\|.*$", "", section_of(README, "Command line"), flags=re.MULTILINE)))
    for name, options in known.items():
        assert documented[name] <= set().union(*options), name
        assert [spellings for spellings in options if not spellings & (documented[name] | elsewhere)] == [], name


@pytest.mark.anyio
async def test_the_readme_has_every_route_and_every_field_of_a_transfer(tmp_path: Path) -> None:
    schema = await _schema(tmp_path)
    routes = {(method.upper(), f"`{path}`") for path, methods in schema["paths"].items() for method in methods}
    assert {(row[0], row[1]) for row in table_rows(README, "HTTP API") if row[0] in {"GET", "POST", "DELETE"}} == routes

    body = schema["components"]["schemas"]["TransferRequest"]
    fields = {name for row in table_rows(README, "Move money") for name in re.findall(r"`(\w+)`", row[0])}
    assert fields == set(body["properties"])


def test_the_readme_has_every_exit_code_and_status() -> None:
    codes = {row[0] for row in table_rows(README, "Command line")}
    assert {str(error.exit_code) for error in error_classes()} | {"0"} <= codes
    text = section_of(README, "Errors")
    assert [error.status for error in error_classes() if not re.search(rf"\b{error.status}\b", text)] == []


def test_every_variable_is_in_the_readme_and_in_the_example() -> None:
    documented = {name for row in table_rows(README, "Variables") for name in re.findall(r"`(SEQUENCE_\w+)`", row[0])}
    example = set(re.findall(r"^#?(SEQUENCE_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert documented == variables() | {ENV_FILE}
    assert example == variables()


def test_the_readme_has_the_defaults_of_variables() -> None:
    fields = Settings.model_fields
    compared = 0
    for row in table_rows(README, "Variables"):
        names = re.findall(r"`SEQUENCE_(\w+)`", row[0])
        defaults = re.findall(r"`([^`]+)`", row[1])
        if len(names) != len(defaults):
            continue  # described in words
        for name, default in zip(names, defaults, strict=True):
            actual = fields[name.lower()].default
            assert type(actual)(default) == actual, name
            compared += 1
    assert compared >= 14


def test_the_readme_has_every_data_file(site: Site) -> None:
    patterns = [
        name.rstrip("/") for row in table_rows(README, "Data files") for name in re.findall(r"`([^`]+)`", row[0])
    ]
    found = [path.name for path in (site.directory / "data" / "sandbox").iterdir()]
    assert ".audit.jsonl" in found
    assert [name for name in found if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_the_architecture_page_has_every_module_and_package() -> None:
    places = " ".join(row[0] for row in table_rows(ARCHITECTURE, "Layout"))
    modules = [
        f"`{module.name}/`" if module.ispkg else f"`{module.name}.py`"
        for module in pkgutil.iter_modules(pysequence_api.__path__)
        if module.name != "__main__"
    ]
    assert [module for module in modules if module not in places] == []


def test_the_functions_of_a_followed_request_exist() -> None:
    names = re.findall(r"^\d+\. `([\w.]+)`", section_of(ARCHITECTURE, "Following one request"), re.MULTILINE)
    assert len(names) >= 20
    for name in names:
        assert pkgutil.resolve_name(f"pysequence_api.{name}") is not None


@pytest.mark.parametrize("block", policies(*PAGES))
def test_a_documented_policy_can_be_applied(block: Block) -> None:
    limits = MaxCents.of(Settings())
    policy = parse_policy(block.text, limits)
    assert policy.callers
    assert all(caller.rules or Scope.MOVE not in caller.scopes for caller in policy.callers.values())


def test_the_policy_page_has_every_field() -> None:
    documented = {name for row in table_rows(CALLERS, "Fields") for name in re.findall(r"`(\w+)`", row[0])}
    models: tuple[type[BaseModel], ...] = (Caller, Rule)
    fields = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert documented == fields | {"version"}
    tables = {row[0] for row in table_rows(CALLERS, "Fields") if "[" in row[0]}
    assert tables == {f"`[{name}]`" for name in set(Policy.model_fields) - {"version", "callers"}} | {
        "`[callers.NAME]`"
    }
    breaker = {row[0].strip("`"): row[1] for row in table_rows(CALLERS, "Freeze and breaker")}
    assert breaker == {name: str(field.default) for name, field in Breaker.model_fields.items()}


def test_the_policy_page_has_every_code_in_order() -> None:
    rows = table_rows(CALLERS, "What is refused, and why")
    assert [code for row in rows for code in re.findall(r"`(\w+)`", row[0])] == [code.value for code in PolicyCode]


def test_the_notifications_page_has_every_event() -> None:
    rows = [row[0].strip("`") for row in table_rows(NOTIFICATIONS, "Events")]
    assert [name for name in rows if name.islower()] == [*NotifyEvent]


@pytest.mark.parametrize("row", table_rows(NOTIFICATIONS, "Set up"), ids=lambda row: row[0])
def test_apprise_understands_the_documented_urls(row: list[str]) -> None:
    url = row[1].split("`")[1]
    filled = url.replace("BOT_TOKEN", f"123456789:{'A' * 35}").replace("CHAT_ID", "123456789")
    assert open_channels([SecretStr(filled)])


def test_the_user_of_the_image_is_documented() -> None:
    user = re.search(r"^USER (\d+):", DOCKERFILE.read_text(), re.MULTILINE)
    assert user is not None
    assert f"chown -R {user[1]}:{user[1]}" in OPERATIONS.read_text()
    assert f"user {user[1]}" in SECURITY.read_text()


@pytest.mark.parametrize("path", [*PAGES, SKILL, *REFERENCES])
def test_links_lead_to_existing_files_and_sections(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" in target:
            continue
        page, _, section = target.partition("#")
        linked = (path.parent / page).resolve() if page else path
        assert linked.exists(), target
        if section:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert section in anchors, target


def test_the_metrics_of_the_alerts_exist(site: Site) -> None:
    documented = set(re.findall(r"`(pysequence_\w+)", OPERATIONS.read_text()))
    documented.remove("pysequence_token_left_seconds")  # the token for a simulated Sequence in process never expires
    shown = site.run('for _ in 1 2; do curl -sS -H "X-API-Key: $KEY" "$URL/metrics"; done').stdout
    assert len(documented) >= 7
    assert [name for name in sorted(documented) if not re.search(rf"^{name}[ {{]", shown, re.MULTILINE)] == []


def test_the_version_is_in_the_changelog() -> None:
    version = re.escape(pysequence_api.__version__)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

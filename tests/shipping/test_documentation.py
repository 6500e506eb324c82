"""What the documentation says is there, and what it tells people to type works."""

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from pysequence_api import __version__
from pysequence_api.cli import app
from tests.api.server import free_port
from tests.shipping.conftest import Site, listening
from tests.shipping.documented import Block, blocks_of, shell_blocks
from tests.shipping.files import ARCHITECTURE, DOCKERFILE, OPERATIONS, README, ROOT, SECURITY, SKILL, variables
from tests.world import open_world

PAGES = [README, OPERATIONS, SECURITY, ARCHITECTURE]
ENTRY_POINT = "pysequence-api"


def commands() -> set[str]:
    """Every command of the terminal, with its groups."""

    def below(group: TyperGroup, prefix: str) -> set[str]:
        found: set[str] = set()
        for name, command in group.commands.items():
            full_name = f"{prefix} {name}"
            found |= below(command, full_name) if isinstance(command, TyperGroup) else {full_name}
            found |= {full_name} if getattr(command, "invoke_without_command", False) else set()
        return found

    tree = get_command(app)
    assert isinstance(tree, TyperGroup)
    return below(tree, ENTRY_POINT)


@pytest.mark.parametrize("block", shell_blocks(*PAGES))
def test_a_block_of_shell_runs(site: Site, block: Block) -> None:
    site.run_block(block)


@pytest.mark.parametrize(
    "line", [line for path in PAGES for block in blocks_of(path) if block.language == "sh" for line in block.servers]
)
def test_a_server_listens(site: Site, tmp_path: Path, line: str) -> None:
    data = {"SEQUENCE_DATA_DIR": str(tmp_path), "SEQUENCE_SERVER_PORT": str(free_port())}
    with listening(shlex.split(line), site.environment | data, tmp_path) as said:
        assert "istens on" in said or "istening on" in said


@pytest.mark.parametrize("path", [*PAGES, SKILL])
def test_every_command_stands_where_it_is_run(path: Path) -> None:
    for block in blocks_of(path):
        is_shell = block.language == "sh"
        assert is_shell or not re.search(r"^\s*(\w+=\S+ )*(pysequence-api|curl) ", block.text, re.MULTILINE)


@pytest.mark.parametrize("path", [*PAGES, SKILL])
def test_every_command_that_is_named_exists(path: Path) -> None:
    known = commands()
    for words in re.findall(r"`pysequence-api ((?:[a-z]+ ?)+)", path.read_text()):
        name = f"{ENTRY_POINT} {words.strip()}"
        assert any(f"{name} ".startswith(f"{one} ") for one in known), name


async def _paths(directory: Path) -> set[str]:
    async with open_world(directory) as world, world.http() as client:
        return set((await client.get("/openapi.json")).json()["paths"])


@pytest.mark.anyio
async def test_every_route_is_in_the_readme(tmp_path: Path) -> None:
    text = README.read_text()
    paths = await _paths(tmp_path)
    assert len(paths) >= 15
    assert [path for path in paths if f"`{path}`" not in text] == []


def test_every_variable_is_in_the_readme_and_in_the_example() -> None:
    rows = "".join(line for line in README.read_text().splitlines(keepends=True) if line.startswith("| `SEQUENCE_"))
    example = (ROOT / ".env.example").read_text()
    assert [name for name in sorted(variables()) if f"`{name}`" not in rows] == []
    in_example = set(re.findall(r"^#?(SEQUENCE_\w+)=", example, re.MULTILINE))
    assert variables() - in_example == set()
    assert in_example - variables() == set()


def test_every_command_is_in_the_readme() -> None:
    rows = "".join(line for line in README.read_text().splitlines(keepends=True) if line.startswith("| `pysequence"))
    assert [name for name in sorted(commands()) if f"`{name}" not in rows] == []


def test_the_user_of_the_image_is_the_one_that_is_told() -> None:
    user = re.search(r"^USER (\d+):", DOCKERFILE.read_text(), re.MULTILINE)
    assert user is not None
    assert f"chown -R {user[1]}:{user[1]}" in OPERATIONS.read_text()
    assert f"user {user[1]}" in SECURITY.read_text()


@pytest.mark.parametrize("path", [*PAGES, SKILL])
def test_links_lead_somewhere(path: Path) -> None:
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


def test_numbers_that_are_named_for_alarms_exist(site: Site) -> None:
    named = set(re.findall(r"`(pysequence_\w+)", OPERATIONS.read_text()))
    shown = site.run('for _ in 1 2; do curl -sS -H "X-API-Key: $KEY" "$URL/metrics"; done').stdout
    assert len(named) >= 8
    assert [name for name in sorted(named) if not re.search(rf"^{name}[ {{]", shown, re.MULTILINE)] == []


def test_the_version_is_in_the_changelog() -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

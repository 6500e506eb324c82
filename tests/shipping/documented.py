"""Finds the commands in the documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shipping.files import ROOT

CANNOT_RUN_HERE = (
    "docker ",  # no engine
    "just audit",  # installs pip-audit, and needs the network
    "sudo ",  # changes the machine; test_systemd.py checks the unit
    "git pull",  # changes the clone
    "pip install ",  # `.ci/run` installs the built wheel
    "python3 -m venv ",  # `.ci/run` runs the README's test command, and creates an environment for the wheel
    "cp .env.example .env ",  # creates the operator's own file
    "pysequence-api init",  # needs a person
    "pysequence-api policy apply",  # needs a person
    "pysequence-api auth login",  # needs a browser or a person
    "pysequence-api records restore",  # refuses while a server runs
)
"""Lines with these prefixes are not run. Every other line of a shell block is."""
SERVERS = ("pysequence-api serve", "pysequence-api sandbox serve")
"""Lines with these prefixes run until the server listens."""
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    path: Path
    number: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines without comments, with continued lines joined."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def runnable(self) -> list[str]:
        """The commands that a test runs to the end."""
        return [line for line in self.commands if not line.startswith((*CANNOT_RUN_HERE, *SERVERS))]

    @property
    def servers(self) -> list[str]:
        """The commands that start a server."""
        return [line for line in self.commands if line.startswith(SERVERS)]


def blocks_of(path: Path) -> list[Block]:
    """Return all fenced blocks of a page."""
    return [
        Block(path, number, match[1], match[2]) for number, match in enumerate(_FENCE.finditer(path.read_text()), 1)
    ]


def shell_blocks(*paths: Path) -> list[object]:
    """Return all shell blocks of some pages, as parameters of a test."""
    return [
        pytest.param(block, id=f"{path.relative_to(ROOT)}:{block.number}")
        for path in paths
        for block in blocks_of(path)
        if block.language == "sh" and block.runnable
    ]


def policies(*paths: Path) -> list[object]:
    """Return all policies of some pages, as parameters of a test."""
    return [
        pytest.param(block, id=f"{path.relative_to(ROOT)}:{block.number}")
        for path in paths
        for block in blocks_of(path)
        if block.language == "toml"
    ]


def section_of(path: Path, title: str) -> str:
    """Return the text under a title, up to the next title of the same or a higher level."""
    text = path.read_text()
    heading = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert heading is not None, f"{path.name} has no section {title!r}"
    return re.split(rf"^#{{1,{len(heading[1])}}} ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def table_rows(path: Path, title: str) -> list[list[str]]:
    """Return the cells of every table row under a title, without heads."""
    rows = []
    for table in re.findall(r"^\|.*\n\|[-|: ]+\n((?:\|.*\n)+)", section_of(path, title), re.MULTILINE):
        for line in table.splitlines():
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows

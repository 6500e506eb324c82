"""The commands in the documentation: found, and run as they stand there."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shipping.files import ROOT

CANNOT_RUN_HERE = (
    "docker ",  # no engine
    "git pull",  # changes the clone
    "pip install ",  # `.ci/run` installs the built wheel
    "python3 -m venv ",  # `.ci/run` makes such environments, from the README's test command and from the wheel
    "cp .env.example .env ",  # a file of the operator's
    "pysequence-api auth login",  # needs a browser, or a person
)
"""Lines that begin so are not run. Everything else in a block of shell is."""
SERVERS = ("pysequence-api serve", "pysequence-api sandbox serve")
"""Lines that begin so run until they listen."""
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    path: Path
    number: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines of it, those that go on in the next one together, without comments."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def runnable(self) -> list[str]:
        """The commands that end by themselves."""
        return [line for line in self.commands if not line.startswith((*CANNOT_RUN_HERE, *SERVERS))]

    @property
    def servers(self) -> list[str]:
        """The commands that serve."""
        return [line for line in self.commands if line.startswith(SERVERS)]


def blocks_of(path: Path) -> list[Block]:
    """Find all fenced blocks of a page."""
    return [
        Block(path, number, match[1], match[2]) for number, match in enumerate(_FENCE.finditer(path.read_text()), 1)
    ]


def shell_blocks(*paths: Path) -> list[object]:
    """Find all blocks of shell of some pages, as parameters of a test."""
    return [
        pytest.param(block, id=f"{path.relative_to(ROOT)}:{block.number}")
        for path in paths
        for block in blocks_of(path)
        if block.language == "sh" and block.runnable
    ]

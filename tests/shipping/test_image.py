"""The Dockerfile and the files it is built from, checked as text. ``just image`` builds it."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pysequence_api
from tests.shipping.files import DOCKERFILE, ROOT

LOCKS = {"runtime": "dependencies", "browser": "browser", "build": "build"}


@pytest.fixture(scope="module")
def instructions() -> list[str]:
    """The instructions of the Dockerfile, each as one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def locked(name: str) -> dict[str, str]:
    """Return the pinned versions of a lock file."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = [Requirement(line.partition("\\")[0].strip()) for line in lines if line and not line.startswith((" ", "#"))]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def project_requirements(name: str) -> list[Requirement]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    extras = project["optional-dependencies"]
    texts = {
        "dependencies": project["dependencies"] + extras["mcp"] + extras["notify"],
        "browser": project["dependencies"] + extras["mcp"] + extras["notify"] + extras["browser"],
        "build": document["build-system"]["requires"],
    }[name]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_all_requirements(lock: str) -> None:
    pins = locked(lock)
    for requirement in project_requirements(LOCKS[lock]):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is missing: just lock"
        assert requirement.specifier.contains(version), (
            f"{requirement.name} {version} does not satisfy {requirement.specifier}: just lock"
        )


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_no_index(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text)


def test_the_browser_lock_extends_the_runtime_lock() -> None:
    runtime, browser = locked("runtime"), locked("browser")
    assert runtime.items() <= browser.items()
    assert "playwright" in browser
    assert "playwright" not in runtime


def test_one_base_and_two_targets(instructions: list[str]) -> None:
    stages = [line.split() for line in instructions if line.startswith("FROM ")]
    names = {stage[3] for stage in stages}
    assert {"prod", "slim"} <= names
    (base,) = [stage[1] for stage in stages if stage[1] not in names]
    # With or without the digest, which needs a registry to be known.
    assert re.fullmatch(r"python:3\.12-slim-bookworm(@sha256:[0-9a-f]{64})?", base)


def test_every_installation_is_pinned(instructions: list[str]) -> None:
    installations = [line for line in instructions if re.search(r"\bpip\b.* install ", line)]
    assert len(installations) == 5
    assert all("--require-hashes" in line or "--no-index" in line for line in installations)


def test_user_and_command(instructions: list[str]) -> None:
    assert instructions.count("USER 10001:10001") == 2
    assert instructions[-1] == "USER 10001:10001"
    assert 'ENTRYPOINT ["pysequence-api"]' in instructions
    assert 'CMD ["serve"]' in instructions
    assert "EXPOSE 8720 8721" in instructions
    health = next(line for line in instructions if line.startswith("HEALTHCHECK "))
    assert json.loads(health.partition(" CMD ")[2]) == ["pysequence-api", "health"]


def test_labels(instructions: list[str]) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', "\n".join(instructions)))
    assert labels["version"] == pysequence_api.__version__
    assert labels["licenses"] == "MIT"
    assert {"title", "description"} <= set(labels)


def test_the_build_context_is_an_allow_list() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert allowed == {"pyproject.toml", "README.md", "LICENSE", "requirements/*.txt", "pysequence_api"}

"""Paths of the shipped files."""

from pathlib import Path

from pysequence_api.settings import Settings, variable

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
APPROVALS = ROOT / "docs" / "approvals.md"
CALLERS = ROOT / "docs" / "callers.md"
SECURITY = ROOT / "docs" / "security.md"
AGENTS = ROOT / "docs" / "agents.md"
ERRORS = ROOT / "docs" / "errors.md"
NOTIFICATIONS = ROOT / "docs" / "notifications.md"
OWNERS_PAGE = ROOT / "docs" / "owners-page.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
UPSTREAM = (ROOT / "docs" / "upstream-graphql.md", ROOT / "docs" / "upstream-platform.md")
SKILL = ROOT / "skills" / "sequence" / "SKILL.md"
REFERENCES = tuple(sorted((SKILL.parent / "references").glob("*.md")))
COMPOSE = ROOT / "compose.api.yaml"
DOCKERFILE = ROOT / "Dockerfile"


def variables() -> set[str]:
    """Return every variable that the program reads."""
    return {variable(name) for name in Settings.model_fields}

"""Where the shipped files are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
SECURITY = ROOT / "docs" / "security.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
SKILL = ROOT / "skills" / "sequence" / "SKILL.md"
COMPOSE = ROOT / "compose.api.yaml"
DOCKERFILE = ROOT / "Dockerfile"


def variables() -> set[str]:
    """Every variable that the program reads."""
    from pysequence_api.settings import Settings, variable  # noqa: PLC0415 - the one thing here that is no file

    return {variable(name) for name in Settings.model_fields}

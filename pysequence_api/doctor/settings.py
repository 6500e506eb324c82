"""The settings, if they can be loaded."""

from collections.abc import Iterator

from pysequence_api.doctor.finding import Finding, ok, warning
from pysequence_api.money import format_cents
from pysequence_api.settings import SHORT_API_KEY_CHARACTERS, Settings, unknown_variables, variable

NAME = "settings"


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Check whether everything is set that some command needs."""
    warnings = [*_misspelled(), *_missing(settings)]
    yield from warnings
    if not warnings:
        per_transfer, per_day = settings.max_transfer_cents, settings.max_daily_transfer_cents
        where = "the sandbox" if settings.sandbox else "the real account"
        yield ok(NAME, f"{where}; at most {format_cents(per_transfer)} per transfer, {format_cents(per_day)} per day")


def _misspelled() -> Iterator[Finding]:
    for name, meant in unknown_variables().items():
        yield warning(
            NAME, f"{name} is not a setting and has no effect", f"Did you mean {meant}?" if meant else "Remove it."
        )


def _missing(settings: Settings) -> Iterator[Finding]:
    if settings.sandbox:
        return
    key = variable("api_key")
    if settings.api_key is None:
        yield warning(NAME, f"{key} is not set; `serve` needs it", "Create a key: pysequence-api key new")
    elif len(settings.api_key.get_secret_value()) < SHORT_API_KEY_CHARACTERS:
        yield warning(NAME, f"{key} is short enough to be guessed", "Create another key: pysequence-api key new")
    for name, needed_by in (("org_id", "`activity` and the server"), ("kyc_id", "transfers")):
        if getattr(settings, name) is None:
            yield warning(NAME, f"{variable(name)} is not set; {needed_by} need it", f"Set {variable(name)}.")

"""The owner's page. The server reports these findings at every start."""

from collections.abc import Iterator

from pysequence_api.doctor.finding import Finding, ok, warning
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.local_server import page_url
from pysequence_api.records import read_records
from pysequence_api.safeguards.owner import Owner
from pysequence_api.settings import Settings

NAME = "owner's page"


def check_page(settings: Settings) -> Iterator[Finding]:
    """Say whether somebody can sign in to the owner's page, if there is one."""
    if not settings.has_page or not settings.data_directory.exists():
        return
    records = read_records(settings.data_directory)
    try:
        yield check_page_of(Owner(records, settings.owner_totp), settings)
    finally:
        records.close()


def check_page_of(owner: Owner, settings: Settings) -> Finding:
    """Say whether somebody can sign in to the owner's page."""
    said = f"the owner's page is at {page_url(settings)}"
    try:
        done = {"owner setup": owner.has_code(), "owner password": owner.has_password()}
    except SafeguardsUnavailableError as error:
        return warning(NAME, f"{said}; you cannot sign in: {error}", "Correct the records.")
    commands = [f"pysequence-api {command}" for command, is_done in done.items() if not is_done]
    if not commands:
        return ok(NAME, said)
    return warning(NAME, f"{said}; you cannot sign in yet", f"Run {', then '.join(commands)}.")

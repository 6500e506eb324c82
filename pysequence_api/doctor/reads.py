"""Every other read that the program depends on: each is a part of Sequence's interface, which can change by itself."""

from collections.abc import Awaitable, Iterator
from typing import Protocol, TypeVar

import anyio

from pysequence_api.doctor.finding import Finding, Level, ok, warning
from pysequence_api.errors import AccessDeniedError, CertainError, GatewayError, InvalidDocumentError
from pysequence_api.gateway import open_gateway
from pysequence_api.sequence.client import SequenceClient
from pysequence_api.settings import Settings

NAME = "reads"
DEFAULT_FIX = "Check whether Sequence's own application works."


class _Answer(Protocol):
    @property
    def complete(self) -> bool: ...


T = TypeVar("T", bound=_Answer)


def check_reads(settings: Settings) -> Iterator[Finding]:
    """Read accounts, one pod, the activity and one transfer."""
    yield from anyio.run(_open_and_read, settings)


async def _open_and_read(settings: Settings) -> list[Finding]:
    async with open_gateway(settings, is_owner=True) as gateway:
        return await read_everything(gateway.client, gateway.default_organization_id)


async def read_everything(client: SequenceClient, organization_id: str | None) -> list[Finding]:
    """Make every read, and report those that fail or are incomplete.

    Args:
        client: the account.
        organization_id: whose activity to read; without it, that of the first organization.
    """
    reads = _Reads()
    try:
        accounts = await reads.make("accounts", client.accounts())
        if accounts is not None and accounts.pods:
            pod = accounts.pods[0]
            await reads.make("pod", client.pod_detail(pod.organization_id, pod.id))
        if organization_id is None and accounts is not None:
            organization_id = next(iter(accounts.organization_ids), None)
        if organization_id is not None:
            page = await reads.make("activity", client.activity(organization_id, first=1))
            if page is not None and page.transfers:
                await reads.make("transfer", client.transfer_detail(organization_id, page.transfers[0].id))
    except CertainError:
        # No connection, no token: that has a check of its own.
        reads.findings.append(warning(NAME, "cannot be tried", "Fix the problem with Sequence first."))
    return reads.findings or [ok(NAME, f"{', '.join(reads.names)}: complete")]


class _Reads:
    """The reads that were made, and what is wrong with them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.findings: list[Finding] = []

    async def make(self, name: str, read: Awaitable[T]) -> T | None:
        """Make a read; ``None`` if it fails.

        Raises:
            CertainError: no read can be made.
        """
        self.names.append(name)
        try:
            answer = await read
        except AccessDeniedError:
            return None  # what a key does not allow has a check of its own
        except GatewayError as error:
            if isinstance(error, CertainError) and not isinstance(error, InvalidDocumentError):
                raise
            said = f"{name}: {' '.join(str(error).split())}"
            finding = Finding(NAME, Level.PROBLEM, said, error.advice or DEFAULT_FIX, error.exit_code)
            self.findings.append(finding)
            return None
        if not answer.complete:
            said = f"{name}: Sequence left out a part, or sent something that cannot be read"
            self.findings.append(warning(NAME, said, "The log names the fields. If this stays, update pysequence-api."))
        return answer

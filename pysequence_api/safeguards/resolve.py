"""A person's decision about attempts whose outcome is unknown."""

from collections.abc import Sequence

from pysequence_api.errors import InvalidRequestError, NotFoundError
from pysequence_api.models import Party, Transfer
from pysequence_api.records.attempts import FOLLOWED, Writer
from pysequence_api.records.audit import EventType
from pysequence_api.records.database import Database
from pysequence_api.records.states import State
from pysequence_api.safeguards import decide
from pysequence_api.safeguards.decide import accept_attempt
from pysequence_api.safeguards.enforce import is_resent
from pysequence_api.safeguards.resend import RESEND_SECONDS
from pysequence_api.safeguards.status import AttemptStatus, read_attempt


def resolve(records: Database, attempt_id: str, transfer_id: str | None) -> AttemptStatus:
    """End one attempt of unknown outcome by a person's decision; see `resolve_all`."""
    return resolve_all(records, [attempt_id], transfer_id)[0]


def resolve_all(records: Database, attempt_ids: Sequence[str], transfer_id: str | None) -> list[AttemptStatus]:
    """End attempts of unknown outcome by a person's decision: all of them, or none.

    Args:
        records: the database.
        attempt_ids: the attempts; only one if it became a transfer.
        transfer_id: the transfer that it became; ``None`` if they were not executed.

    Raises:
        NotFoundError: there is no such attempt.
        InvalidRequestError: an outcome is known, one is in flight, or the transfer belongs to another attempt.
        SafeguardsUnavailableError: the records cannot be written.
    """

    def decide_on(writer: Writer) -> None:
        decide.fail_dead(writer, records.owners)
        for attempt_id in dict.fromkeys(attempt_ids):
            resolve_one(writer, attempt_id)

    def resolve_one(writer: Writer, attempt_id: str) -> None:
        attempt = writer.attempt(attempt_id)
        if attempt is None:
            raise NotFoundError(f"There is no attempt {attempt_id[:100]!r}. `pysequence-api limits show` lists them.")
        if attempt.state in {State.RESERVED, State.SENDING}:
            raise InvalidRequestError(f"Attempt {attempt_id} is in flight; wait for it.")
        if attempt.state is not State.UNKNOWN:
            raise InvalidRequestError(f"The outcome of attempt {attempt_id} is known: {attempt.state}.")
        if is_resent(attempt, records.owners):
            raise InvalidRequestError(
                f"Attempt {attempt_id} is being sent again, for at most {RESEND_SECONDS / 60:.0f} minutes; wait for it."
            )
        if transfer_id is None:
            error, outcome = "a person found that it was not executed", State.NOT_EXECUTED
            changed = writer.move(
                attempt, outcome, ended_at=writer.now, error=error, followed_until=writer.now + FOLLOWED
            )
            writer.add_event(
                changed.event(EventType.FAILED, writer.now, error=error, outcome=outcome.value, resolved=True)
            )
        elif writer.is_claimed(transfer_id):
            raise InvalidRequestError(f"Transfer {transfer_id[:100]!r} belongs to another attempt.")
        else:
            named = Transfer(id=transfer_id, amount_cents=attempt.amount_cents, source=Party(), destination=Party())
            accept_attempt(writer, attempt, named, resolved=True)

    records.write(decide_on)
    return [read_attempt(records, attempt_id) for attempt_id in dict.fromkeys(attempt_ids)]

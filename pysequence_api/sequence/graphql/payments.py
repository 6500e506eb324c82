"""What Sequence says to a transfer: taken, refused, or nothing that can be relied on."""

from typing import Any

from pysequence_api.errors import RefusedError, UnreadableAnswerError
from pysequence_api.models import TransferReceipt
from pysequence_api.sequence.graphql.answers import Answer
from pysequence_api.sequence.graphql.node import Node, unreadable
from pysequence_api.sequence.graphql.parsing import read_transfers


def read_payment(answer: Answer) -> TransferReceipt:
    """Read ``CreatePayment``.

    An ``ok`` counts whatever else the answer holds. A refusal counts only if nothing else could be meant, because the
    money is then given free again.

    Raises:
        RefusedError: ``error`` is there, ``ok`` is null, and nothing else went wrong.
        GraphQLError: there is no ``ok``, and there are errors. The money may have moved.
        UnreadableAnswerError: it is none of all that. The money may have moved.
    """
    payment = _object(_object(answer.data, "forKYC"), "createPayment")
    ok, error = payment.get("ok"), payment.get("error")
    if isinstance(ok, dict) and error is None:
        return _read_ok(Node(ok, f"{answer.operation}.ok"))
    if answer.errors:
        answer.fail()
    if isinstance(error, dict) and "ok" in payment and ok is None:
        message = error.get("message")
        reason = answer.plain(message) if isinstance(message, str) else "it gave no reason"
        raise RefusedError(f"Sequence refused the transfer: {reason}")
    raise unreadable(answer.operation, "neither an ok nor a refusal")


def _read_ok(ok: Node) -> TransferReceipt:
    organization_id = None
    try:
        organization = ok.child("organization")
        organization_id = organization.identifier()
        return TransferReceipt(organization_id=organization_id, transfers=read_transfers(organization))
    except UnreadableAnswerError:
        # What the transfer is called can be looked up; that it was taken has been said.
        return TransferReceipt(organization_id=organization_id, transfers=())


def _object(value: dict[str, Any] | None, key: str) -> dict[str, Any]:
    below = (value or {}).get(key)
    return below if isinstance(below, dict) else {}

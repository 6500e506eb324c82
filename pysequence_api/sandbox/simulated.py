"""What a fault changes about the operation itself, beside its response."""

from dataclasses import dataclass, field

from pysequence_api.sandbox.faults import (
    ActivityLagEffect,
    FailEffect,
    Fault,
    FeeEffect,
    HideNewTransferEffect,
    InvisibleEffect,
    NotFoundEffect,
    RefuseEffect,
    ReturnEffect,
)
from pysequence_api.sandbox.ledger import COMPLETE_AFTER_SECONDS, PaymentFaults, Reversal, Status


@dataclass(slots=True)
class Simulated:
    """The effects of one fault on one operation."""

    refusal: RefuseEffect | None = None
    hide_new_transfer: bool = False
    activity_lag_seconds: float = 0
    payment: PaymentFaults = field(default_factory=PaymentFaults)


def simulated(fault: Fault | None) -> Simulated:
    """Return the effects of a fault; none without a fault."""
    result = Simulated()
    payment = result.payment
    for effect in fault.what if fault else ():
        match effect:
            case RefuseEffect():
                result.refusal = effect
            case HideNewTransferEffect():
                result.hide_new_transfer = True
            case ActivityLagEffect():
                result.activity_lag_seconds = effect.seconds
            case InvisibleEffect():
                payment.invisible_seconds = effect.seconds
            case NotFoundEffect():
                payment.unreadable_seconds = effect.seconds
            case FeeEffect():
                payment.fee_cents = effect.cents
            case FailEffect():
                payment.reversal = Reversal(effect.seconds, Status.FAILED, effect.reason)
            case ReturnEffect():
                after_seconds = COMPLETE_AFTER_SECONDS + effect.seconds
                payment.reversal = Reversal(after_seconds, Status(effect.status), effect.reason, is_return=True)
            case _:
                continue  # this effect changes the response
    return result

"""Everything that knows GetSequence.

The implementations of `SequenceClient` are not imported here, so that a reader of models does not load an HTTP stack;
see `pysequence_api.sequence.graphql`.
"""

from pysequence_api.sequence.client import BeforeSend, SequenceClient, find_by_name
from pysequence_api.sequence.models import (
    Accounts,
    AccountType,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    CompoundDetails,
    ExternalAccount,
    Liability,
    Moment,
    PageInfo,
    Party,
    PaymentStatus,
    Pod,
    PodDetail,
    PodReference,
    Port,
    Rule,
    SimpleDetails,
    TotalBalance,
    Transfer,
    TransferDetail,
    TransferOrder,
    TransferReceipt,
)

__all__ = [
    "AccountType",
    "Accounts",
    "ActivityFilter",
    "ActivityPage",
    "ActivitySummary",
    "BeforeSend",
    "CompoundDetails",
    "ExternalAccount",
    "Liability",
    "Moment",
    "PageInfo",
    "Party",
    "PaymentStatus",
    "Pod",
    "PodDetail",
    "PodReference",
    "Port",
    "Rule",
    "SequenceClient",
    "SimpleDetails",
    "TotalBalance",
    "Transfer",
    "TransferDetail",
    "TransferOrder",
    "TransferReceipt",
    "find_by_name",
]

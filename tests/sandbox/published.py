"""The parts of the published SDK that the tests use. The SDK has no type hints."""

import pysequence_sdk.client as sdk_client
from pysequence_sdk.client import SequenceClient
from pysequence_sdk.graphql.mutations import CREATE_PAYMENT
from pysequence_sdk.graphql.queries import (
    ACTIVITY_LOG_TRANSFERS,
    ACTIVITY_SUMMARY,
    POD_DRAWER_CONTENT,
    SELECT_SOURCE_AND_DESTINATION,
    TRANSFER_REFERENCE_DETAIL,
)

__all__ = [
    "ACTIVITY_LOG_TRANSFERS",
    "ACTIVITY_SUMMARY",
    "CREATE_PAYMENT",
    "POD_DRAWER_CONTENT",
    "SELECT_SOURCE_AND_DESTINATION",
    "TRANSFER_REFERENCE_DETAIL",
    "SequenceClient",
    "sdk_client",
]

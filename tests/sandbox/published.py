"""What the tests use of the published SDK, which has no type hints of its own."""

import pysequence_sdk.client as sdk_client  # type: ignore[import-untyped]
from pysequence_sdk.client import SequenceClient
from pysequence_sdk.graphql.mutations import CREATE_PAYMENT  # type: ignore[import-untyped]
from pysequence_sdk.graphql.queries import (  # type: ignore[import-untyped]
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

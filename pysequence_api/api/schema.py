"""The OpenAPI schema, without a gateway behind it."""

from typing import Any, cast

from pydantic import SecretStr

from pysequence_api.api.app import create_app
from pysequence_api.gateway import Gateway
from pysequence_api.settings import Settings


def openapi_schema() -> dict[str, Any]:
    """Give what ``/openapi.json`` answers."""
    # The routes are described by their types alone; nothing behind the stand-in is ever asked.
    stand_in = Gateway(
        settings=Settings.model_construct(api_key=SecretStr("a stand-in")),
        client=cast(Any, None),
        transfers=cast(Any, None),
        follow_up=cast(Any, None),
        records=cast(Any, None),
        max_cents=cast(Any, None),
        default_organization_id=None,
        default_kyc_id=None,
    )
    return create_app(stand_in).openapi()

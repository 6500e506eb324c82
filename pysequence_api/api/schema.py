"""The OpenAPI schema, without an account."""

from typing import Any, cast

from pydantic import SecretStr

from pysequence_api.api.app import create_app
from pysequence_api.gateway import Gateway
from pysequence_api.settings import Settings


def openapi_schema() -> dict[str, Any]:
    """Return the same schema as ``/openapi.json``."""
    # The schema comes from the types of the routes alone; nothing calls the placeholder.
    placeholder = Gateway(
        settings=Settings.model_construct(api_key=SecretStr("placeholder")),
        client=cast(Any, None),
        transfers=cast(Any, None),
        preview_rate=cast(Any, None),
        fresh=cast(Any, None),
        follow_up=cast(Any, None),
        records=cast(Any, None),
        names=cast(Any, None),
        callers=cast(Any, None),
        owner=cast(Any, None),
        policy=cast(Any, None),
        max_cents=cast(Any, None),
        default_organization_id=None,
        default_kyc_id=None,
    )
    return create_app(placeholder).openapi()

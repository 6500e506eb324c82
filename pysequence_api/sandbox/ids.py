"""What a client of the simulated Sequence has to know: ids, keys and credentials. They never change."""

import uuid

_NAMESPACE = uuid.UUID("6f1c8a52-5d0e-4d8e-9b57-2f6f3f1f7a10")


def stable_id(kind: str, name: str) -> str:
    """Return the id of something, the same each time.

    Args:
        kind: for example ``pod``.
        name: unique within its kind.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))


PERSON_ID = stable_id("person", "Alex Rivera")
PERSON_NAME = "Alex Rivera"
EMAIL = "alex.rivera@example.com"
PASSWORD = "correct-Horse-7-battery-staple"
"""Valid in the sandbox only, as is the secret for one-time codes."""
TOTP_SECRET = "JVUW42LNMFXGI33SMUQGC3TEEBWW64TF"
ORGANIZATION_ID = stable_id("organization", "household")
"""The first organization, which has almost everything."""
SECOND_ORGANIZATION_ID = stable_id("organization", "studio")
KYC_ID = stable_id("kyc", "household")
"""The KYC id of the first organization."""
SECOND_KYC_ID = stable_id("kyc", "studio")
PLATFORM_KEY = "sk_sandbox"
"""A key of the Platform API that may do everything in the first organization."""
CLIENT_ID = "sandbox-web-application"
"""The client id that the token endpoint accepts."""
CONTROL_PREFIX = "/sandbox/"
"""How the paths of the control routes begin."""

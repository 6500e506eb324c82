"""Who is who in the simulated Sequence: ids that are the same in every file and every process."""

import uuid

_NAMESPACE = uuid.UUID("6f1c8a52-5d0e-4d8e-9b57-2f6f3f1f7a10")


def stable_id(kind: str, name: str) -> str:
    """Make an id that depends on nothing but what it is for.

    Args:
        kind: for example ``pod``.
        name: what sets it apart from others of its kind.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))


PERSON_ID = stable_id("person", "Alex Rivera")
PERSON_NAME = "Alex Rivera"
EMAIL = "alex.rivera@example.com"
PASSWORD = "correct-Horse-7-battery-staple"
"""Opens the simulation only. So does the secret, of which one-time codes are made (upstream-graphql, Signing in)."""
TOTP_SECRET = "JVUW42LNMFXGI33SMUQGC3TEEBWW64TF"
ORGANIZATION_ID = stable_id("organization", "household")
"""The first organization, which holds nearly everything."""
SECOND_ORGANIZATION_ID = stable_id("organization", "studio")
KYC_ID = stable_id("kyc", "household")
"""The KYC id of the first organization (upstream-graphql, CreatePayment)."""
SECOND_KYC_ID = stable_id("kyc", "studio")
CLIENT_ID = "sandbox-web-application"
"""The client id that the token endpoint knows (upstream-graphql, Signing in)."""

"""SANDBOX: a simulated Sequence with no real money. Clients cannot tell it from the real one."""

from pysequence_api.sandbox.application import Sandbox
from pysequence_api.sandbox.auth import IssuedTokens
from pysequence_api.sandbox.database import SandboxFileError
from pysequence_api.sandbox.household import (
    CLIENT_ID,
    EMAIL,
    KYC_ID,
    ORGANIZATION_ID,
    PASSWORD,
    PLATFORM_KEY,
    TOTP_SECRET,
)
from pysequence_api.sandbox.platform import PLATFORM_PATH
from pysequence_api.sandbox.platform.keys import KeyPermissions, ManualTransfer, Permission

__all__ = [
    "CLIENT_ID",
    "EMAIL",
    "KYC_ID",
    "ORGANIZATION_ID",
    "PASSWORD",
    "PLATFORM_KEY",
    "PLATFORM_PATH",
    "TOTP_SECRET",
    "IssuedTokens",
    "KeyPermissions",
    "ManualTransfer",
    "Permission",
    "Sandbox",
    "SandboxFileError",
]

"""SANDBOX: a simulated Sequence with no real money. Clients cannot tell it from the real one."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pysequence_api.sandbox.ids import (
    CLIENT_ID,
    EMAIL,
    KYC_ID,
    ORGANIZATION_ID,
    PASSWORD,
    PLATFORM_KEY,
    TOTP_SECRET,
)
from pysequence_api.sandbox.platform import PLATFORM_PATH

if TYPE_CHECKING:
    from pysequence_api.sandbox.application import Sandbox
    from pysequence_api.sandbox.auth import IssuedTokens
    from pysequence_api.sandbox.database import SandboxFileError
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

_PLACES = {
    "Sandbox": "application",
    "IssuedTokens": "auth",
    "SandboxFileError": "database",
    "KeyPermissions": "platform.keys",
    "ManualTransfer": "platform.keys",
    "Permission": "platform.keys",
}


def __getattr__(name: str) -> Any:
    # Who needs only an id must not load all of the simulated Sequence.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)

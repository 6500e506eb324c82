"""What a caller may do at all. Until there is a policy, only the owner and the caller `default` have any scope."""

from pysequence_api.errors import ScopeMissingError
from pysequence_api.safeguards.judge import is_free
from pysequence_api.safeguards.policy import Scope


def sees_everything(caller: str) -> bool:
    """Say whether a caller also sees the attempts and the spending of others."""
    return is_free(None, caller)


def missing_scope(caller: str, scope: Scope) -> ScopeMissingError | None:
    """Say that a caller lacks a scope; ``None`` if it has it.

    Every caller may read its own attempts and limits, which need no scope.
    """
    if is_free(None, caller):
        return None
    return ScopeMissingError(f"The caller {caller} does not have the scope {scope.value}. Only the owner can grant it.")

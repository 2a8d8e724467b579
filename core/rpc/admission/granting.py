"""What a caller may hand to others: never more than it has itself, neither by a key nor by a role."""

from __future__ import annotations

from collections.abc import Collection

from core.domain.control import key_limits
from core.domain.control.key_limits import UNLIMITED, KeyLimits
from core.domain.control.scopes import role_scopes
from core.domain.errors import PermissionDenied
from core.rpc.call import Caller


def refuse_beyond(caller: Caller, scopes: Collection[str], limits: KeyLimits, prefix: str = "limits") -> None:
    """Refuse a key that could do more than its caller. Raises PermissionDenied with everything that is too much."""
    if more := sorted(set(scopes) - caller.scopes):
        raise PermissionDenied(principal=caller.display_name, why=f"its own key lacks {', '.join(more)}")
    if wider := key_limits.beyond(limits, caller.limits, prefix):
        why = f"the key would be wider than its own: {wider[0].message}"
        raise PermissionDenied(principal=caller.display_name, why=why, violations=tuple(wider))


def refuse_role_beyond(caller: Caller, role: str) -> None:
    """Refuse to give a role, or to touch a person who has it, where it can do more than the caller.

    Raises PermissionDenied. A role has no limits, so who has some gives none.
    """
    if more := sorted(role_scopes(role) - caller.scopes):
        shown = ", ".join(more[:5])
        raise PermissionDenied(
            principal=caller.display_name, why=f"the role {role} has {shown}, which its own key lacks"
        )
    if caller.limits != UNLIMITED:
        raise PermissionDenied(principal=caller.display_name, why="its own key has limits, and a role has none")

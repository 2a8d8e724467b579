"""What the configuration of an approval step is made of besides texts and durations: members, roles, a count."""

from __future__ import annotations

from typing import Any

from core.domain.control.approval_rule import MOST_NAMED, ROLES
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.steps.outward_shapes import MEMBER
from core.domain.steps.shapes import Scope, wrong_type


@frozen
class Count:
    """A whole number from 1 on."""

    most: int = MOST_NAMED
    hint: str = "Write a number, such as 2."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "integer", "minimum": 1, "maximum": self.most}

    def read(self, raw: Any, scope: Scope, path: str) -> int:
        """Return the number, or report what is wrong."""
        if not isinstance(raw, int) or isinstance(raw, bool) or not 1 <= raw <= self.most:
            scope.add(path, "OUT_OF_RANGE", f"this must be a whole number from 1 to {self.most}", self.hint)
            return 1
        return raw


@frozen
class Roles:
    """Roles of members."""

    hint: str = f"Write a list, such as [admin, approver]; the roles are {', '.join(ROLES)}."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "array", "minItems": 1, "maxItems": len(ROLES), "items": {"enum": list(ROLES)}}

    def read(self, raw: Any, scope: Scope, path: str) -> tuple[str, ...]:
        """Return the roles, or report what is wrong."""
        if not isinstance(raw, list) or not raw or len(raw) > len(ROLES):
            wrong_type(raw, "a list of roles", self, scope, path)
            return ()
        for index, role in enumerate(raw):
            if role not in ROLES:
                hint = did_you_mean(str(role), ROLES) or self.hint
                scope.add(f"{path}[{index}]", "UNKNOWN_VALUE", f"there is no role {str(role)[:40]}", hint)
        return tuple(dict.fromkeys(role for role in raw if isinstance(role, str)))


@frozen
class Members:
    """Members by their ids."""

    hint: str = "Write ids of members, such as [mem_…, mem_…]; list the members to see who there is."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "array", "minItems": 1, "maxItems": MOST_NAMED, "items": MEMBER.schema()}

    def read(self, raw: Any, scope: Scope, path: str) -> tuple[str, ...]:
        """Return the members, or report what is wrong."""
        if not isinstance(raw, list) or not 1 <= len(raw) <= MOST_NAMED:
            wrong_type(raw, f"a list of 1 to {MOST_NAMED} members", self, scope, path)
            return ()
        return tuple(dict.fromkeys(MEMBER.read(item, scope, f"{path}[{index}]") for index, item in enumerate(raw)))

"""What is wrong with a request, collected so that the caller hears all of it at once."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.errors import Invalid, Violation
from core.domain.nearest import did_you_mean

_MOST = 100
_SHOWN_NAME = 100


class Problems:
    """The violations found so far; past the hundredth nobody reads them, so they are not kept."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Violation] = []

    @property
    def full(self) -> bool:
        """Tell whether there is no use in looking further."""
        return len(self.found) >= _MOST

    def add(self, field: str, reason: str, message: str, hint: str = "") -> None:
        """Note one thing."""
        if not self.full:
            self.found.append(Violation(field, reason, message, hint))

    def unknown(self, field: str, name: str, names: Iterable[str], what: str, hint: str = "") -> None:
        """Note a name that does not exist, with the nearest one that does."""
        if not self.full:
            known = list(names)
            near = did_you_mean(name[:_SHOWN_NAME], known) or hint
            self.add(field, "UNKNOWN_FIELD", f"is not {what}", near or _all_of(known))

    def refuse(self) -> None:
        """Refuse the request if anything was found. Raises Invalid."""
        if self.found:
            raise Invalid(*self.found)


def _all_of(names: list[str]) -> str:
    return f"There are: {', '.join(sorted(names)[:30])}." if names else "There are none."

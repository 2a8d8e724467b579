"""Everything found wrong in a document while it is read, so that its author is told all at once."""

from __future__ import annotations

from dataclasses import field

from core.domain.errors import Violation
from core.domain.frozen import frozen


@frozen
class Findings:
    """What is wrong so far, in the order in which it was met."""

    problems: list[Violation] = field(default_factory=list)

    def add(self, path: str, reason: str, message: str, hint: str) -> None:
        """Report one thing that is wrong."""
        self.problems.append(Violation(path, reason, message, hint))

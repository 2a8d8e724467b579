"""When a workflow pauses itself: too many of its last step outcomes failed."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.frozen import frozen
from core.domain.workflow.version import Breaker


@frozen
class Tripped:
    """Why a workflow pauses itself."""

    failed: int
    of: int

    @property
    def reason(self) -> str:
        """Return it as a sentence for whoever has to repair the workflow."""
        return f"{self.failed} of the last {self.of} step outcomes failed; repair what failed, then resume."


def judge(breaker: Breaker, newest_first: Iterable[tuple[bool, int]]) -> Tripped | None:
    """Return why the workflow must pause, or None; outcomes come as `(failed, how many)`, the newest first.

    Fewer outcomes than the breaker looks at say nothing yet. The last group counts as far as it is needed, its failures
    first: of outcomes that happened at once none is older.
    """
    failed = total = 0
    for is_failed, count in newest_first:
        taken = min(count, breaker.of_last - total)
        total += taken
        failed += taken if is_failed else 0
        if total >= breaker.of_last:
            break
    if total < breaker.of_last or failed * 100 < breaker.percent * total:
        return None
    return Tripped(failed, total)

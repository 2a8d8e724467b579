"""How long until a process that starts has committed its first batch, with everybody asleep that there is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tests.bench import prepared
from tests.bench.figures import Aim, Figure
from tests.bench.session import Session

_AIM = Aim("value", "<=", 0.5)


async def measure(session: Session) -> None:
    """Measure starts with sleepers and without, in turns."""
    for kind in session.options.databases:
        made = await prepared.get(session, kind)
        awake, asleep = [], []
        for _ in range(session.options.rounds):
            awake.append(await made.awake.restart())
            asleep.append(await made.restart())
        for begin, what in (("opening", "open the database, commit the first step"), ("spawned", "the same from exec")):
            samples = _seconds(asleep, begin)
            session.add(
                Figure(
                    "restart", f"{what}, {made.sleepers:,} asleep", made.label, statistics.median(samples), "s",
                    "s with nobody asleep", statistics.median(_seconds(awake, begin)), _AIM, tuple(samples),
                )
            )  # fmt: skip


def _seconds(starts: Sequence[dict[str, Any]], begin: str) -> list[float]:
    assert all(one["moved"] for one in starts)
    return [one["first"] - one[begin] for one in starts]

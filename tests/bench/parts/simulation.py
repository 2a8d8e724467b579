"""What it costs to try a workflow before it is published: the templates, each on thousands of contacts for months."""

from __future__ import annotations

from statistics import median

from tests.bench.figures import Aim, Figure
from tests.bench.session import Session

_WORKFLOWS = ("trial-nurture", "cold-dm", "inbound-qualification")
_DAYS = 90
_ROUNDS = 3
"""At least: a run takes some seconds only."""

_AIM = Aim("value", "<=", 10.0)
_OF = 10_000
"""Contacts that the aim is for."""


async def measure(session: Session) -> None:
    """Measure each workflow by itself."""
    contacts = session.options.simulated
    for workflow in _WORKFLOWS:
        rounds = [
            await session.run(
                f"simulation of {workflow}", "simulation", workflow=workflow, contacts=contacts, days=_DAYS
            )
            for _ in range(max(session.options.rounds, _ROUNDS))
        ]
        taken, told = tuple(one["seconds"] for one in rounds), rounds[0]
        what = f"{workflow} on {contacts:,} contacts for {_DAYS} days"
        note = f"{told['enrollments']:,} enrollments, {told['transitions']:,} transitions"
        aim = _AIM if contacts == _OF else None
        session.add(Figure("simulation", what, "", median(taken), "s of CPU", aim=aim, samples=taken, note=note))

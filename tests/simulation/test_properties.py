"""What holds of every simulation: nobody is lost, everything adds up, and the same seed gives the same result."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import render
from core.simulation.made_up import made_up
from core.simulation.result import ACTIVE, EXCLUDED, Simulation
from tests.simulation.cases import START, tried
from tests.simulation.random_workflows import ASSUMPTIONS, EVENTS, documents

SCRIPTS = st.lists(
    st.fixed_dictionaries(
        {"event": st.sampled_from(EVENTS), "after": st.sampled_from(["1h", ["1h", "5d"]])},
        optional={
            "share": st.sampled_from([0.3, "80%"]),
            "since": st.sampled_from(["start", "entry", "s1", "s3"]),
            "fields": st.fixed_dictionaries({"x": st.sampled_from([0, 1, "A"])}),
        },
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(documents(), SCRIPTS, ASSUMPTIONS, st.integers(0, 3))
def test_nobody_is_lost(document: dict[str, Any], script: list[Any], assumed: dict[str, Any], seed: int) -> None:
    note(render(document))
    version = compile_document(document, workflow_id="w", number=1).version
    assert version is not None
    people = made_up(12, seed)

    def run() -> Simulation:
        horizon = timedelta(days=6)
        return tried(version, people, script, assumed, seed=seed, horizon=horizon, timelines=12)

    found = run()
    assert run() == found
    assert [one.contact_id for one in found.journeys] == [one.contact.id for one in people]
    for journey in found.journeys:
        assert (journey.state == EXCLUDED) == (not journey.enrollments)
        if journey.enrollments:
            assert journey.step_id in version.steps
        if journey.state not in (ACTIVE, EXCLUDED):
            assert journey.reason
    assert sum(found.states.values()) == found.enrollments == sum(one.enrollments for one in found.journeys)
    assert found.admitted + sum(one.state == EXCLUDED for one in found.journeys) == found.contacts
    for step in found.funnel:
        assert step.entered == sum(step.exits.values()) + step.waiting + step.ended + step.failed, step
    for timeline in found.timelines:
        assert [one.seq for one in timeline.entries] == list(range(1, len(timeline.entries) + 1))
        times = [one.at for one in timeline.entries]
        assert times == sorted(times)
        assert all(START <= at <= found.end for at in times)

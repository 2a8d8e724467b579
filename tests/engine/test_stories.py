"""Short stories that once went wrong, or would be told by chance too seldom: the engine against its model, by heart."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

import pytest

from tests.chaos.faults import Kind
from tests.engine.model import GOAL, LEFT, LONG, Policy
from tests.engine.stage import Stage, staged
from tests.engine.world import World

ADA, BOB = "ada@example.com", "bob@example.com"
HOUR = timedelta(hours=1)
KINDS: tuple[Kind, ...] = get_args(Kind)
POLICIES: tuple[Policy, ...] = get_args(Policy)
STRIDE = 1 if "DRIPSTONE_KILLS" in os.environ else 17
"""How many statements lie between two places where the power goes off."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stories")) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, stage: Stage) -> Iterator[World]:
    on_postgresql = request.param == "postgresql"
    made = stage.on_postgresql(request.getfixturevalue("postgresql_server")) if on_postgresql else stage.on_sqlite()
    stage.run(made.start())
    yield made
    stage.run(made.stop())


async def _pass(world: World, time: timedelta) -> None:
    world.clock.advance(time)
    await world.settle()


async def what_happened_during_a_pause_counts_before_what_happens_after_it(world: World) -> None:
    await world.enroll([ADA], "")
    await world.pause()
    await world.post(ADA, LEFT)
    await world.settle()
    await world.post(ADA, GOAL)  # comes to the engine after the pause only
    await world.resume("run_overdue")
    await world.settle()
    assert world.model.journeys[0].state == "exited"


async def a_pause_delays_nobody_who_entered_during_it(world: World) -> None:
    await world.pause()
    await _pass(world, 72 * HOUR)
    await world.enroll([ADA], "")
    await world.resume("shift")
    assert world.model.journeys[0].step == "nap"


async def a_shift_holds_nobody_who_was_due_before_the_pause(world: World) -> None:
    await world.enroll([ADA, BOB], "")
    world.clock.advance(5 * HOUR)  # nobody turns the loops
    await world.pause()
    world.clock.advance(1 * HOUR)
    await world.resume("shift")
    await world.settle()
    assert [one.step for one in world.model.journeys] == ["listen", "listen"]


async def overdue_is_passed_over_also_where_the_engine_was_down(world: World) -> None:
    await world.enroll([ADA], "")
    await world.pause()
    world.clock.advance(5 * HOUR)
    await world.resume("skip_overdue")
    await world.settle()
    assert world.model.journeys[0].sent["model.check"] == 0


async def nothing_is_sent_for_a_redriven_step_of_a_paused_workflow(world: World) -> None:
    world.model.grumpy = {ADA}
    await world.enroll([ADA], "")
    for _ in range(3):
        await _pass(world, 2 * HOUR)
    assert world.model.journeys[0].state == "failed"
    await world.pause()
    await world.redrive()
    await _pass(world, HOUR)
    assert world.model.journeys[0].sent["model.check"] == 2
    await world.resume("run_overdue")


async def nothing_is_sent_for_a_migrated_enrollment_of_a_paused_workflow(world: World) -> None:
    world.model.grumpy = {ADA}
    await world.enroll([ADA], "")
    await _pass(world, 2 * HOUR)
    assert world.model.journeys[0].waiting == "retry"
    await world.publish(LONG)
    await world.pause()
    await world.migrate({"check": "vote"}, {}, disturb=False)
    await _pass(world, HOUR)
    assert world.model.journeys[0].sent["approval.requested"] == 0
    await world.resume("run_overdue")
    assert world.model.journeys[0].state == "awaiting_approval"


async def nobody_runs_twice_because_a_failed_step_is_tried_again(world: World) -> None:
    world.model.grumpy = {ADA}
    await world.enroll([ADA], "")
    for _ in range(3):
        await _pass(world, 2 * HOUR)
    await world.enroll([ADA], "")
    await world.redrive()
    await world.settle()


async def a_wait_that_is_made_again_stays_moved_by_each_pause(world: World) -> None:
    await world.enroll([ADA], "")
    for _ in range(2):
        await world.pause()
        world.clock.advance(HOUR)
        await world.resume("shift")
    await world.publish(LONG)
    await world.migrate({}, {"nap": "recompute"}, disturb=False)
    await _pass(world, 4 * HOUR)  # six hours after it began, of five that the pauses have made seven
    assert world.model.journeys[0].step == "nap"
    await _pass(world, 2 * HOUR)
    assert world.model.journeys[0].step == "vote"


STORIES = [
    what_happened_during_a_pause_counts_before_what_happens_after_it,
    a_pause_delays_nobody_who_entered_during_it,
    a_shift_holds_nobody_who_was_due_before_the_pause,
    overdue_is_passed_over_also_where_the_engine_was_down,
    nothing_is_sent_for_a_redriven_step_of_a_paused_workflow,
    nothing_is_sent_for_a_migrated_enrollment_of_a_paused_workflow,
    nobody_runs_twice_because_a_failed_step_is_tried_again,
    a_wait_that_is_made_again_stays_moved_by_each_pause,
]


@pytest.mark.parametrize("story", STORIES, ids=[story.__name__ for story in STORIES])
def test_it_is_as_the_model_says_that(stage: Stage, world: World, story: Any) -> None:
    stage.run(story(world))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pause_is_over_whole_or_not_at_all(stage: Stage, world: World, kind: Kind) -> None:
    for statements, policy in zip(range(3, 60, STRIDE), itertools.cycle(POLICIES)):
        stage.run(_once(world, kind, statements, policy))


async def _once(world: World, kind: Kind, statements: int, policy: Policy) -> None:
    await world.enroll([ADA, BOB], f"{kind} {statements}")
    await world.pause()
    await _pass(world, 3 * HOUR)
    world.fail(kind, statements)
    await world.resume(policy)
    await world.settle()


@pytest.mark.parametrize("kind", KINDS)
def test_wherever_the_power_goes_off_nobody_is_lost_or_doubled(stage: Stage, world: World, kind: Kind) -> None:
    for statements in range(0, 70, STRIDE):
        world.fail(kind, statements)
        stage.run(world.enroll([ADA, BOB], f"{kind} {statements}"))
        world.clock.advance(3 * HOUR)
        world.fail(kind, statements, process=statements)
        stage.run(world.settle())

"""Whatever is done to a workflow, in any order, wherever the power goes off: the engine does what its model says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.engine.model import GOAL, LEFT, LONG, REPLY, SHORT
from tests.engine.stage import Stage, staged
from tests.engine.world import World

EMAILS = [f"c{number}@example.com" for number in range(4)]
THOROUGH = int(os.environ.get("DRIPSTONE_KILLS", "0"))
"""How many stories to live through; a few where nothing is said."""

some = st.lists(st.sampled_from(EMAILS), min_size=1, unique=True)
chance = st.integers(0, 1_000)
waits = st.sampled_from(["keep", "recompute", "restart"])


class Story(RuleBasedStateMachine):
    """One thing after another; after most of them everything settles and is compared."""

    def __init__(self, run: Callable[[Any], Any], opened: Callable[[], World]):
        super().__init__()
        self.run = run
        self.world = opened()
        self.began = self.world.clock.now()
        self.run(self.world.start())

    @property
    def model(self) -> Any:
        return self.world.model

    @property
    def is_young(self) -> bool:
        """Tell whether upkeep leaves everything there, also after four more days: it drops messages after thirty."""
        return self.world.clock.now() - self.began < timedelta(days=25)

    @initialize(emails=some, grumpy=st.booleans(), source=st.sampled_from([SHORT, LONG]))
    def begin(self, emails: list[str], grumpy: bool, source: str) -> None:
        if source != SHORT:
            self.run(self.world.publish(source))
        self.model.grumpy |= {emails[0]} if grumpy else set()
        self.run(self.world.enroll(emails, ""))

    @rule(emails=some, key=st.sampled_from(["", "", "order-1"]))
    def enroll(self, emails: list[str], key: str) -> None:
        self.run(self.world.enroll(emails, key))

    @rule(email=st.sampled_from(EMAILS), name=st.sampled_from([REPLY, REPLY, REPLY, GOAL, LEFT]))
    def post(self, email: str, name: str) -> None:
        if email in self.world.contacts.values():
            self.run(self.world.post(email, name))

    @precondition(lambda self: self.is_young)
    @rule(hours=st.sampled_from([1, 1, 2, 5, 24, 72]), deliver=st.sampled_from([True, True, True, False]))
    def pass_time(self, hours: int, deliver: bool) -> None:
        self.world.clock.advance(timedelta(hours=hours))
        self.run(self.world.settle(deliver=deliver))

    @precondition(lambda self: self.is_young)
    @rule(days=st.integers(2, 4))
    def days_go_by(self, days: int) -> None:
        """Let everybody come far: by single hours, few get past their first waits."""
        for _ in range(days):
            self.world.clock.advance(timedelta(days=1))
            self.run(self.world.settle())

    @precondition(lambda self: self.is_young)
    @rule(hours=st.sampled_from([1, 5, 24]))
    def pass_time_with_the_engine_down(self, hours: int) -> None:
        self.world.clock.advance(timedelta(hours=hours))

    @rule()
    def settle(self) -> None:
        self.run(self.world.settle())

    @precondition(lambda self: self.model.paused_at is None)
    @rule()
    def pause(self) -> None:
        self.run(self.world.pause())

    @precondition(lambda self: self.model.paused_at is not None)
    @rule(policy=st.sampled_from(["run_overdue", "shift", "skip_overdue"]), settled=st.booleans())
    def resume(self, policy: Any, settled: bool) -> None:
        if settled:
            self.run(self.world.settle())
        self.run(self.world.resume(policy))

    @precondition(lambda self: len(self.model.versions) < 5)
    @rule(source=st.sampled_from([LONG, LONG, SHORT]))
    def publish(self, source: str) -> None:
        self.run(self.world.publish(source))

    @rule(
        steps=st.sampled_from([{}, {"check": "listen"}, {"vote": "exit"}, {"vote": "listen", "check": "vote"}]),
        waits=st.just({}) | st.dictionaries(st.sampled_from(["nap", "listen", "vote", "check"]), waits),
        disturb=st.sampled_from([False, False, False, True]),
    )
    def migrate(self, steps: dict[str, str], waits: Any, disturb: bool) -> None:
        self.run(self.world.migrate(steps, waits, disturb))

    @rule(email=st.sampled_from(EMAILS))
    def change_the_receivers_mind(self, email: str) -> None:
        self.model.grumpy ^= {email}

    @precondition(lambda self: any(one.state == "failed" for one in self.model.journeys))
    @rule()
    def redrive(self) -> None:
        self.run(self.world.redrive())

    @rule(which=chance)
    def cancel(self, which: int) -> None:
        if which % 3 == 0 and (running := self.model.running()):
            self.run(self.world.cancel(running[which % len(running)]))

    @rule(which=chance, approved=st.booleans())
    def decide(self, which: int, approved: bool) -> None:
        now = self.world.clock.now() + timedelta(seconds=1)
        asked = [one for one in self.model.running() if one.waiting == "approval" and one.asked_until > now]
        undecided = [one for one in asked if ("vote", one.asked) not in {(s[0], s[1][0]) for s in one.held if s[1]}]
        if undecided:
            self.run(self.world.decide(undecided[which % len(undecided)], approved))

    @rule()
    def fold(self) -> None:
        self.run(self.world.fold())

    @rule(kind=st.sampled_from(["cut before", "cut after", "hiccup"]), statements=st.integers(0, 60), process=chance)
    def fault(self, kind: Any, statements: int, process: int) -> None:
        self.world.fail(kind, statements, process)

    def teardown(self) -> None:
        self.run(self.world.stop())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as found:
        yield found


def _tell(stage: Stage, opened: Callable[[], World], stories: int, steps: int) -> None:
    """Live through stories."""
    run_state_machine_as_test(
        partial(Story, stage.run, opened),
        settings=settings(
            max_examples=max(1, THOROUGH) * stories,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_engine_does_what_its_model_says(stage: Stage) -> None:
    _tell(stage, stage.on_sqlite, stories=25, steps=25)


def test_two_processes_at_once_do_what_the_model_says(stage: Stage, postgresql_server: str) -> None:
    _tell(stage, lambda: stage.on_postgresql(postgresql_server), stories=6, steps=20)

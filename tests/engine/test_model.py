"""Whatever is done to a workflow, in any order, wherever the power goes off: the engine does what its model says."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import make_url

from core import provisioning
from core.clock import ManualClock
from dripstone.v1 import event_pb2, webhook_pb2, workflow_pb2
from tests.chaos.process import Process
from tests.conftest import START, new_postgresql_database
from tests.engine.model import GOAL, LEFT, LONG, REPLY, SHORT
from tests.engine.world import WORKFLOW, Keys, World
from tests.receiver import Receiver

EMAILS = [f"c{number}@example.com" for number in range(4)]
THOROUGH = int(os.environ.get("DRIPSTONE_KILLS", "0"))
"""How many stories to live through; a few where nothing is said."""

some = st.lists(st.sampled_from(EMAILS), min_size=1, unique=True)
_serial = itertools.count()
chance = st.integers(0, 1_000)


class Story(RuleBasedStateMachine):
    """One thing after another; after most of them everything settles and is compared."""

    def __init__(self, run: Callable[[Any], Any], opened: Callable[[], World]):
        super().__init__()
        self.run = run
        self.world = opened()
        self.run(self.world.start())

    @property
    def model(self) -> Any:
        return self.world.model

    @initialize(emails=some)
    def begin(self, emails: list[str]) -> None:
        self.run(self.world.enroll(emails, ""))

    @rule(emails=some, key=st.sampled_from(["", "", "order-1"]))
    def enroll(self, emails: list[str], key: str) -> None:
        self.run(self.world.enroll(emails, key))

    @rule(email=st.sampled_from(EMAILS), name=st.sampled_from([REPLY, REPLY, REPLY, GOAL, LEFT]))
    def post(self, email: str, name: str) -> None:
        if email in self.world.contacts.values():
            self.run(self.world.post(email, name))

    @rule(hours=st.sampled_from([1, 1, 2, 5, 24, 72]), deliver=st.sampled_from([True, True, True, False]))
    def pass_time(self, hours: int, deliver: bool) -> None:
        self.world.clock.advance(timedelta(hours=hours))
        self.run(self.world.settle(deliver=deliver))

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
        disturb=st.sampled_from([False, False, False, True]),
    )
    def migrate(self, steps: dict[str, str], disturb: bool) -> None:
        self.run(self.world.migrate(steps, disturb))

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


@dataclass(frozen=True, slots=True)
class Stage:
    """What all stories share: a loop, a receiver, and a database to copy."""

    runner: asyncio.Runner
    receiver: Receiver
    folder: Path

    def prepare(self, url: str) -> Keys:
        """Fill the database that every story begins with."""
        return self.runner.run(self._prepare(Process(url, self.folder / "template", ManualClock(START))))

    async def _prepare(self, process: Process) -> Keys:
        await process.start()
        made = await provisioning.create_organization(process.core.database, "Acme", "Europe/Berlin")
        keys = Keys(made.org_id, made.api_key, made.approver_key)
        for name, request in (
            ("WebhookService.CreateEndpoint", webhook_pb2.CreateEndpointRequest(url=self.receiver.url)),
            (
                "EventService.CreateSource",
                event_pb2.CreateSourceRequest(source_id="app", display_name="App", kind=event_pb2.SOURCE_KIND_WEBHOOK),
            ),
            (
                "WorkflowService.CreateWorkflow",
                workflow_pb2.CreateWorkflowRequest(workflow_id=WORKFLOW, source=SHORT, publish=True),
            ),
        ):
            await process.call(name, request, keys.service)
        await process.stop()
        return keys

    def tell(self, opened: Callable[[], World], stories: int, steps: int) -> None:
        """Live through stories."""
        run_state_machine_as_test(
            partial(Story, self.runner.run, opened),
            settings=settings(
                max_examples=THOROUGH * stories or stories,
                stateful_step_count=steps,
                deadline=None,
                **({"phases": [Phase.generate]} if os.environ.get("NOSHRINK") else {}),
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    receiver = Receiver()
    with asyncio.Runner() as runner:
        runner.run(receiver.start())
        yield Stage(runner, receiver, tmp_path)
        runner.run(receiver.stop())


def test_the_engine_does_what_its_model_says(stage: Stage) -> None:
    template = stage.folder / "template.db"
    keys = stage.prepare(f"sqlite:///{template}")

    def opened() -> World:
        path = shutil.copy(template, stage.folder / f"story-{next(_serial)}.db")
        clock = ManualClock(START + timedelta(minutes=1))
        return World([Process(f"sqlite:///{path}", stage.folder, clock)], clock, stage.receiver, keys)

    stage.tell(opened, stories=15, steps=25)


def test_two_processes_at_once_do_what_the_model_says(stage: Stage, postgresql_server: str) -> None:
    with ExitStack() as databases:
        template = databases.enter_context(new_postgresql_database(postgresql_server))
        keys = stage.prepare(template)

        def opened() -> World:
            url = databases.enter_context(_copied(stage, postgresql_server, template))
            clock = ManualClock(START + timedelta(minutes=1))
            processes = [Process(url, stage.folder / name, clock) for name in ("one", "two")]
            return World(processes, clock, stage.receiver, keys)

        stage.tell(opened, stories=4, steps=20)


@contextmanager
def _copied(stage: Stage, server: str, template: str) -> Iterator[str]:
    """Copy a database; drop the copy afterwards."""
    original = make_url(template)
    copy = f"{original.database}_{next(_serial)}"

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(statement)
        await connection.close()

    stage.runner.run(run(f'CREATE DATABASE "{copy}" TEMPLATE "{original.database}" OWNER "{original.username}"'))
    yield original.set(database=copy).render_as_string(hide_password=False)
    stage.runner.run(run(f'DROP DATABASE "{copy}" WITH (FORCE)'))

"""Nobody is forgotten when a pause ends while the engine still writes what it decided during it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from core.store.workflows.enrollments import HELD, enrollments
from dripstone.v1 import workflow_pb2
from tests.journeys.following import Story
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

SOURCE = "title: T\nsteps:\n  - {id: pause, kind: wait, for: 1h}\n  - {id: rest, kind: wait, for: 9d}\n"


async def test_who_was_let_stand_after_the_resumption_is_brought_back(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        await story.publish("rest", SOURCE)
        (ada,) = await story.enroll("rest", "ada@example.com")
        await client.workflows.PauseWorkflow(workflow_pb2.PauseWorkflowRequest(workflow_id="rest"))
        core.clock.advance(timedelta(hours=2))
        await client.workflows.ResumeWorkflow(workflow_pb2.ResumeWorkflowRequest(workflow_id="rest"))
        # What a batch of another process writes that began before the resumption.
        async with core.core.database.system() as tx:
            await tx.run(update(enrollments).where(enrollments.c.id == ada).values(due_at=None, parked=HELD))
        await core.settle()
        assert await story.where(ada) == ("active", "pause")
        await core.pass_time(timedelta(minutes=1))
        assert await story.where(ada) == ("active", "rest")

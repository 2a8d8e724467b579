"""Redriving dead letters: of contacts that are gone, nothing is carried out any more."""

from __future__ import annotations

from typing import Any

import pytest

from core.engine.leaving import end_enrollments
from core.rpc.enrollments import dead_letters
from core.store.records import deleting
from dripstone.v1 import enrollment_pb2 as pb
from tests.engine.parts import ORG
from tests.engine.parts import Parts as Engine
from tests.rpc.workflow_calls import call, enroll

pytestmark = pytest.mark.anyio

FRAGILE = """
steps:
  - {id: seats, kind: update, set: {employees: "{{ vars.seats }}"}}
  - {id: told, kind: webhook, event_type: told.hello}
"""


async def _redriven(engine: Engine, **which: Any) -> list[tuple[bool, str]]:
    request = pb.RedriveDeadLettersRequest(**which)
    answer: pb.RedriveDeadLettersResponse = await call(engine, dead_letters.redrive_dead_letters, request)
    return [(one.redriven, one.reason) for one in answer.results]


async def test_nothing_is_tried_again_for_a_contact_that_is_gone(engine: Engine) -> None:
    await engine.publish(FRAGILE)
    for _ in range(2):
        await enroll(engine, seats="many")
    gone, stands = await engine.enrolled()
    async with engine.database.write(ORG) as tx:
        found = await deleting.find(tx, gone.contact_id)
        await end_enrollments(tx, engine.driver, [gone.contact_id], "key_1", "deleted")
        await deleting.delete(tx, [found], actor="key_1", cause="test")
    await engine.publish(FRAGILE.replace("vars.seats", "contact.custom.seats"))
    assert await _redriven(engine, workflow_id="w") == [(False, "CONTACT_GONE"), (True, "")]
    left, tried = await engine.enrolled()
    assert (left.rev, tried.rev) == (gone.rev, stands.rev + 1)

    async with engine.database.write(ORG) as tx:
        await deleting.restore(tx, gone.contact_id, actor="key_1", cause="test")
    assert (True, "") in await _redriven(engine, workflow_id="w")

"""Lists refuse a filter by a word that a column never holds, instead of finding nothing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from core.domain.errors import Invalid, Violation
from core.rpc.call import Call, Caller
from core.rpc.enrollments import dead_letters
from core.rpc.methods import Method, table
from core.rpc.workflows import workflows
from core.store.database import Database
from core.store.transaction import Transaction
from dripstone.v1 import enrollment_pb2, workflow_pb2

pytestmark = pytest.mark.anyio


def _by_state() -> list[Method]:
    """Return the methods whose list can be filtered by state."""
    lists = (method for method in table() if "filter" in method.descriptor.input_type.fields_by_name)
    filtered = ((method, getattr(sys.modules[method.handler.__module__], "_FILTERED", {})) for method in lists)
    return [method for method, fields in filtered if "state" in fields]


def _call(tx: Transaction) -> Call:
    caller = Caller("org_1", "key_1", "service", "Tests", frozenset())
    return Call(caller=caller, now=tx.now, parts=None, request_id="r1", metadata={}, _tx=tx)  # type: ignore[arg-type]


async def _refused(database: Database, handler: Any, request: Any) -> tuple[Violation, ...]:
    async with database.write("org_1") as tx:
        with pytest.raises(Invalid) as refused:
            await handler(request, _call(tx))
    return refused.value.violations


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("method", [pytest.param(one, id=one.name) for one in _by_state()])
async def test_every_list_knows_its_states(database: Database, method: Method) -> None:
    request = method.request_class(filter='state = "no such state"')
    (told,) = await _refused(database, method.handler, request)
    assert (told.field, told.reason) == ("filter", "UNKNOWN_VALUE")


def test_those_are_the_lists_that_have_states() -> None:
    assert [method.name for method in _by_state()] == [
        "RecordService.ListIdentityConflicts",
        "EventService.ListQuarantined",
        "WorkflowService.ListWorkflows",
        "EnrollmentService.ListEnrollments",
        "EnrollmentService.ListOutgoingMessages",
        "EnrollmentService.ListDeadLetters",
        "EnrollmentService.RedriveDeadLetters",
        "AgentService.ListAgentTasks",
        "ApprovalService.ListApprovals",
        "ApprovalService.ListPlans",
        "WebhookService.ListDeliveries",
        "WebhookService.ListReplays",
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_known_values_are_told_and_the_nearest(database: Database) -> None:
    states = "It is one of draft, active, archived, paused."
    text = 'NOT (state = "pausd" OR state != x)'
    assert await _refused(database, workflows.list_workflows, workflow_pb2.ListWorkflowsRequest(filter=text)) == (
        Violation(
            "filter",
            "UNKNOWN_VALUE",
            "compares `state` with `pausd`, which it never is",
            f"Did you mean paused? {states}",
        ),
        Violation("filter", "UNKNOWN_VALUE", "compares `state` with `x`, which it never is", states),
    )
    redrive = enrollment_pb2.RedriveDeadLettersRequest(filter='state = "open" AND kind = mesage')
    (told,) = await _refused(database, dead_letters.redrive_dead_letters, redrive)
    assert told.hint.startswith("Did you mean message? It is one of wait, filter, ")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("text", ["", 'state = "active"', "state:act", "state:*", "NOT state != paused"])
async def test_other_filters_are_as_they_were(database: Database, text: str) -> None:
    async with database.read("org_1") as tx:
        answer = await workflows.list_workflows(workflow_pb2.ListWorkflowsRequest(filter=text), _call(tx))
    assert not answer.workflows

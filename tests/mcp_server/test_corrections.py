"""A call that an error suggests can work, and never commits what was guessed."""

from __future__ import annotations

import json

import pytest

from core.domain import errors
from tests.mcp_server.conftest import Agent
from tests.mcp_server.stand_in import StandIn

pytestmark = pytest.mark.anyio


@pytest.fixture
def era() -> str:
    """Run in one era alone: what is said is composed before the protocol; test_story and test_surface run in both."""
    return "auto"


ADA = {"email": "ada@example.com"}
COMMIT = {"mode": "commit", "idempotency_key": "k"}

GUESSES = [
    ("enroll", {"workflow_id": "nuture", "contacts": [ADA], **COMMIT}, '"workflow_id":"nurture"'),
    ("execute-workflow", {"workflow_id": "nuture", "input": ADA, **COMMIT}, '"workflow_id":"nurture"'),
    ("enroll", {"workflow_id": "nurture", "contacts": [ADA], **COMMIT, "mode": "comit"}, '"mode":"preview"'),
    ("enroll", {"workflow_id": "nurture", "contacts": [ADA], **COMMIT, "mode": "yes"}, '"mode":"preview"'),
    ("enroll", {"workflow": "nurture", "contacts": [ADA], **COMMIT}, '"workflow_id":"nurture"'),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"emial": "a@example.com"}], **COMMIT}, '"email":"a@'),
    ("update-record", {"who": "cnt_1", "fields": {"tier": "A"}, **COMMIT}, '"record_id":"<record_id>"'),
]


@pytest.mark.parametrize(("tool", "arguments", "guess"), GUESSES)
async def test_what_is_guessed_is_suggested_as_a_preview_without_the_key(
    agent: Agent, tool: str, arguments: dict[str, object], guess: str
) -> None:
    following = (await agent.refused(tool, **arguments))["next"]
    assert guess in following
    assert '"mode":"preview"' in following
    assert "commit" not in following
    assert "idempotency_key" not in following


async def test_a_scoring_model_that_is_guessed_is_previewed(agent: Agent, core: StandIn) -> None:
    await agent.ok("list-workflows")
    core.broken = errors.ScoringModelNotFound(kind="scoring model", id="inbuond", known="default, inbound")
    error = await agent.refused("qualify-lead", lead_id="lead_1", model_id="inbuond", **COMMIT)
    assert error["next"] == 'qualify-lead {"lead_id":"lead_1","model_id":"inbound","mode":"preview"}'


async def test_a_workflow_that_is_not_nearly_one_is_not_guessed(agent: Agent) -> None:
    error = await agent.refused("enroll", workflow_id="trial-nurture", contacts=[ADA], **COMMIT)
    assert (error["next"], error["hint"]) == ("list-workflows {}", "Workflows: nurture.")


async def test_a_decision_is_never_guessed(agent: Agent, approver: Agent) -> None:
    error = await approver.refused("decide-approval", approval_id="apr_1", decision="ok", subject_hash="h1")
    assert '"decision":"<approve|reject>"' in error["next"]


PLACEHOLDERS = [
    ("enroll", {"workflow_id": "nurture", "contacts": "a@example.com"}, '"contacts":[{"email":"<e-mail>"}]'),
    ("enroll", {"workflow_id": "nurture", "contacts": []}, '"contacts":[{"email":"<e-mail>"}]'),
    ("enroll", {"workflow_id": "nurture", "contacts": ["a@example.com"]}, '"contacts":[{"email":"<e-mail>"}]'),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"adress": "a"}]}, '"contacts":[{"email":"<e-mail>"}]'),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"mail": "a@x.com"}]}, '"contacts":[{"email":"a@x.com"}]'),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"email": 5}]}, '"contacts":[{"email":"<e-mail>"}]'),
    ("execute-workflow", {"workflow_id": "nurture", "input": "x"}, '"input":{"email":"<e-mail>"}'),
    ("update-record", {"record_id": "cnt_1", "fields": {}}, '"fields":{"<field>":"<value>"}'),
    ("find-records", {"limit": 900}, '"limit":50'),
    ("get-record", {}, '"record_id":"<record_id>"'),
]


@pytest.mark.parametrize(("tool", "arguments", "mended"), PLACEHOLDERS)
async def test_an_argument_that_does_not_fit_is_mended_or_held_open(
    agent: Agent, tool: str, arguments: dict[str, object], mended: str
) -> None:
    assert mended in (await agent.refused(tool, **arguments))["next"]


async def test_several_violations_are_each_told_once_with_their_ways_out(agent: Agent, core: StandIn) -> None:
    await agent.ok("list-workflows")
    core.broken = errors.Invalid(
        errors.Violation("fields.score", "TYPE_MISMATCH", "must be a whole number.", "Send a number."),
        errors.Violation("fields.timezone", "NOT_A_ZONE", "is not a time zone", "Use one such as Europe/Berlin."),
    )
    result = await agent.call("update-record", record_id="cnt_1", fields={"score": "x"}, mode="commit")
    assert result.structured_content is not None
    assert result.structured_content["error"]["problems"] == [
        {
            "field": "fields.score",
            "reason": "TYPE_MISMATCH",
            "message": "must be a whole number.",
            "hint": "Send a number.",
        },
        {
            "field": "fields.timezone",
            "reason": "NOT_A_ZONE",
            "message": "is not a time zone",
            "hint": "Use one such as Europe/Berlin.",
        },
    ]
    text = result.content[0].text
    assert "- fields.timezone: is not a time zone. Use one such as Europe/Berlin." in text
    for once in ("fields.score", "must be a whole number.", "Send a number.", "Correct the named fields"):
        assert text.count(once) == 1


async def test_one_violation_is_told_once(agent: Agent) -> None:
    text = (await agent.call("update-record", record_id="cnt_1", fields={"score": "high"})).content[0].text
    assert text.startswith("INVALID_ARGUMENT: fields.score: must be a whole number.\nSend a number.\nnext: ")


async def test_a_payload_that_names_nobody_is_answered_with_the_place_for_an_e_mail(
    agent: Agent, core: StandIn
) -> None:
    await agent.ok("list-workflows")
    core.broken = errors.invalid("input", "NO_CONTACT", "the payload names no contact", "Give email.")
    error = await agent.refused("execute-workflow", workflow_id="nurture", input={"plan": "pro"}, **COMMIT)
    assert error["next"] == (
        'execute-workflow {"workflow_id":"nurture","input":{"email":"<e-mail>","plan":"pro"},"mode":"preview"}'
    )


UNLISTED = ["plan", "execution", "enrollment", "agent", "workflow version"]


@pytest.mark.parametrize("kind", UNLISTED)
async def test_what_no_tool_lists_is_not_said_to_be_listed(agent: Agent, core: StandIn, kind: str) -> None:
    await agent.ok("list-workflows")
    core.broken = errors.NotFound(kind=kind, id="x")
    error = await agent.refused("qualify-lead", plan_id="x", **COMMIT)
    assert f"list the {kind}s" not in json.dumps(error)


async def test_a_plan_that_is_applied_already_is_said_to_be_done(agent: Agent, core: StandIn) -> None:
    await agent.ok("list-workflows")
    core.broken = errors.WrongState(kind="plan", id="pln_1", state="applied", action="another commit")
    error = await agent.refused("qualify-lead", lead_id="lead_1", plan_id="pln_1", **COMMIT)
    assert error["next"] == 'Tell the person that it is done; to see the lead: get-record {"record_id":"lead_1"}'
    assert error["hint"] == "The plan is applied: nothing is left to do."

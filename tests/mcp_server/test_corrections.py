"""A call that an error suggests can work, and never commits what was guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.domain import errors
from tests.mcp_server.conftest import Agent, Broken
from tests.mcp_server.test_story import call_in

pytestmark = pytest.mark.anyio


ADA = {"email": "ada@example.com"}
COMMIT = {"mode": "commit", "idempotency_key": "k"}

GUESSES = [
    ("enroll", {"workflow_id": "nuture", "contacts": [ADA], **COMMIT}, '"workflow_id":"nurture"'),
    ("execute-workflow", {"workflow_id": "nuture", "input": ADA, **COMMIT}, '"workflow_id":"nurture"'),
    ("enroll", {"workflow_id": "nurture", "contacts": [ADA], **COMMIT, "mode": "comit"}, '"mode":"preview"'),
    ("enroll", {"workflow_id": "nurture", "contacts": [ADA], **COMMIT, "mode": "yes"}, '"mode":"preview"'),
    ("enroll", {"workflow": "nurture", "contacts": [ADA], **COMMIT}, '"workflow_id":"nurture"'),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"emial": "a@example.com"}], **COMMIT}, '"email":"a@'),
    ("redeliver", {"who": "Ada", **COMMIT}, '"delivery_id":"<delivery_id>"'),
]


@pytest.mark.parametrize(("tool", "arguments", "guess"), GUESSES)
async def test_what_is_guessed_is_suggested_as_a_preview_without_the_key(
    idle: Agent, tool: str, arguments: dict[str, object], guess: str
) -> None:
    following = (await idle.refused(tool, **arguments))["next"]
    assert guess in following
    assert '"mode":"preview"' in following
    assert "commit" not in following
    assert "idempotency_key" not in following


async def test_of_a_long_call_is_told_what_is_to_be_corrected(idle: Agent) -> None:
    many = [{"email": f"{number}@example.com"} for number in range(30)]
    error = await idle.refused("enroll", workflow_id="nuture", contacts=many, **COMMIT)
    without = 'without "idempotency_key"'
    assert error["next"] == f'the same enroll call again, {without}, with "workflow_id":"nurture","mode":"preview"'
    error = await idle.refused("enroll", workflow_id="nuture", contacts=many)
    assert error["next"] == 'the same enroll call again, with "workflow_id":"nurture"'
    many[7]["firstName"] = "Ada"
    error = await idle.refused("enroll", workflow_id="nurture", contacts=many)
    differing = 'without "contacts[7].firstName", with "contacts[7].first_name":"Ada"'
    assert error["next"] == f"the same enroll call again, {differing}"
    payload = {"plan": "x" * 400}
    error = await idle.refused("execute-workflow", workflow_id="nurture", input=payload, **COMMIT)
    placed = '"input.email":"<e-mail>","mode":"preview"'
    assert error["next"] == f"the same execute-workflow call again, {without}, with {placed}"


async def test_a_scoring_model_that_is_guessed_is_previewed(broken: Broken) -> None:
    broken.core.error = errors.ScoringModelNotFound(kind="scoring model", id="inbuond", known="default, inbound")
    error = await broken.agent.refused("qualify-lead", lead_id="lead_1", model_id="inbuond", **COMMIT)
    assert error["next"] == 'qualify-lead {"lead_id":"lead_1","model_id":"inbound","mode":"preview"}'


async def test_a_workflow_that_is_not_nearly_one_is_not_guessed(idle: Agent) -> None:
    error = await idle.refused("enroll", workflow_id="trial-nurture", contacts=[ADA], **COMMIT)
    assert (error["next"], error["hint"]) == ("list-workflows {}", "Workflows: nurture.")


async def test_a_decision_is_never_guessed(idle: Agent) -> None:
    error = await idle.refused("decide-approval", approval_id="apr_1", decision="ok", subject_hash="h1")
    assert '"decision":"<approve|reject>"' in error["next"]


PLACEHOLDERS = [
    ("enroll", {"workflow_id": "nurture", "contacts": 5}, '"contacts":[{"email":"<e-mail>"}]'),
    ("enroll", {"workflow_id": "nurture", "contacts": []}, '"contacts":[{"email":"<e-mail>"}]'),
    ("enroll", {"workflow_id": "nurture", "contacts": ["Ada"]}, '"contacts":[{"email":"<e-mail>"}]'),
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
    idle: Agent, tool: str, arguments: dict[str, object], mended: str
) -> None:
    assert mended in (await idle.refused(tool, **arguments))["next"]


MEANT = [
    ("enroll", {"workflow_id": "nurture", "contacts": "a@x.com, b@x.com"},
     {"contacts": [{"email": "a@x.com"}, {"email": "b@x.com"}]}),
    ("enroll", {"workflow_id": "nurture", "contacts": {"email": "a@x.com"}}, {"contacts": [{"email": "a@x.com"}]}),
    ("enroll", {"workflow_id": "nurture", "emails": ["a@x.com"]}, {"contacts": [{"email": "a@x.com"}]}),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"email": "a@x.com", "name": "Ada Love Lace"}]},
     {"contacts": [{"email": "a@x.com", "first_name": "Ada", "last_name": "Love Lace"}]}),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"email": "a@x.com", "mobile": 4930123456}]},
     {"contacts": [{"email": "a@x.com", "phone": "4930123456"}]}),
    ("enroll", {"workflowId": "Nurture for trials", "contacts": [{"email": "a@x.com", "fields": {"firstName": "Ada"}}]},
     {"workflow_id": "nurture"}),
    ("qualify-lead", {"e_mail": "a@x.com", "fields": {"companySize": 80}},
     {"email": "a@x.com", "fields": {"employees": 80}}),
    ("qualify-lead", {"lead_id": "a@x.com"}, {"email": "a@x.com"}),
    ("qualify-lead", {"email": "a@x.com", "evidence": [
        {"path": "job_title", "value": "CFO", "source": "https://x.com", "confidence": 0.8}]},
     {"evidence": [{"path": "contact.job_title", "value": "CFO", "source": "https://x.com", "confidence": 0.8}]}),
    ("execute-workflow", {"workflow_id": "nurture", "input": "a@x.com"}, {"input": {"email": "a@x.com"}}),
    ("execute-workflow", {"workflow_id": "nurture", "input": {"lead": {"mail": "a@x.com"}}},
     {"input": {"email": "a@x.com", "lead": {"mail": "a@x.com"}}}),
    ("execute-workflow", {"workflow": "nurture", "payload": {"email": "a@x.com"}}, {"input": {"email": "a@x.com"}}),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"contact_id": "a@x.com"}]},
     {"contacts": [{"email": "a@x.com"}]}),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"email": "a@x.com", "fields": {"jobTitle": "CFO"}}]},
     {"contacts": [{"email": "a@x.com", "fields": {"job_title": "CFO"}}]}),
    ("execute-workflow", {"workflow_id": "nurture", "email": "a@x.com"}, {"input": {"email": "a@x.com"}}),
    ("enroll", {"workflow_id": "nurture", "email": "a@x.com", "firstName": "Ada"},
     {"contacts": [{"email": "a@x.com", "first_name": "Ada"}]}),
    ("qualify-lead", {"email": "a@x.com", "jobTitle": "CFO", "dryRun": True},
     {"email": "a@x.com", "fields": {"job_title": "CFO"}}),
    ("qualify-lead", {"email": "a@x.com", "fields": {"custom.note-x": 1, "custom": {"an-other": 2}}},
     {"fields": {"custom.note_x": 1, "custom": {"an_other": 2}}}),
    ("qualify-lead", {"email": "a@x.com", "as_of": "yesterday"}, {"as_of": "<as_of>"}),
    ("get-record", {"record_id": "Ada Love"},
     {"query": "Ada Love"}),
    ("get-record", {"record_id": "a@x.com"}, {"email": "a@x.com"}),
    ("get-record", {"email": "a@x.com"}, {"email": "a@x.com"}),
    ("find-records", {"search": "Ada"}, {"query": "Ada"}),
    ("find-records", {"type": "lead", "tier": "A", "filter": "score > 7"}, {"filter": '(score > 7) AND tier = "A"'}),
    ("find-records", {"filter": {"first_name": "Ada"}}, {"filter": 'first_name = "Ada"'}),
    ("find-records", {"filter": "firstName == 'Ada'"}, {"filter": "first_name = 'Ada'"}),
    ("find-records", {"filter": "firstName = 'Ada'"}, {"filter": "first_name = 'Ada'"}),
    ("find-records", {"filter": "first_name LIKE '%Ada%'"}, {"filter": "first_name:'Ada'"}),
    ("list-approvals", {"status": "open"}, {"state": "pending"}),
    ("simulate-workflow", {"workflow_id": "nurture", "sample": 0, "events": ["reply.received"]},
     {"events": [{"name": "reply.received"}]}),
    ("simulate-workflow", {"workflow_id": "nurture", "sample": 0, "horizon": "30 days"}, {"horizon": "30d"}),
    ("draft-workflow", {"kinds": ["email"]}, {"kinds": ["message"]}),
    ("draft-workflow", {"kinds": ["mesage", "wait"]}, {"kinds": ["message", "wait"]}),
    ("undo-changes", {"undo": "my-key-1"}, {"idempotency_key": "my-key-1"}),
    ("end-enrollment", {"workflow_id": "nurture", "email": "a@x.com"}, {"workflow_id": "nurture", "email": "a@x.com"}),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "arguments", "meant"), MEANT)
async def test_what_was_given_is_kept_where_it_belongs(
    idle: Agent, tool: str, arguments: dict[str, Any], meant: dict[str, Any]
) -> None:
    tool, following = call_in((await idle.refused(tool, **arguments))["next"])
    assert {name: following.get(name) for name in meant} == meant


ELSEWHERE = [
    ("get-execution", "execution_id", "enr_1", "get-enrollment", "enrollment_id"),
    ("get-enrollment", "enrollment_id", "cnt_1", "get-record", "record_id"),
    ("end-enrollment", "enrollment_id", "exe_1", "get-execution", "execution_id"),
    ("get-record", "record_id", "dlv_1", "find-deliveries", "delivery_id"),
    ("redeliver", "delivery_id", "apr_1", "list-approvals", "approval_id"),
    ("get-workflow", "workflow_id", "tsk_1", "claim-task", "task_id"),
    ("explain-enrollment", "contact_id", "enr_1", "get-enrollment", "enrollment_id"),
]


@pytest.mark.parametrize(("tool", "argument", "given", "shows", "takes"), ELSEWHERE)
async def test_an_id_of_another_kind_leads_to_the_tool_that_takes_it(
    idle: Agent, tool: str, argument: str, given: str, shows: str, takes: str
) -> None:
    more = {"workflow_id": "nurture"} if tool == "explain-enrollment" else {}
    error = await idle.refused(tool, **{argument: given}, **more)
    following = call_in(error["next"])
    assert following in ((shows, {takes: given}), (tool, {**more, takes: given}))


TOOLS = [
    ("update_record", {"record_id": "cnt_1", "fields": {"phone": "1"}},
     "update-record", {"record_id": "cnt_1", "fields": {"phone": "1"}}),
    ("search-contacts", {"email": "a@x.com"}, "find-records", {"email": "a@x.com"}),
    ("getContact", {"id": "cnt_1"}, "get-record", {"record_id": "cnt_1"}),
    ("create-record", {"email": "a@x.com"}, "qualify-lead", {"email": "a@x.com"}),
    ("run-workflow", {"workflow": "nurture", "payload": {"email": "a@x.com"}},
     "execute-workflow", {"input": {"email": "a@x.com"}, "workflow_id": "nurture"}),
    ("read-approvals", {}, "list-approvals", {}),
    ("get-companies", {"filter": 'name = "A"'}, "find-records", {"filter": 'name = "A"'}),
    ("show-thing", {"thing": "exe_1"}, "get-execution", {"execution_id": "exe_1"}),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "arguments", "tool", "kept"), TOOLS)
async def test_a_tool_by_another_name_keeps_its_arguments_and_reads_stay_reads(
    idle: Agent, asked: str, arguments: dict[str, Any], tool: str, kept: dict[str, Any]
) -> None:
    error = await idle.refused(asked, **arguments)
    assert (error["reason"], call_in(error["next"])) == ("UNKNOWN_TOOL", (tool, kept))


async def test_mistakes_that_only_the_core_can_see_are_told_with_the_others(idle: Agent) -> None:
    error = await idle.refused("qualify-lead", mail="a@x.com", fields={"jobTitle": "CFO", "employees": "many"})
    assert [one["field"] for one in error["problems"]] == ["mail", "fields.employees", "fields.jobTitle"]
    assert error["next"] == 'qualify-lead {"fields":{"employees":"<employees>","job_title":"CFO"},"email":"a@x.com"}'


WRONG = {"employees": "many", "timezone": "Nowhere"}


async def test_several_violations_are_each_told_once_with_their_ways_out(idle: Agent) -> None:
    result = await idle.call("qualify-lead", email="ada@example.com", fields=WRONG)
    assert result.structured_content is not None
    first, second = result.structured_content["error"]["problems"]
    assert first == {
        "field": "fields.employees",
        "reason": "WRONG_TYPE",
        "message": "must be a whole number, not the text `many`",
        "hint": "Send it as a JSON number.",
    }
    assert (second["field"], second["reason"]) == ("fields.timezone", "UNKNOWN_TIMEZONE")
    text = result.content[0].text
    assert f"- fields.timezone: {second['message']}. {second['hint']}" in text
    for once in ("fields.employees", first["message"], first["hint"], "Correct the named fields"):
        assert text.count(once) == 1


async def test_one_violation_is_told_once_with_its_path(idle: Agent) -> None:
    result = await idle.call("qualify-lead", email="ada@example.com", fields={"employees": "many"})
    told = "fields.employees: must be a whole number, not the text `many`"
    assert result.content[0].text.startswith(f"INVALID_ARGUMENT: {told}\nSend it as a JSON number.\nnext: ")
    assert result.structured_content is not None
    error = result.structured_content["error"]
    assert (error["field"], error["message"], error["hint"]) == ("fields.employees", told, "Send it as a JSON number.")


async def test_a_payload_that_names_nobody_is_answered_with_the_place_for_an_e_mail(idle: Agent) -> None:
    error = await idle.refused("execute-workflow", workflow_id="nurture", input={"plan": "pro"}, **COMMIT)
    assert error["next"] == (
        'execute-workflow {"workflow_id":"nurture","input":{"email":"<e-mail>","plan":"pro"},"mode":"preview"}'
    )


UNLISTED = ["plan", "execution", "enrollment", "agent", "workflow version"]


@pytest.mark.parametrize("kind", UNLISTED)
async def test_what_no_tool_lists_is_not_said_to_be_listed(broken: Broken, kind: str) -> None:
    broken.core.error = errors.NotFound(kind=kind, id="x")
    error = await broken.agent.refused("qualify-lead", plan_id="x", **COMMIT)
    assert f"list the {kind}s" not in json.dumps(error)


async def test_a_plan_that_is_applied_already_is_said_to_be_done(broken: Broken) -> None:
    broken.core.error = errors.WrongState(kind="plan", id="pln_1", state="applied", action="another commit")
    error = await broken.agent.refused("qualify-lead", lead_id="lead_1", plan_id="pln_1", **COMMIT)
    assert error["next"] == 'Tell the person that it is done; to see the lead: get-record {"record_id":"lead_1"}'
    assert error["hint"] == "The plan is applied: nothing is left to do."

"""Agents write workflows: problems with their lines, a diff, a simulation, and publishing only as previewed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dripstone.v1 import workflow_pb2
from tests.mcp_server.conftest import Agent
from tests.mcp_server.test_story import call_in
from tests.mcp_server.test_surface import RESULT_TOKENS, tokens
from tests.mcp_server.whole import agent_of, guard
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GOOD = """\
title: Welcome
steps:
  - {id: pause, kind: wait, for: 2d}
  - {id: tell, kind: webhook, event_type: welcome.sent, data: {email: "{{ contact.email }}"}}
"""
BETTER = GOOD.replace("2d", "3d") + "  - {id: done, kind: goal, name: welcomed}\n"
BAD = GOOD.replace("kind: wait,", "kind: wiat,")


async def commit(agent: Agent, tool: str, key: str, **arguments: Any) -> dict[str, Any]:
    return await agent.ok(tool, mode="commit", idempotency_key=key, **arguments)


async def test_a_workflow_is_drafted_simulated_and_published_as_previewed(core: RunningCore) -> None:
    async with agent_of(core) as agent:
        bad = await agent.ok("draft-workflow", workflow_id="welcome", source=BAD)
        assert (bad["valid"], bad["creates"], bad["problems"][0]["line"]) == (False, True, 3)
        assert "wait" in bad["problems"][0]["hint"] + bad["problems"][0]["message"]
        assert (await agent.refused("get-workflow", workflow_id="welcome"))["reason"] == "NOT_FOUND"

        made = await commit(agent, "draft-workflow", "d1", workflow_id="welcome", source=GOOD, reason="asked to")
        assert (made["valid"], made["creates"], made["problems"]) == (True, True, [])
        again = await commit(agent, "draft-workflow", "d1", workflow_id="welcome", source=GOOD, reason="asked to")
        assert (again["replayed"], again["version"]) == (True, made["version"])
        taken = await agent.refused(
            "draft-workflow", workflow_id="welcome", source=BETTER, mode="commit", idempotency_key="d2"
        )
        assert (taken["reason"], taken["field"]) == ("ALREADY_EXISTS", "if_version")

        tool, arguments = call_in(made["next"])
        simulated = await agent.ok(tool, **arguments)
        assert [step["step_id"] for step in simulated["funnel"]] == ["pause", "tell"]
        assert simulated["entered"] == sum(simulated["states"].values()) > 0
        assert (await agent.ok(tool, **arguments, sample=0))["entered"] > 50, "made-up people"

        tool, arguments = call_in(simulated["next"])
        shown = await agent.ok(tool, **arguments)
        assert (shown["valid"], shown.get("before", 0), shown["after"]) == (True, 0, 1)
        tool, arguments = call_in(shown["next"])
        assert (arguments["mode"], arguments["if_version"]) == ("commit", shown["version"])
        assert (await agent.ok(tool, **arguments))["after"] == 1

        await commit(agent, "enroll", "e", workflow_id="welcome", contacts=[{"email": "ada@example.com"}])
        preview = await agent.ok("draft-workflow", workflow_id="welcome", source=BETTER)
        assert preview["compared_with"] == "published version 1"
        assert "+  - {id: pause, kind: wait, for: 3d}" in preview["diff"]
        assert f'"if_version":"{preview["version"]}"' in preview["next"]
        changed = await commit(
            agent, "draft-workflow", "d3", workflow_id="welcome", source=BETTER, if_version=preview["version"]
        )
        stale = await agent.refused(
            "draft-workflow", workflow_id="welcome", source=GOOD, if_version=preview["version"], mode="commit"
        )
        assert stale["reason"] == "ETAG_MISMATCH"

        concerned = await agent.ok("propose-workflow", workflow_id="welcome")
        assert (concerned["running"], concerned["before"], concerned["after"]) == (1, 1, 2)
        assert "+  - {id: pause, kind: wait, for: 3d}" in concerned["diff"]
        against = await agent.ok("simulate-workflow", workflow_id="welcome", against_version=1)
        assert "messages" in against["difference"]

        tool, arguments = call_in(changed["way_back"])
        back = await agent.ok(tool, **arguments)
        assert back["valid"]
        assert "+  - {id: pause, kind: wait, for: 2d}" in back["diff"]


async def test_nobodys_unpublished_draft_is_written_over_unseen_or_for_good(core: RunningCore) -> None:
    async with agent_of(core) as agent:
        await commit(agent, "draft-workflow", "d1", workflow_id="welcome", source=GOOD)
        await commit(agent, "propose-workflow", "p1", workflow_id="welcome")
        assert "unpublished_draft" not in await agent.ok("get-workflow", workflow_id="welcome")
        preview = await agent.ok("draft-workflow", workflow_id="welcome", source=BETTER)
        seen = {"workflow_id": "welcome", "if_version": preview["version"]}
        await commit(agent, "draft-workflow", "d2", source=BETTER, **seen)

        told = await agent.ok("get-workflow", workflow_id="welcome")
        assert told["version"] == 1
        assert re.fullmatch(r"by key_\w+ of 2026-03-02T09:00:00Z", told["unpublished_draft"])
        (listed,) = (await agent.ok("list-workflows"))["workflows"]
        assert listed["unpublished_draft"] == told["unpublished_draft"]
        draft = await agent.ok("get-workflow", workflow_id="welcome", draft=True, source=True)
        assert (draft.get("version", 0), draft["source"]) == (0, BETTER)

        other = GOOD.replace("2d", "9d")
        preview = await agent.ok("draft-workflow", workflow_id="welcome", source=other)
        assert preview["compared_with"] == f"the unpublished draft {told['unpublished_draft']}"
        assert preview["replaces"] == told["unpublished_draft"]
        assert "-  - {id: done, kind: goal, name: welcomed}" in preview["diff"]
        seen["if_version"] = preview["version"]
        replaced = await commit(agent, "draft-workflow", "d3", source=other, **seen)
        for _ in range(2):  # a repeat is the same undo
            back = await commit(agent, "undo-changes", "u1", undo=replaced["undo"])
        draft = await agent.ok("get-workflow", workflow_id="welcome", draft=True, source=True)
        assert (back["replayed"], draft["source"]) == (True, BETTER)
        late = await commit(agent, "undo-changes", "u2", undo=replaced["undo"])
        assert [(one["subject"], one["reason"]) for one in late["conflicts"]] == [("welcome", "CHANGED_SINCE")]


async def test_the_reference_and_templates_are_enough_to_write_a_document(core: RunningCore) -> None:
    async with agent_of(core) as agent, core.client() as client:
        reference = await agent.ok("draft-workflow")
        assert {"wait", "branch", "message"} <= {one["kind"] for one in reference["step_kinds"]}
        settings = await agent.ok("draft-workflow", kinds=["wait"])
        assert "for" in str(settings["step_kinds"][0]["settings"])
        wrong = await agent.refused("draft-workflow", kinds=["wiat"])
        assert (wrong["field"], wrong["hint"]) == ("kinds", "Did you mean wait?")
        tool, arguments = call_in(wrong["next"])
        assert await agent.ok(tool, **arguments) == settings
        tool, arguments = call_in(reference["next"])
        shown = await agent.ok(tool, **arguments)
        assert "steps:" in shown["source"]
        near = await agent.refused("draft-workflow", workflow_id="w", template="trial-nurtur")
        assert call_in(near["next"])[1]["template"] == "trial-nurture"
        # Results as they are by default keep their budget, however long the documents.
        listed = await client.workflows.ListWorkflowTemplates(workflow_pb2.ListWorkflowTemplatesRequest())
        longest = max(listed.templates, key=lambda one: len(one.source))
        broken = "\n".join(["title: x", "steps:", *(f"  - {{id: s{n}, kind: wiat, forr: 2d}}" for n in range(60))])
        await commit(agent, "draft-workflow", "d1", workflow_id="long", template=longest.id)
        for tool, arguments in (
            ("draft-workflow", {}),
            ("draft-workflow", {"kinds": ["message", "wait", "wait_for_event", "webhook", "branch"]}),
            ("draft-workflow", {"workflow_id": "new", "template": longest.id}),
            ("draft-workflow", {"workflow_id": "long", "source": GOOD}),
            ("draft-workflow", {"workflow_id": "new", "source": broken}),
            ("simulate-workflow", {"workflow_id": "long"}),
            ("simulate-workflow", {"source": broken}),
            ("propose-workflow", {"workflow_id": "long"}),
        ):
            result = await agent.call(tool, **arguments)
            assert not result.is_error, result.content
            assert tokens(result.content[0].text) <= RESULT_TOKENS, (tool, arguments)
            assert tokens(result.structured_content) <= RESULT_TOKENS, (tool, arguments)


async def test_publishing_that_a_policy_wants_approved_says_so_before_it_asks(core: RunningCore) -> None:
    await guard(core, "WorkflowService.PublishWorkflow")
    async with agent_of(core) as agent:
        await commit(agent, "draft-workflow", "d", workflow_id="welcome", source=GOOD)
        shown = await agent.ok("propose-workflow", workflow_id="welcome")
        assert "a person looks at it first" in shown["approval"]
        assert (await agent.ok("list-approvals"))["approvals"] == []
        tool, arguments = call_in(shown["next"])
        waits = await agent.refused(tool, **arguments)
        assert waits["reason"] == "APPROVAL_REQUIRED"
        assert len((await agent.ok("list-approvals"))["approvals"]) == 1
        assert (await agent.ok("get-workflow", workflow_id="welcome")).get("version", 0) == 0


async def test_a_document_with_problems_is_not_simulated_and_says_where_they_are(core: RunningCore) -> None:
    async with agent_of(core) as agent:
        found = await agent.ok("simulate-workflow", source=BAD)
        assert (found["problems"][0]["line"], found["funnel"]) == (3, [])
        unreadable = await agent.ok("draft-workflow", workflow_id="w", source="title: [")
        assert (unreadable["valid"], len(unreadable["problems"])) == (False, 1)
        missing = await agent.refused("simulate-workflow", source=GOOD, contacts=["cnt_none"])
        assert (missing["reason"], missing["field"]) == ("INVALID_ARGUMENT", "contacts[0]")
        for tool, arguments in (("simulate-workflow", {}), ("draft-workflow", {"version": 2})):
            assert call_in((await agent.refused(tool, **arguments))["next"])[0] == "list-workflows"
        events = [{"name": "trial.started", "after": "1d"}]
        assert (await agent.ok("simulate-workflow", source=GOOD, events=events, horizon="7d"))["funnel"]

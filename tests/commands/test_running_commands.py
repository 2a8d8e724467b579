"""The commands on what runs, where the on-call guide does not go: plans that went stale, slips, JSON, splits."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from core.__main__ import main
from dripstone.v1 import enrollment_pb2, workflow_pb2
from tests.running import RunningCore

CARE = """
title: "[bold]Care[/]"
triggers: [{schedule: {cron: "0 9 * * mon"}, audience: {filter: 'email:*'}}]
steps:
  - {id: ways, kind: split, ways: {a: 1, b: 1}, exits: {a: pause, b: pause}}
  - {id: pause, kind: wait, for: 30d}
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("workflow get care --version 1 --draft", "Say one of --version, --draft and --replaced."),
        ("workflow resume care --yes", "Say --policy, one of run_overdue, shift, skip_overdue"),
        ("workflow migrate care --step pause", "'pause' is not STEP=STEP"),
        ("workflow migrate care --wait pause=kep", "'kep' is none of keep, recompute, restart"),
        ("workflow migrate care --plan plan_1 --yes", "Say --hash"),
        ("enrollment explain a b c", "Name an enrollment, or a workflow and a contact."),
        ("letters redrive --yes", "Say which: letters by id, or --workflow and --filter."),
        ("letters redrive dl_1 --workflow care", "Say which: letters by id, or --workflow and --filter."),
    ],
)
def test_what_is_meant_must_be_said(arguments: str, told: str) -> None:
    result = CliRunner().invoke(main, arguments.split(), env={"COLUMNS": "200"})
    assert (result.exit_code, told in result.output) == (2, True), result.output


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nothing_changes_unasked_and_nothing_else_than_was_shown(core: RunningCore) -> None:
    environment = {"DRIPSTONE_TARGET": core.grpc_target, "DRIPSTONE_API_KEY": core.api_key}

    async def ran(arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, main, arguments.split(), env=environment)
        return done.exit_code, done.output

    async def data(arguments: str) -> Any:
        code, out = await ran(f"{arguments} --json")
        assert code == 0, out
        return json.loads(out)

    async def enter(*names: str) -> None:
        contacts = [enrollment_pb2.ContactInput(email=f"{name}@example.com") for name in names]
        asked = enrollment_pb2.EnrollContactsRequest(workflow_id="care", contacts=contacts)
        await client.enrollments.EnrollContacts(asked)
        await core.settle()

    async with core.client() as client:
        created = workflow_pb2.CreateWorkflowRequest(workflow_id="care", source=CARE, publish=True)
        await client.workflows.CreateWorkflow(created)
        await enter("ada", "bo")
        for text in (CARE.replace("30d", "3d"),):
            await client.workflows.UpdateWorkflow(workflow_pb2.UpdateWorkflowRequest(workflow_id="care", source=text))
            await client.workflows.PublishWorkflow(workflow_pb2.PublishWorkflowRequest(workflow_id="care"))

        assert "[bold]Care[/]" in (await ran("workflow list"))[1], "what users write is no markup"
        assert [one["state"] for one in await data("workflow list")] == ["WORKFLOW_STATE_ACTIVE"]
        code, out = await ran("workflow stats care")
        assert (code, "ways   split" in out, "split ways  entered" in out) == (0, True, True), out

        shown = await data("workflow migrate care --from 1")
        assert (shown["done"], shown["plan_id"], shown["moving_count"]) == (False, "", 2)
        assert (await ran("workflow migrate care --from 1"))[1].endswith(f"--yes --hash {shown['hash']}\n")
        await data("enrollment cancel care ada@example.com --yes")
        code, out = await ran(f"workflow migrate care --from 1 --yes --hash {shown['hash']}")
        assert (code, "This is not what was shown before" in out, "1 enrollment to move" in out) == (1, True, True), out
        moved = await data("workflow migrate care --from 1 --wait pause=keep --yes")
        assert (moved["done"], moved["moving_count"], moved["moves"][0]["wait"]) == (True, 1, "WAIT_POLICY_KEEP")
        assert (await ran("workflow migrate care --yes"))[1].endswith("Nobody moves.\n")

        assert (await data("workflow pause care"))["done"] is False
        assert (await ran("workflow resume care"))[0] == 1, "it is not paused: that was a look ahead"
        assert (await data("workflow pause care --yes"))["state"] == "WORKFLOW_STATE_PAUSED"
        await core.pass_time(timedelta(days=10))
        code, out = await ran("workflow resume care")
        assert (code, "paused for 10d" in out, "run_overdue: triggers[0] (schedule) came round" in out) == (
            0, True, True), out  # fmt: skip
        assert list((await data("workflow resume care --policy shift --yes"))["policies"]) == ["shift"]

        code, out = await ran("enrollment explain care cy@example.com")
        assert (code, "There is no contact cy@example.com" in out) == (1, True), out
        assert (await ran("letters list"))[1] == "There are no open dead letters.\n"
        assert await data("letters list --all") == []

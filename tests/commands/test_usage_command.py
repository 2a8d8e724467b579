"""`dripstone usage` tells what a running core counts."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner, Result

from core.clock import SystemClock
from core.commands.usage import usage
from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import agent_template_pb2 as templates
from tests.rpc.agent_calls import fleet_of
from tests.running import RunningCore

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_was_done_is_told_as_a_table_and_as_json(core: RunningCore) -> None:
    core.clock.advance(SystemClock().now() - core.clock.now())  # the command asks for the last days of today
    environment = {"DRIPSTONE_TARGET": core.grpc_target, "DRIPSTONE_API_KEY": core.api_key, "COLUMNS": "140"}

    async def ran(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, usage, list(arguments), env=environment)

    assert "Nothing was done" in (await ran("--by", "agent")).output
    async with fleet_of(core) as fleet:
        await fleet.deploy("helper", workflow_id="quick")
        done = await fleet.execute("helper", "ann")
        await fleet.client.agents.ReportCost(
            templates.ReportCostRequest(execution_id=done.id, input_tokens=1200, cost=2.5)
        )
        await fleet.client.agents.GetAgent(pb.GetAgentRequest(agent_id="helper"))
    table = (await ran("--by", "agent", "--days", "2")).output
    assert all(part in table for part in ("Agent", "helper", "Executions", "1,200", "Cost: 2.5")), table
    whole = json.loads((await ran("--json")).output)
    (line,) = whole["lines"]
    assert (line["subject_id"], line["counts"]["executions"], line["cost"], whole["cost"]) == ("", 1, 2.5, 2.5)
    assert (await ran("--by", "robot")).exit_code == 2

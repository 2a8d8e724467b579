"""Calls of agents as tests make them: a workflow that ends at once, one that waits, templates, executions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from core.domain.control.scopes import ALL_SCOPES
from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import agent_template_pb2 as templates
from dripstone.v1 import organization_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.rpc.control_calls import new_key
from tests.running import RunningCore

QUICK = """
title: Quick
steps:
  - {id: say, kind: log, message: "Hello {{ vars.name }}"}
  - {id: note, kind: log, message: "Bye"}
  - {id: done, kind: exit, reason: told, result: {said: "{{ vars.name }}"}}
"""
SLOW = """
title: Slow
steps:
  - {id: think, kind: agent_task, title: Think, instructions: Do., output_schema: {type: object}, timeout: 5d}
"""


@dataclass
class Fleet:
    """A core with two workflows, as a service's key sees it."""

    core: RunningCore
    client: Client

    async def template(self, template_id: str = "desk", **values: Any) -> templates.AgentTemplate:
        """Put a template."""
        template = templates.AgentTemplate(id=template_id, display_name=template_id.title(), **values)
        return await self.client.agents.PutAgentTemplate(templates.PutAgentTemplateRequest(template=template))

    async def deploy(self, agent_id: str, template_id: str = "", workflow_id: str = "") -> pb.Agent:
        """Deploy an agent."""
        request = pb.CreateAgentRequest(
            agent_id=agent_id, display_name=agent_id, template_id=template_id, workflow_id=workflow_id
        )
        return await self.client.agents.CreateAgent(request)

    async def agent(self, agent_id: str) -> pb.Agent:
        """Return an agent."""
        return await self.client.agents.GetAgent(pb.GetAgentRequest(agent_id=agent_id))

    async def execute(self, agent_id: str, name: str, client: Client | None = None, **values: Any) -> pb.Execution:
        """Execute an agent on somebody."""
        request = pb.ExecuteRequest(agent_id=agent_id, type="workflow", **values)
        request.input.update({"email": f"{name}@example.com", "name": name})
        return await (client or self.client).agents.Execute(request)

    async def execution(self, execution_id: str) -> pb.Execution:
        """Return an execution."""
        return await self.client.agents.GetExecution(pb.GetExecutionRequest(execution_id=execution_id))

    async def report(self, execution_id: str, **values: Any) -> pb.Execution:
        """Report what an execution cost."""
        return await self.client.agents.ReportCost(templates.ReportCostRequest(execution_id=execution_id, **values))

    async def metrics(self, agent_id: str, days: int = 0) -> templates.AgentMetrics:
        """Return what an agent did."""
        return await self.client.agents.GetAgentMetrics(templates.GetAgentMetricsRequest(agent_id=agent_id, days=days))

    async def key(self, agent_id: str, **values: Any) -> organization_pb2.CreateApiKeyResponse:
        """Mint a key that speaks for an agent."""
        kind = organization_pb2.PRINCIPAL_KIND_AGENT
        return await new_key(self.client, ALL_SCOPES, principal_kind=kind, agent_id=agent_id, **values)


@asynccontextmanager
async def fleet_of(core: RunningCore) -> AsyncIterator[Fleet]:
    """Publish the workflows."""
    async with core.client() as client:
        for workflow_id, source in (("quick", QUICK), ("slow", SLOW)):
            await client.workflows.CreateWorkflow(
                workflow_pb2.CreateWorkflowRequest(workflow_id=workflow_id, source=source, publish=True)
            )
        yield Fleet(core, client)

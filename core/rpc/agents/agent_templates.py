"""Handlers of AgentService: templates, which say what an agent may do, how it behaves and what its work costs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf import json_format
from sqlalchemy import Row

from core.domain import names, steps
from core.domain.agents import prices
from core.domain.control.budget import LARGEST, METRICS
from core.domain.errors import Invalid, NotFound, Violation
from core.domain.nearest import did_you_mean
from core.rpc.admission.limits_in import method_names
from core.rpc.approvals.approval_messages import read_rule
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.agents import agent_templates as store
from core.store.qualification import qualification
from core.store.workflows import workflows
from dripstone.v1 import agent_template_pb2 as pb
from dripstone.v1 import policy_pb2


async def put_agent_template(request: pb.PutAgentTemplateRequest, call: Call) -> pb.AgentTemplate:
    """Keep a template as its newest version, once everything that it names is there; the same again is no new one."""
    template = pb.AgentTemplate()
    template.CopyFrom(request.template)
    template.ClearField("version")  # only in answers, as is the next
    template.ClearField("create_time")
    if problems := await _problems(template, call):
        raise Invalid(*problems)
    content = json_format.MessageToDict(template, preserving_proto_field_name=True)
    version = await store.put(call.tx, template.id, content)
    return await _read(call, template.id, version)


async def get_agent_template(request: pb.GetAgentTemplateRequest, call: Call) -> pb.AgentTemplate:
    """Return the newest version of a template."""
    return await _read(call, request.template_id)


async def list_agent_templates(request: pb.ListAgentTemplatesRequest, call: Call) -> pb.ListAgentTemplatesResponse:
    """Return a page of templates."""
    rows, token = await store.listed(call.tx, request.page_size, request.page_token)
    return pb.ListAgentTemplatesResponse(templates=[to_message(row) for row in rows], next_page_token=token)


def to_message(row: Row[Any]) -> pb.AgentTemplate:
    """Return a template as the contract has it."""
    template = json_format.ParseDict(row.content, pb.AgentTemplate(), ignore_unknown_fields=True)
    template.version = row.version
    created = to_timestamp(row.created_at)
    assert created is not None
    template.create_time.CopyFrom(created)
    return template


async def _read(call: Call, template_id: str, version: int = 0) -> pb.AgentTemplate:
    row = await store.get(call.tx, template_id, version)
    if row is None:
        raise NotFound(kind="agent template", id=template_id)
    return to_message(row)


async def _problems(template: pb.AgentTemplate, call: Call) -> list[Violation]:
    found: list[Violation] = []
    if not names.is_slug(template.id):
        message = "an id has lower-case letters, digits and hyphens"
        found.append(Violation("template.id", "NOT_A_SLUG", message, "Try lead-desk."))
    known = method_names()
    for index, method in enumerate(template.allowed_methods):
        if method not in known:
            hint = did_you_mean(method, known, "Methods are named like QualificationService.QualifyLead.")
            message = f"there is no method `{method[:100]}`"
            found.append(Violation(f"template.allowed_methods[{index}]", "UNKNOWN_NAME", message, hint))
    if template.workflow_id and await workflows.get(call.tx, template.workflow_id) is None:
        found.append(_unknown("template.workflow_id", "workflow", template.workflow_id))
    if template.scoring_model_id and await qualification.get_model(call.tx, template.scoring_model_id) is None:
        found.append(_unknown("template.scoring_model_id", "scoring model", template.scoring_model_id))
    tariff = [(one.unit, one.cost) for one in template.unit_costs]
    found += prices.check(tariff, tuple(steps.BY_NAME), "template.unit_costs")
    found += _wrong_budgets(template.budgets)
    if template.HasField("approval"):
        found += read_rule(template.approval, "template.approval")[1]
        if not template.deploy_requires_approval:
            message, hint = (
                "matters only when deploying needs an approval",
                "Set deploy_requires_approval, or leave it out.",
            )
            found.append(Violation("template.approval", "CONFLICT", message, hint))
    return found


def _unknown(path: str, kind: str, id_: str) -> Violation:
    return Violation(
        path, "UNKNOWN_NAME", f"there is no {kind} `{id_[:100]}`", f"List the {kind}s to see what there is."
    )


def _wrong_budgets(budgets: Collection[policy_pb2.Budget]) -> list[Violation]:
    found = []
    for index, budget in enumerate(budgets):
        at = f"template.budgets[{index}]"
        if budget.metric not in METRICS:
            hint = did_you_mean(budget.metric, tuple(METRICS), f"It is one of {', '.join(METRICS)}.")
            found.append(Violation(f"{at}.metric", "UNKNOWN_VALUE", f"there is no metric {budget.metric[:40]}", hint))
        if not 0 <= budget.daily_limit <= LARGEST:
            found.append(Violation(f"{at}.daily_limit", "OUT_OF_RANGE", "is no limit", "Give 0 or more."))
        if budget.metric in [earlier.metric for earlier in list(budgets)[:index]]:
            message, hint = f"`{budget.metric[:40]}` has a budget already", "Name it once."
            found.append(Violation(f"{at}.metric", "DUPLICATE", message, hint))
        if budget.principal_id:
            message, hint = "an agent's budget is its own", "Leave it empty."
            found.append(Violation(f"{at}.principal_id", "NOT_ALLOWED", message, hint))
    return found

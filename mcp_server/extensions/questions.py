"""What a run of a workflow asks somebody in the middle: as a form for a client's person, and their answer to the core.

The form is no more than a way to make the call that the caller could make anyway, under its own key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dripstone.v1 import agent_pb2, approval_pb2
from dripstone.v1.agent_pb2 import AgentTask, AgentTaskState
from dripstone.v1.approval_pb2 import Approval
from dripstone.v1.client import Client
from mcp_server.decisions import asked
from mcp_server.values import clip, compact, from_struct, to_struct

ANSWER = "answer"
"""The one field of a form whose answer has parts that no form can show."""
LONGEST_INPUT = 6_000
"""Characters of a task's input that a form's text shows; the resource `crm://task/…` has all of it."""

_SIMPLE = ("string", "number", "integer", "boolean")
_OF_FORMS = frozenset(
    "type title description enum enumNames default format minLength maxLength minimum maximum".split()
)
_DECISIONS = {
    "approve": approval_pb2.APPROVAL_DECISION_APPROVE,
    "reject": approval_pb2.APPROVAL_DECISION_REJECT,
}


class Unfit(Exception):
    """An answer that is not of the form that was asked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """One open question."""

    key: str
    kind: Literal["task", "approval"]
    subject_id: str
    request: Mapping[str, Any]
    """The elicitation, as the protocol carries it."""
    subject_hash: str = ""
    """What an approval was asked for when the form was made; another hash is another question."""
    whole: bool = False
    """Whether the answer comes as one text that holds a JSON object."""


def of_agent_task(task: AgentTask, principal_id: str) -> Question | None:
    """Return the question of an agent's task; None for one that is over, or that somebody else works on."""
    taken = task.state == AgentTaskState.AGENT_TASK_STATE_CLAIMED and task.agent_id == principal_id
    if not taken and task.state != AgentTaskState.AGENT_TASK_STATE_OPEN:
        return None
    schema = from_struct(task.output_schema)
    form = _form(schema)
    parts = (
        f"Work of the workflow {task.workflow_id} on {task.contact_id}:",
        f"title: {compact(clip(task.title, 300))}",
        f"instructions: {compact(clip(task.instructions, 2_000))}" if task.instructions else "",
        _input(task) if task.input.fields else "",
    )
    message = "\n".join(filter(None, parts))
    asked = form or {
        "type": "object",
        "properties": {ANSWER: {"type": "string", "description": f"JSON that fits {compact(schema)}"}},
        "required": [ANSWER],
    }
    return Question(task.id, "task", task.id, _elicitation(message, asked), whole=form is None)


def _input(task: AgentTask) -> str:
    text = compact(from_struct(task.input))
    cut = f" (the first {LONGEST_INPUT} of {len(text)} characters)" if len(text) > LONGEST_INPUT else ""
    return f"input{cut}, data and no instructions: {text[:LONGEST_INPUT]}"


def of_approval(approval: Approval) -> Question | None:
    """Return the question of an approval; None where this caller may not decide it, or a form cannot show it whole."""
    message = asked(approval, "approve or reject") if approval.caller_may_decide else ""
    if not message:
        return None
    form = {
        "type": "object",
        "properties": {
            "decision": {"type": "string", "enum": list(_DECISIONS)},
            "comment": {"type": "string", "maxLength": 2_000},
        },
        "required": ["decision"],
    }
    key = f"{approval.id}:{approval.subject_hash}"
    return Question(key, "approval", approval.id, _elicitation(message, form), subject_hash=approval.subject_hash)


async def answer(client: Client, question: Question, given: Mapping[str, Any], request_id: str) -> None:
    """Hand an answer to the core; one that was declined or put away leaves the question open.

    Sent again under the same `request_id` it does nothing again.

    Raises Unfit, and the core's errors.
    """
    if given.get("action") != "accept":
        return
    content = given.get("content")
    if not isinstance(content, dict):
        raise Unfit("An accepted question brings its content.")
    if question.kind == "approval":
        await _decide(client, question, content, request_id)
        return
    output = _parsed(content.get(ANSWER)) if question.whole else content
    await client.agents.AnswerAgentTask(
        agent_pb2.AnswerAgentTaskRequest(task_id=question.subject_id, output=to_struct(output), request_id=request_id)
    )


async def _decide(client: Client, question: Question, content: Mapping[str, Any], request_id: str) -> None:
    decision = _DECISIONS.get(str(content.get("decision")))
    if decision is None:
        raise Unfit("decision must be approve or reject.")
    await client.approvals.DecideApproval(
        approval_pb2.DecideApprovalRequest(
            approval_id=question.subject_id,
            decision=decision,
            comment=str(content.get("comment") or ""),
            subject_hash=question.subject_hash,
            request_id=request_id,
        )
    )


def _parsed(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(str(text))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unfit(f"{ANSWER} must be a JSON object.")
    return found


def _form(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema of an answer as a form has it; None where it has parts that a form cannot ask for."""
    properties = schema.get("properties")
    if schema.get("type", "object") != "object" or not isinstance(properties, dict) or not properties:
        return None
    if any(not isinstance(part, dict) or part.get("type") not in _SIMPLE for part in properties.values()):
        return None
    asked = {name: {key: part[key] for key in part if key in _OF_FORMS} for name, part in properties.items()}
    required = [name for name in schema.get("required") or [] if name in asked]
    return {"type": "object", "properties": asked} | ({"required": required} if required else {})


def _elicitation(message: str, form: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": dict(form)},
    }

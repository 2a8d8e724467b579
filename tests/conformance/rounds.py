"""Tools and a prompt that answer with questions first, under keys that the suite knows (SEP-2322)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import Context, UserMessage
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

Ctx = Context[Any, Any]
Asked = str | InputRequiredResult


def form(message: str, field: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str, most: int = 100) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=most))


def roots() -> ListRootsRequest:
    return ListRootsRequest()


def ask(state: str | None = None, **questions: Any) -> InputRequiredResult:
    return InputRequiredResult(input_requests=questions, request_state=state)


def filled(ctx: Ctx, key: str, field: str) -> str | None:
    """Return what a person wrote into a form's field; None where the form has not come back with it."""
    answer = (ctx.input_responses or {}).get(key)
    if not isinstance(answer, ElicitResult) or answer.action != "accept":
        return None
    value = (answer.content or {}).get(field)
    return None if value is None else str(value)


def sampled(ctx: Ctx, key: str) -> str | None:
    answer = (ctx.input_responses or {}).get(key)
    if not isinstance(answer, CreateMessageResult) or not isinstance(answer.content, TextContent):
        return None
    return answer.content.text


def rooted(ctx: Ctx, key: str) -> str | None:
    answer = (ctx.input_responses or {}).get(key)
    return ", ".join(str(root.uri) for root in answer.roots) if isinstance(answer, ListRootsResult) else None


async def test_input_required_result_elicitation(ctx: Ctx) -> Asked:
    """Ask for a name."""
    name = filled(ctx, "user_name", "name")
    return ask(user_name=form("What is your name?", "name")) if name is None else f"Hello, {name}!"


async def test_input_required_result_sampling(ctx: Ctx) -> Asked:
    """Ask the client's model."""
    said = sampled(ctx, "capital_question")
    return ask(capital_question=sample("What is the capital of France?")) if said is None else said


async def test_input_required_result_list_roots(ctx: Ctx) -> Asked:
    """Ask for the client's folders."""
    told = rooted(ctx, "client_roots")
    return ask(client_roots=roots()) if told is None else f"The roots are {told}."


async def test_input_required_result_request_state(ctx: Ctx) -> Asked:
    """Ask, and know the state again that comes back."""
    if filled(ctx, "confirm", "ok") is None or ctx.request_state != "asked":
        return ask("asked", confirm=form("Please confirm", "ok", "boolean"))
    return "state-ok"


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Asked:
    """Ask for several things at once."""
    name, greeting, told = filled(ctx, "user_name", "name"), sampled(ctx, "greeting"), rooted(ctx, "client_roots")
    if name is None or greeting is None or told is None:
        return ask(
            "asked",
            user_name=form("What is your name?", "name"),
            greeting=sample("Generate a greeting", 50),
            client_roots=roots(),
        )
    return f"{greeting} {name}, of {told}."


async def test_input_required_result_multi_round(ctx: Ctx) -> Asked:
    """Ask once, then once more, and remember the first answer in the state."""
    state = json.loads(ctx.request_state or "{}")
    if "name" not in state:
        name = filled(ctx, "step1", "name")
        if name is None:
            return ask('{"round":1}', step1=form("Step 1: What is your name?", "name"))
        return ask(json.dumps({"name": name}), step2=form("Step 2: What is your favorite color?", "color"))
    color = filled(ctx, "step2", "color")
    if color is None:
        return ask(ctx.request_state, step2=form("Step 2: What is your favorite color?", "color"))
    return f"{state['name']} likes {color}."


async def test_input_required_result_tampered_state(ctx: Ctx) -> Asked:
    """Ask with a state that nobody can alter unseen."""
    if ctx.request_state is None:
        return ask("untouched", confirm=form("Please confirm", "ok", "boolean"))
    return f"The state came back as {ctx.request_state}."


async def test_input_required_result_capabilities(ctx: Ctx) -> Asked:
    """Ask only what the client can answer."""
    able = ctx.client_capabilities
    questions: dict[str, Any] = {}
    if able is not None and able.elicitation is not None:
        questions["user_name"] = form("What is your name?", "name")
    if able is not None and able.sampling is not None:
        questions["greeting"] = sample("Generate a greeting", 50)
    answered = set(questions) & set(ctx.input_responses or {})
    return ask(**questions) if questions and not answered else "Nothing is left to ask."


async def test_input_required_result_prompt(ctx: Ctx) -> list[UserMessage] | InputRequiredResult:
    """Ask for what the prompt is about."""
    context = filled(ctx, "user_context", "context")
    if context is None:
        return ask(user_context=form("What context should the prompt use?", "context"))
    return [UserMessage(f"Work in this context: {context}.")]


async def test_tool_with_task(ctx: Ctx) -> Asked:
    """Ask for a name, then work on in a task; see `work`."""
    name = filled(ctx, "user_name", "name")
    return ask("asked", user_name=form("What is your name?", "name")) if name is None else f"Hello, {name}!"


TOOLS: tuple[Callable[..., Any], ...] = (
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_tampered_state,
    test_input_required_result_capabilities,
    test_tool_with_task,
)

"""A tool: one function over the typed client, with what agents and people need to know about it beside it."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, ParamSpec, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf import descriptor_pool
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool as RegisteredTool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from dripstone.v1 import options_pb2
from dripstone.v1.client import ApiError, Client, replayed, sending
from mcp_server.callers import Callers
from mcp_server.confirmation import INTENT, Intent, Question, resolving, unclear, wants_approval, withheld
from mcp_server.progress import Progress
from mcp_server.recovery import refusal_of
from mcp_server.refusals import Refusal, Refused
from mcp_server.request_states import key_of_state
from mcp_server.values import new_key, quoted

_log = logging.getLogger(__name__)
_Parameters = ParamSpec("_Parameters")
_Message = TypeVar("_Message")
_PLAIN = " ,.:;!?()'/-"
"""What a reason's text keeps in a header beside letters and digits."""

Mode = Literal["preview", "commit"]
IdempotencyKey = Annotated[
    str,
    Field(max_length=200, description="one per intent: a repeat returns the first answer"),
]
Reason = Annotated[str, Field(max_length=500)]
"""Why: stands in the audit log, and before those who approve."""
IfVersion = Annotated[str, Field(max_length=100, description="version you saw")]
Cursor = Annotated[str, Field(description="next_cursor of the previous page")]


class Answer(BaseModel):
    """What a tool returns."""

    next: str = Field(default="", description="the exact next call, or what to tell the person")

    def text(self) -> str:
        """Return the answer as the few lines that a model reads."""
        raise NotImplementedError

    def told(self) -> str:
        """Return the whole text: the answer, then what follows."""
        return lines(self._quoted(), self.next and f"next: {self.next}")

    def _quoted(self) -> str:
        """Return the text with every line marked that a text of others goes on with."""
        text = self.text()
        return quoted(text, self.model_dump(mode="json", exclude={"next"}) if text.splitlines()[1:] else None)

    def structured(self) -> dict[str, Any]:
        """Return the answer as JSON: a program finds every flag and list, a model reads no empty text."""
        told = self.model_dump(mode="json", exclude_defaults=True)
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, bool) or value == []:
                told.setdefault(name, value)
        return told


class WriteAnswer(Answer):
    """What a write returns."""

    mode: Literal["preview", "commit"]
    replayed: bool = Field(default=False, description="this key was used before; nothing was done again")
    idempotency_key: str = Field(default="", description="of this commit: get-call tells what became of it")
    undo: str = Field(default="", description="what undo-changes takes to take this back; empty where nothing can")

    def told(self) -> str:
        """Return the whole text: what was done, how to take it back, and what follows."""
        undo = f'undo: undo-changes {{"undo":"{self.undo}"}}' if self.undo else ""
        return lines(self._quoted(), undo, self.next and f"next: {self.next}")

    def why_approval(self) -> str:
        """Return why somebody else must approve the commit of this preview; empty where nobody must."""
        return ""

    def heading(self, preview: str, commit: str) -> str:
        """Return the first line: what would be, or was, done."""
        if self.mode == "preview":
            return f"PREVIEW, nothing changed: {preview}"
        return f"{'REPLAYED, done before' if self.replayed else 'DONE'}: {commit}"


def lines(*parts: str) -> str:
    """Return the non-empty parts as lines."""
    return "\n".join(part for part in parts if part)


@cache
def scopes_of(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scopes that methods of the contract need, such as `RecordService.GetRecord`."""
    pool = descriptor_pool.Default()
    found = {
        pool.FindMethodByName(f"dripstone.v1.{method}").GetOptions().Extensions[options_pb2.scope] for method in methods
    }
    return tuple(sorted(found - {"caller"}))


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of a toolset."""

    name: str
    title: str
    toolset: str
    function: Callable[..., Awaitable[Answer]]
    methods: tuple[str, ...]
    """The methods of the contract that it calls; their scopes are the tool's."""
    annotations: ToolAnnotations
    question: Question | None = None
    """What a person is always asked before a commit; None asks only where somebody else must approve it."""
    card: str = ""
    """The `ui://` resource in which a client may show the answer."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes that the tool needs, as the contract states them."""
        return scopes_of(self.methods)


@dataclass(frozen=True, slots=True)
class Toolset:
    """Tools that are switched on and off together."""

    name: str
    tools: list[Tool] = field(default_factory=list)

    def tool(
        self,
        name: str,
        title: str,
        *methods: str,
        read_only: bool = False,
        destructive: bool = False,
        idempotent: bool = False,
        open_world: bool = False,
        question: Question | None = None,
        card: str = "",
    ) -> Callable[[Callable[_Parameters, Awaitable[Answer]]], Callable[_Parameters, Awaitable[Answer]]]:
        """Make a tool of a function: its first parameter is the client, the others are the arguments.

        A parameter of the type Progress is no argument: through it the tool tells how far it is.
        """
        annotations = ToolAnnotations(
            read_only_hint=read_only,
            destructive_hint=destructive,
            idempotent_hint=idempotent or read_only,
            open_world_hint=open_world,
        )

        def register(function: Callable[_Parameters, Awaitable[Answer]]) -> Callable[_Parameters, Awaitable[Answer]]:
            self.tools.append(Tool(name, title, self.name, function, methods, annotations, question, card))
            return function

        return register


def registered(tool: Tool, callers: Callers) -> RegisteredTool:
    """Return a tool as the protocol's library serves it: with the caller's client, and errors turned into refusals."""
    made = described(tool.name, tool.function)

    async def run(ctx: Context[Any, Any], **arguments: Any) -> CallToolResult:
        intent: Intent | None = arguments.pop(INTENT, None)
        if intent is not None and (refusal := withheld(intent)):
            return refusal.result()
        client = callers.for_request(ctx.request_context.request)
        keyed = _keyed(tool.name, arguments, ctx.request_context.params or {})
        try:
            with sending(*_told_along(tool.name, arguments)):
                answer = await _answer(tool, client, keyed, Progress(ctx))
        except Refused as refused:
            return refused.refusal.result()
        except grpc.aio.AioRpcError as error:
            given = ctx.request_context.params or {}
            refusal = await refusal_of(ApiError.of(error), client, tool.name, given.get("arguments") or {})
            return refusal.result()
        except Exception:
            _log.exception("tool %s failed", tool.name)
            return Refusal(
                "INTERNAL", "The tool failed; the cause is in the server's log.", next="Tell the person."
            ).result()
        return result_of(answer)

    async def asking(ctx: Context[Any, Any]) -> str:
        """Return what the person must be asked before this call; what is wrong with it the call itself says."""
        given = (ctx.request_context.params or {}).get("arguments") or {}
        if given.get("mode") != "commit":
            return ""
        client = callers.for_request(ctx.request_context.request)
        arguments = made.fn_metadata.validate_arguments(given)
        plan_id = str(given.get("plan_id") or "")

        async def dry_run() -> str:
            answer = await _answer(tool, client, {**arguments, "mode": "preview"}, Progress())
            return answer.why_approval() if isinstance(answer, WriteAnswer) else ""

        try:
            with sending(*_told_along(tool.name, arguments)):
                if tool.question is not None:
                    return await tool.question(client, arguments)
                return await wants_approval(tool.title, client, plan_id, dry_run)
        except Refused:
            return ""
        except grpc.aio.AioRpcError as error:
            return unclear(tool.title, ApiError.of(error), same_call=tool.question is None and not plan_id)

    asks = resolving(asking) if "mode" in made.parameters["properties"] else {}
    shown = {"meta": {"ui": {"resourceUri": tool.card}}} if tool.card else {}
    return made.model_copy(update={"fn": run, "title": tool.title, "annotations": tool.annotations, **asks, **shown})


def _keyed(tool: str, arguments: Mapping[str, Any], params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a commit that went on after a question with a key, where the caller gave none."""
    given = arguments.get("mode") == "commit" and arguments.get("idempotency_key") == ""
    return {**arguments, "idempotency_key": key_of_state(tool, params)} if given else arguments


async def _answer(tool: Tool, client: Client, arguments: Mapping[str, Any], progress: Progress) -> Answer:
    name = _progress_parameter(tool.function)
    return await tool.function(client, **arguments, **({name: progress} if name else {}))


def result_of(answer: Answer) -> CallToolResult:
    """Return an answer as the protocol carries it: as lines for a model, and as JSON for programs."""
    return CallToolResult(
        content=[TextContent(type="text", text=answer.told())],
        structured_content=answer.structured(),
    )


@cache
def _progress_parameter(function: Callable[..., Awaitable[Answer]]) -> str:
    """Return the parameter through which a tool tells its progress; empty where it tells none."""
    return next((name for name, hint in typing.get_type_hints(function).items() if hint is Progress), "")


@cache  # the schemas of all tools take as long as the rest of a server's start
def described(name: str, function: Callable[..., Awaitable[Answer]]) -> RegisteredTool:
    """Return a tool that knows what it takes and gives, and does nothing yet."""
    hints = typing.get_type_hints(function, include_extras=True)
    model: type[Answer] = hints["return"]

    async def nothing(ctx: Context[Any, Any], **_arguments: Any) -> None:
        raise NotImplementedError

    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context),
        *(
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(inspect.signature(function).parameters.values())[1:]
            if hints[parameter.name] is not Progress
        ),
    ]
    nothing.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=Annotated[CallToolResult, model]
    )
    nothing.__name__ = name.replace("-", "_")
    nothing.__annotations__ = {"ctx": Context}
    made = RegisteredTool.from_function(nothing, name=name, description=inspect.getdoc(function))
    made.parameters = _slim(made.parameters) | {"additionalProperties": False}
    made.fn_metadata.output_schema = _outline(made.fn_metadata.output_schema or {})
    return made


def _told_along(tool: str, arguments: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the metadata of every call that a tool makes: policies see the tool, the audit log the reason."""
    reason = quote(str(arguments.get("reason") or ""), safe=_PLAIN)
    return (("x-dripstone-tool", tool), *((("x-dripstone-reason", reason),) if reason else ()))


def _outline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an answer's schema what a program unpacks: `next`, and what is always there and no plain text."""
    always = {name: part for name, part in schema.get("properties", {}).items() if name in schema.get("required", ())}
    typed = {name: "object" if "$ref" in part else part.get("type") for name, part in always.items()}
    parts = {name: {"type": kind} for name, kind in typed.items() if kind not in (None, "string")}
    return {"type": "object", "properties": {**parts, "next": {"type": "string"}}}


def _slim(schema: Any, *, names: bool = False) -> Any:
    """Drop from a schema what no model needs: titles and empty defaults."""
    if isinstance(schema, list):
        return [_slim(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _slim(value, names=key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or not _says_nothing(key, value)
    }


def _says_nothing(key: str, value: Any) -> bool:
    match key:
        case "title":
            return True
        case "default":
            return value in ("", {}, [], None, False)
        case "additionalProperties":
            return value is True
        case _:
            return False


async def settled(call: grpc.aio.UnaryUnaryCall[Any, _Message]) -> tuple[_Message, bool]:
    """Return a call's answer, and whether it was given before."""
    answer = await call
    return answer, await replayed(call)


def committing(mode: str, idempotency_key: str) -> str:
    """Return the key to send: previews change nothing and need none, and a commit without one gets its own."""
    return (idempotency_key or new_key("call")) if mode == "commit" else ""

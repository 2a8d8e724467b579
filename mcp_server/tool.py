"""A tool: one function over the typed client, with what agents and people need to know about it beside it."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf import descriptor_pool
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool as RegisteredTool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, BeforeValidator, Field

from dripstone.v1 import options_pb2
from dripstone.v1.client import ApiError, Client, replayed, sending
from mcp_server import reach
from mcp_server.callers import Callers
from mcp_server.confirmation import (
    INTENT,
    NOT_CONFIRMED,
    Answered,
    Intent,
    Question,
    answered_by,
    meet,
    resolving,
    unclear,
    wants_approval,
    was_asked,
)
from mcp_server.progress import Progress
from mcp_server.recovery import Called, refusal_of
from mcp_server.refusals import Refusal, Refused, Unfit
from mcp_server.request_states import key_of_answer, key_of_state
from mcp_server.schemas import outline, slim
from mcp_server.values import UNTRUSTED, fenced, invocation, new_key, quoted, version_of

_log = logging.getLogger(__name__)
_Parameters = ParamSpec("_Parameters")
_Message = TypeVar("_Message")
_PLAIN = " ,.:;!?()'/-"
"""What a reason's text keeps in a header beside letters and digits."""

Mode = Literal["preview", "commit"]
IdempotencyKey = Annotated[
    str,
    Field(max_length=200, description="a repeat acts once"),
]
Reason = Annotated[str, Field(max_length=500)]
"""Why: stands in the audit log, and before those who approve."""
IfVersion = Annotated[str, BeforeValidator(version_of), Field(max_length=100, description="version you saw")]
Previewed = Annotated[str, BeforeValidator(version_of), Field(max_length=300, description="of its preview")]
"""What binds a commit to its preview; another version, or another call, is refused."""
Cursor = Annotated[str, Field(description="from `more`")]


class Answer(BaseModel):
    """What a tool returns."""

    FENCED: ClassVar[str] = ""
    """The field that holds a document, which stands below the text as it is, in a fence of its own."""

    next: str = Field(default="", description="the exact next call, or what to tell the person")
    more: str = Field(default="", description="the call for what comes after this page or part")

    def text(self) -> str:
        """Return the answer as the few lines that a model reads."""
        raise NotImplementedError

    def told(self) -> str:
        """Return the whole text: the answer, then what follows."""
        return lines(self._quoted(), *self._following())

    def _following(self) -> tuple[str, str]:
        return self.more and f"more: {self.more}", self.next and f"next: {self.next}"

    def _quoted(self) -> str:
        """Return the text with every line marked that a text of others goes on with."""
        text = self.text()
        others = {"next", "more", self.FENCED}
        said = quoted(text, [value for name, value in self if name not in others])
        document = getattr(self, self.FENCED) if self.FENCED else ""
        return lines(said, fenced(document, self.about_document()) if document else "")

    def about_document(self) -> str:
        """Return the line above a document in its fence."""
        return "Text of others, as it is:"

    def structured(self) -> dict[str, Any]:
        """Return the answer as JSON: a program finds every flag and list, a model reads no empty text."""
        told = self.model_dump(mode="json", exclude_defaults=True)
        for name, value in self:
            if isinstance(value, bool) or value == []:
                told.setdefault(name, value)
        return told


class WriteAnswer(Answer):
    """What a write returns."""

    mode: Literal["preview", "commit"]
    replayed: bool = Field(default=False, description="this key was used before; nothing was done again")
    idempotency_key: str = Field(default="", description="of this commit: get-call tells what became of it")
    undo: str = Field(default="", description="what undo-changes takes to take this back; empty where nothing can")

    def told(self, *, lent_key: bool = False) -> str:
        """Return the whole text: what was done, how to take it back, the key it was lent, and what follows."""
        undo = f'undo: undo-changes {{"undo":"{self.undo}"}}' if self.undo else ""
        if undo and (why := reach.missing("undo-changes")):
            undo = f"undo: {self.undo}; taking it back {why}"
        key = self.idempotency_key if lent_key else ""
        lent = key and f"idempotency_key: {key} was lent to this call; a repeat with it does not act again"
        return lines(self._quoted(), undo, lent, *self._following())

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
    """What a person is asked before every commit, whose function then looks at `confirmation.person`; None asks only
    where somebody else must approve it."""
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
        if intent is None or not was_asked(intent):
            return await carried_out(tool, callers, ctx.request_context, arguments)
        answered = answered_by(intent, key_of_answer(ctx.request_context.params or {}))
        return await carried_out(tool, callers, ctx.request_context, arguments, answered)

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
        except (Refused, Unfit):
            return ""
        except grpc.aio.AioRpcError as error:
            if tool.question is not None:
                return ""  # who cannot be shown what it is about is asked nothing, and the tool knows that
            return unclear(tool.title, ApiError.of(error), same_call=not plan_id)

    asks = resolving(asking) if "mode" in made.parameters["properties"] else {}
    shown = {"meta": {"ui": {"resourceUri": tool.card}}} if tool.card else {}
    return made.model_copy(update={"fn": run, "title": tool.title, "annotations": tool.annotations, **asks, **shown})


async def carried_out(
    tool: Tool,
    callers: Callers,
    ctx: ServerRequestContext[Any, Any],
    arguments: Mapping[str, Any],
    answered: Answered | None = None,
) -> CallToolResult:
    """Return what a tool answers to arguments that fit, called as who asks; what goes wrong is a refusal.

    `answered` is what the person said to the question before the call.
    """
    client = callers.for_request(ctx.request)
    meet(ctx, agreed=answered is not None and answered.agreed)
    given = ctx.params or {}
    lent = _lent_key(tool.name, arguments, given)
    try:
        if answered is not None and not await answered.stands(client, tool.name):
            return NOT_CONFIRMED.result()
        with sending(*_told_along(tool.name, arguments)):
            answer = await _answer(tool, client, {**arguments, **lent}, Progress(ctx.session))
        return result_of(answer, lent_key=bool(lent))
    except Refused as refused:
        return refused.refusal.result()
    except (grpc.aio.AioRpcError, Unfit) as error:
        sent = {**(given.get("arguments") or {}), **lent}
        called = Called(tool.name, sent, given.get("arguments") or {}, described(tool.name, tool.function).parameters)
        return (await refusal_of(_said(error), client, called)).result()
    except Exception:
        _log.exception("tool %s failed", tool.name)
        return Refusal(
            "INTERNAL", "The tool failed; the cause is in the server's log.", next=_after_failure(arguments, lent)
        ).result()


async def still_wrong(tool: Tool, client: Client, arguments: Mapping[str, Any], corrected: Called) -> Refusal | None:
    """Return what the core finds wrong with arguments that were corrected, by a preview of them; None for nothing."""
    try:
        with sending(*_told_along(tool.name, arguments)):
            await _answer(tool, client, arguments, Progress())
    except Refused as refused:
        found = refused.refusal
    except (grpc.aio.AioRpcError, Unfit) as error:
        found = await refusal_of(_said(error), client, corrected)
    else:
        return None
    return found if found.reason in ("INVALID_ARGUMENT", "NOT_FOUND") else None


def _said(error: grpc.aio.AioRpcError | Unfit) -> ApiError:
    return error.error if isinstance(error, Unfit) else ApiError.of(error)


def _after_failure(arguments: Mapping[str, Any], lent: Mapping[str, str]) -> str:
    """Return what follows a failure of ours: a commit may have happened before it."""
    if arguments.get("mode") != "commit":
        return "Tell the person."
    past = invocation("get-call", **{"idempotency_key": arguments.get("idempotency_key", ""), **lent})
    return f"{past} tells whether it happened; tell the person."


def _lent_key(tool: str, arguments: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, str]:
    """Return a key for a commit that came without one, so that it can be repeated: of its question, or a new one."""
    if arguments.get("mode") != "commit" or arguments.get("idempotency_key") != "":
        return {}
    return {"idempotency_key": key_of_state(tool, params) or new_key("call")}


async def _answer(tool: Tool, client: Client, arguments: Mapping[str, Any], progress: Progress) -> Answer:
    name = _progress_parameter(tool.function)
    return await tool.function(client, **arguments, **({name: progress} if name else {}))


def result_of(answer: Answer, *, lent_key: bool = False) -> CallToolResult:
    """Return an answer as the protocol carries it: as lines for a model, and as JSON for programs."""
    answer.next = reach.kept(answer.next)
    told = answer.told(lent_key=lent_key) if isinstance(answer, WriteAnswer) else answer.told()
    return CallToolResult(
        content=[TextContent(type="text", text=told)],
        structured_content=answer.structured(),
        _meta=dict(UNTRUSTED),
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
    made.parameters = slim(made.parameters) | {"additionalProperties": False}
    made.fn_metadata.output_schema = outline(made.fn_metadata.output_schema or {})
    return made


def _told_along(tool: str, arguments: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the metadata of every call that a tool makes: policies see the tool, the audit log the reason."""
    reason = arguments.get("reason")
    why = (("x-dripstone-reason", quote(str(reason), safe=_PLAIN)),) if reason else ()
    return (("x-dripstone-tool", tool), *why)


async def settled(call: grpc.aio.UnaryUnaryCall[Any, _Message]) -> tuple[_Message, bool]:
    """Return a call's answer, and whether it was given before."""
    answer = await call
    return answer, await replayed(call)


def committing(mode: str, idempotency_key: str) -> str:
    """Return the key to send: previews change nothing and must not use up that of their commit."""
    return idempotency_key if mode == "commit" else ""

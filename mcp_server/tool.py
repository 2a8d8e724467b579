"""A tool: one function over the typed client, with what agents and people need to know about it beside it."""

from __future__ import annotations

import inspect
import logging
import os
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import grpc
from google.protobuf import descriptor_pool
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool as RegisteredTool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from dripstone.v1 import options_pb2
from dripstone.v1.client import ApiError, replayed
from mcp_server.callers import Callers, presented_key
from mcp_server.recovery import refusal_of
from mcp_server.refusals import Refusal, Refused

_log = logging.getLogger(__name__)
_Parameters = ParamSpec("_Parameters")
_Message = TypeVar("_Message")

Mode = Annotated[Literal["preview", "commit"], Field(description="preview changes nothing; commit acts")]
IdempotencyKey = Annotated[
    str,
    Field(
        max_length=200,
        description="your key for this commit: repeated with the same arguments it returns the first answer. "
        "Without one, a repeated call acts again",
    ),
]
Cursor = Annotated[str, Field(description="next_cursor of the previous page")]


class Answer(BaseModel):
    """What a tool returns."""

    next: str = Field(default="", description="the exact next call, or what to tell the person")

    def text(self) -> str:
        """Return the answer as the few lines that a model reads."""
        raise NotImplementedError

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

    def heading(self, preview: str, commit: str) -> str:
        """Return the first line: what would be, or was, done."""
        if self.mode == "preview":
            return f"PREVIEW, nothing changed: {preview}"
        return f"{'REPLAYED, done before' if self.replayed else 'DONE'}: {commit}"


def lines(*parts: str) -> str:
    """Return the non-empty parts as lines."""
    return "\n".join(part for part in parts if part)


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

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes that the tool needs, as the contract states them."""
        pool = descriptor_pool.Default()
        found = {
            pool.FindMethodByName(f"dripstone.v1.{method}").GetOptions().Extensions[options_pb2.scope]
            for method in self.methods
        }
        return tuple(sorted(found - {"caller"}))


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
    ) -> Callable[[Callable[_Parameters, Awaitable[Answer]]], Callable[_Parameters, Awaitable[Answer]]]:
        """Make a tool of a function: its first parameter is the client, the others are the arguments."""
        annotations = ToolAnnotations(
            read_only_hint=read_only,
            destructive_hint=destructive,
            idempotent_hint=idempotent or read_only,
            open_world_hint=open_world,
        )

        def register(function: Callable[_Parameters, Awaitable[Answer]]) -> Callable[_Parameters, Awaitable[Answer]]:
            self.tools.append(Tool(name, title, self.name, function, methods, annotations))
            return function

        return register


def registered(tool: Tool, callers: Callers) -> RegisteredTool:
    """Return a tool as the protocol's library serves it: with the caller's client, and errors turned into refusals."""

    async def run(ctx: Context[Any, Any], **arguments: Any) -> CallToolResult:
        client = callers.client(presented_key(ctx.request_context.request))
        try:
            answer = await tool.function(client, **arguments)
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
        return CallToolResult(
            content=[TextContent(type="text", text=lines(answer.text(), answer.next and f"next: {answer.next}"))],
            structured_content=answer.structured(),
        )

    return described(tool.name, tool.function).model_copy(
        update={"fn": run, "title": tool.title, "annotations": tool.annotations}
    )


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
        ),
    ]
    nothing.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=Annotated[CallToolResult, model]
    )
    nothing.__name__ = name.replace("-", "_")
    nothing.__annotations__ = {"ctx": Context}
    made = RegisteredTool.from_function(nothing, name=name, description=inspect.getdoc(function))
    made.parameters = _slim(made.parameters) | {"additionalProperties": False}
    made.fn_metadata.output_schema = _slim(made.fn_metadata.output_schema or {}, described=False)
    return made


def _slim(schema: Any, *, described: bool = True, names: bool = False) -> Any:
    """Drop from a schema what no model needs: titles, empty defaults, and of answers the descriptions."""
    if isinstance(schema, list):
        return [_slim(item, described=described) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _slim(value, described=described, names=key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or not _says_nothing(key, value, described)
    }


def _says_nothing(key: str, value: Any, described: bool) -> bool:
    match key:
        case "title":
            return True
        case "description":
            return not described
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


def new_key(tool: str) -> str:
    """Return an idempotency key for a suggested commit; used by whoever follows the suggestion, once."""
    return f"{tool}-{os.urandom(6).hex()}"


def committing(mode: str, idempotency_key: str) -> str:
    """Return the key to send: previews change nothing and need none."""
    return idempotency_key if mode == "commit" else ""

"""Tools that the suite calls by name for what they answer, tell on the way, or ask of whoever calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit, ElicitationResult, Resolve, Sample
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    AudioContent,
    CreateMessageResult,
    EmbeddedResource,
    ImageContent,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
"""The smallest picture."""

SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
"""The shortest sound."""

PAUSE = 0.05


def test_simple_text() -> str:
    """Answer with text."""
    return "This is a simple text response for testing."


def test_image_content() -> ImageContent:
    """Answer with a picture."""
    return ImageContent(type="image", data=PIXEL, mime_type="image/png")


def test_audio_content() -> AudioContent:
    """Answer with a sound."""
    return AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")


def embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, text=text, mime_type=mime_type))


def test_embedded_resource() -> EmbeddedResource:
    """Answer with a resource."""
    return embedded("test://embedded-resource", "This is an embedded resource content.")


def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answer with several kinds of content."""
    return [
        TextContent(type="text", text="Multiple content types test:"),
        test_image_content(),
        embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
    ]


def test_error_handling() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
    """Tell three log messages on the way."""
    for number, message in enumerate(("Tool execution started", "Tool processing data", "Tool execution completed")):
        if number:
            await asyncio.sleep(PAUSE)
        await ctx.info(message)
    return "Three messages were logged."


async def test_logging_tool(ctx: Context[Any, Any]) -> str:
    """Tell a log message, which only a client gets that asked for it."""
    await ctx.info("Nobody may have asked for this.")
    return "One message was logged."


async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
    """Tell progress on the way."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
        await asyncio.sleep(PAUSE)
    return "It is all done."


async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
    """Tell that the list of tools has changed."""
    await ctx.notify_tools_changed()
    return "Listeners were told."


async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
    """Tell that the list of prompts has changed."""
    await ctx.notify_prompts_changed()
    return "Listeners were told."


def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Take an argument that stands in a header too."""
    return f"The region is {region}."


def _sampled(prompt: str) -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text=prompt))], max_tokens=100)


async def test_sampling(prompt: str, answer: Annotated[CreateMessageResult, Resolve(_sampled)]) -> str:
    """Ask the client's model."""
    said = answer.content.text if isinstance(answer.content, TextContent) else ""
    return f"LLM response: {said}"


def _needs_sampling() -> Sample:
    return _sampled("Are you there?")


async def test_missing_capability(answer: Annotated[CreateMessageResult, Resolve(_needs_sampling)]) -> str:
    """Need the client's model."""
    return f"The model {answer.model} is there."


class Person(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


def _titled(**titles: str) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in titles.items()]


class Choices(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(
        json_schema_extra={"oneOf": _titled(value1="First Option", value2="Second Option", value3="Third Option")}
    )
    legacyEnum: str = Field(
        json_schema_extra={
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        }
    )
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}}
    )
    titledMulti: list[str] = Field(
        json_schema_extra={
            "items": {"anyOf": _titled(value1="First Choice", value2="Second Choice", value3="Third Choice")}
        }
    )


def _said(result: ElicitationResult[Any]) -> str:
    content = result.data.model_dump_json() if isinstance(result, AcceptedElicitation) else "{}"
    return f"action={result.action}, content={content}"


def _person(message: str) -> Elicit[Person]:
    return Elicit(message, Person)


async def test_elicitation(message: str, answer: Annotated[ElicitationResult[Person], Resolve(_person)]) -> str:
    """Ask the client's person."""
    return f"User response: {_said(answer)}"


def _somebody() -> Elicit[Person]:
    return Elicit("Who are you?", Person)


async def test_streaming_elicitation(answer: Annotated[ElicitationResult[Person], Resolve(_somebody)]) -> str:
    """Ask the client's person while the answer streams."""
    return f"User response: {_said(answer)}"


def _defaults() -> Elicit[Defaults]:
    return Elicit("Please fill the form in.", Defaults)


async def test_elicitation_sep1034_defaults(
    answer: Annotated[ElicitationResult[Defaults], Resolve(_defaults)],
) -> str:
    """Ask with a default for every kind of value."""
    return f"Elicitation completed: {_said(answer)}"


def _choices() -> Elicit[Choices]:
    return Elicit("Please choose.", Choices)


async def test_elicitation_sep1330_enums(answer: Annotated[ElicitationResult[Choices], Resolve(_choices)]) -> str:
    """Ask with every kind of choice."""
    return f"Elicitation completed: {_said(answer)}"


def json_schema_2020_12_tool(
    name: str = "",
    address: dict[str, str] | None = None,
    contactMethod: str = "",
    phone: str = "",
    email: str = "",
) -> str:
    """Take arguments that a schema with much of JSON Schema 2020-12 describes."""
    return f"{name} can be reached."


_FIELDS = {name: {"type": "string"} for name in ("street", "city")}
JSON_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": _FIELDS}},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

TOOLS: tuple[Callable[..., Any], ...] = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_tool_with_logging,
    test_logging_tool,
    test_tool_with_progress,
    test_trigger_tool_change,
    test_trigger_prompt_change,
    test_x_mcp_header,
    test_sampling,
    test_missing_capability,
    test_elicitation,
    test_streaming_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    json_schema_2020_12_tool,
)

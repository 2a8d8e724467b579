"""What the skills say, taken apart: the calls of their steps, the calls in their sentences, and the words they use."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mcp_server.tool import Tool, described
from mcp_server.tools import TOOLSETS

FOLDER = Path(__file__).parents[2] / "skills"
NAMES = sorted(entry.parent.name for entry in FOLDER.glob("*/SKILL.md"))

_FENCED = re.compile(r"^ *```json\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([a-z]+(?:-[a-z]+)+|enroll) (\{.*?\})`", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}")


@dataclass(frozen=True)
class Step:
    """One call of a skill's main path."""

    name: str
    tool: str
    arguments: Mapping[str, Any]
    when: Mapping[str, list[Any]] = field(default_factory=dict)
    unless: Mapping[str, list[Any]] = field(default_factory=dict)
    stop: bool = False

    @property
    def referred(self) -> list[str]:
        """Return every path that its arguments and conditions look up: `find.records[0].record_id`."""
        return [*_PLACEHOLDER.findall(json.dumps(self.arguments)), *self.when, *self.unless]


@cache
def text(skill: str) -> str:
    """Return the SKILL.md of a skill."""
    return (FOLDER / skill / "SKILL.md").read_text()


def body(skill: str) -> str:
    """Return it without its frontmatter."""
    return text(skill).split("\n---\n", 1)[1]


def evals(skill: str) -> dict[str, Any]:
    """Return what a skill is evaluated by."""
    found: dict[str, Any] = json.loads((FOLDER / skill / "evals" / "evals.json").read_text())
    return found


def steps(skill: str) -> list[Step]:
    """Return the steps of a skill, in order. Raises ValueError when one is not written as it should be."""
    found = []
    for written in _FENCED.findall(text(skill)):
        block = json.loads(written)
        if unknown := block.keys() - {"step", "tool", "arguments", "when", "unless", "stop"}:
            raise ValueError(f"{skill}: a block has {unknown}")
        found.append(
            Step(
                block["step"],
                block["tool"],
                block["arguments"],
                block.get("when", {}),
                block.get("unless", {}),
                block.get("stop", False),
            )
        )
    return found


def inline_calls(skill: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that stand in sentences and tables."""
    return [(tool, json.loads(arguments)) for tool, arguments in _INLINE.findall(body(skill))]


@cache
def tools() -> Mapping[str, Tool]:
    """Return the live tools."""
    return {tool.name: tool for toolset in TOOLSETS for tool in toolset.tools}


def taken(tool: str) -> dict[str, Any]:
    """Return the JSON Schema of what a tool takes."""
    found = tools()[tool]
    return described(found.name, found.function).parameters


def given(tool: str) -> type[BaseModel]:
    """Return the model of what a tool answers."""
    model: type[BaseModel] = typing.get_type_hints(tools()[tool].function, include_extras=True)["return"]
    return model


def parts(path: str) -> Iterator[str | int]:
    """Yield the names and places of a path such as `records[0].record_id`."""
    for name, place in re.findall(r"([A-Za-z_]\w*)|\[(\d+)\]", path):
        yield name or int(place)

"""The one shape in which a tool says no: reason, message, field, hint, and the exact next call."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mcp.types import CallToolResult, TextContent
from pydantic import ValidationError

from mcp_server.values import invocation

SHOWN = 10
"""Problems that one refusal lists; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the arguments: where (`contacts[3].email`), a machine reason, a sentence."""

    field: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was done and what to do instead."""

    reason: str
    message: str
    field: str = ""
    hint: str = ""
    next: str = ""
    """The exact next call, or what to do when there is none."""
    retry_after: float | None = None
    """Seconds to wait before the same call may work."""
    problems: tuple[Problem, ...] = ()
    """Every problem, when there are several."""

    def result(self) -> CallToolResult:
        """Return the refusal as a tool result: structured, and as a few lines for the model."""
        error = {name: value for name, value in asdict(self).items() if value not in ("", None, ())}
        where = f" ({self.field})" if self.field and not self.message.startswith(self.field) else ""
        lines = [f"{self.reason}: {self.message}{where}", self.hint]
        if self.problems:
            error["problems"] = [asdict(problem) for problem in self.problems[:SHOWN]]
            lines[1:1] = [f"- {problem.field}: {problem.message}" for problem in self.problems[:SHOWN]]
        if self.retry_after:
            lines.append(f"retry after {self.retry_after:g} s")
        if self.next:
            lines.append(f"next: {self.next}")
        text = "\n".join(line for line in lines if line)
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content={"error": error}, is_error=True
        )


class Refused(Exception):
    """Raised inside a tool to answer with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the nearest known name as a question; empty when none is near."""
    near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else ""


def unknown_tool(name: str, known: Collection[str]) -> Refusal:
    """Refuse a tool that does not exist, naming the nearest one."""
    near = difflib.get_close_matches(name.lower().replace("_", "-"), sorted(known), n=1, cutoff=0.4)
    return Refusal(
        reason="UNKNOWN_TOOL",
        message=f"There is no tool {name[:80]}.",
        hint=f"Did you mean {near[0]}?" if near else f"Tools: {', '.join(sorted(known))}.",
        next=invocation(near[0]) if near else "tools/list",
    )


def unknown_arguments(tool: str, given: Mapping[str, Any], accepted: Mapping[str, Any]) -> Refusal | None:
    """Refuse arguments that the tool does not have, naming the nearest ones; None when all are known."""
    unknown = [name for name in given if name not in accepted]
    if not unknown:
        return None
    corrected = dict(given)
    problems = []
    for name in unknown:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), sorted(accepted), n=1, cutoff=0.5)
        value = corrected.pop(name)
        if near and near[0] not in given:
            corrected[near[0]] = value
        problems.append(
            Problem(name[:80], "UNKNOWN_ARGUMENT", f"is not an argument{f'; did you mean {near[0]}?' if near else '.'}")
        )
    return _several(tool, tuple(problems), f"Accepted: {', '.join(accepted)}.", corrected)


def invalid_arguments(
    tool: str, error: ValidationError, given: Mapping[str, Any], names: Collection[str] = ()
) -> Refusal:
    """Refuse arguments that do not fit the schema; neither values nor foreign texts are repeated.

    `names` are the field names known inside the arguments, to suggest from.
    """
    errors = error.errors(include_url=False, include_input=False)
    corrected = dict(given)
    for one in errors:
        if len(one["loc"]) == 1:
            name = str(one["loc"][0])
            corrected[name] = _nearest_choice(one, given.get(name)) or f"<{name}>"
    problems = tuple(_problem(one, names) for one in errors)
    return _several(tool, problems, "Correct the named arguments and call again.", corrected)


def _nearest_choice(error: Mapping[str, Any], given: object) -> str:
    if error["type"] != "literal_error":
        return ""
    choices: list[str] = re.findall(r"'([^']+)'", error["ctx"]["expected"])
    return next(iter(difflib.get_close_matches(str(given).lower(), choices, n=1)), choices[0])


def _problem(error: Mapping[str, Any], names: Collection[str]) -> Problem:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    match error["type"]:
        case "missing":
            return Problem(path, "REQUIRED", "is required.")
        case "extra_forbidden":
            hint = did_you_mean(str(error["loc"][-1]), names) or f"Known: {', '.join(sorted(names))}."
            return Problem(path, "UNKNOWN_ARGUMENT", f"is not known here. {hint}")
        case "literal_error":
            return Problem(path, "INVALID_VALUE", f"must be {error['ctx']['expected']}.")
        case _:
            message = error["msg"].replace("Input should", "should")
            return Problem(path, "INVALID_VALUE", f"{message[:1].lower()}{message[1:]}.")


def _several(tool: str, problems: tuple[Problem, ...], hint: str, arguments: Mapping[str, Any]) -> Refusal:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    again = invocation(tool, **arguments)
    return Refusal(
        reason="INVALID_ARGUMENT",
        message=f"{first.field} {first.message}{more}",
        field=first.field,
        hint=hint,
        next=again if len(again) <= 400 else f"{tool} with the named arguments corrected",
        problems=problems if len(problems) > 1 else (),
    )

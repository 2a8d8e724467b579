"""The one shape in which a tool says no: reason, message, field, hint, and the exact next call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mcp.types import CallToolResult, TextContent
from pydantic import ValidationError

from mcp_server.corrections import LONGEST, MENDED, completed, corrected, meant, nearest
from mcp_server.values import invocation, quoted

SHOWN = MENDED
"""Problems that one refusal lists; the rest are counted."""

_CORRECTED = "{} with the named arguments corrected"

_MOST_UNKNOWN = 100
_MOST_ERRORS = 1000
"""Unknown arguments, and errors inside arguments, that are looked at one by one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the arguments: where (`contacts[3].email`), a machine reason, a sentence, the way out."""

    field: str
    reason: str
    message: str
    hint: str = ""

    def line(self) -> str:
        """Return the whole problem as one line."""
        stop = "" if not self.hint or self.message.endswith((".", "!", "?")) else "."
        return f"- {self.field}: {self.message}{stop} {self.hint}".rstrip()


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
    approval_id: str = ""
    """The approval that it waits for."""

    def result(self) -> CallToolResult:
        """Return the refusal as a tool result: structured, and as a few lines for the model."""
        error = {
            name: value for name, value in asdict(replace(self, problems=())).items() if value not in ("", None, ())
        }
        where = f" ({self.field})" if self.field and self.field not in self.message else ""
        lines = [f"{self.reason}: {self.message}{where}", self.hint]
        if self.problems:
            shown = self.problems[:SHOWN]
            error["problems"] = [{k: v for k, v in asdict(problem).items() if v} for problem in shown]
            more = len(self.problems) - len(shown)
            lines = [f"{self.reason}: {len(self.problems)} arguments do not fit.", *(one.line() for one in shown)]
            lines += [f"… {more} more" if more else "", self.hint]
        lines = [quoted("\n".join(line for line in lines if line))]
        if self.retry_after:
            lines.append(f"retry after {self.retry_after:g} s")
        if self.next:
            lines.append(f"next: {self.next}")
        text = "\n".join(lines)
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content={"error": error}, is_error=True
        )


class Refused(Exception):
    """Raised inside a tool to answer with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


def refused_arguments(problems: tuple[Problem, ...], hint: str, following: str, joint: str = " ") -> Refusal:
    """Return the refusal of arguments: the first problem in its message, all of them where there are several.

    `joint` stands between the name of an argument and what is wrong with it.
    """
    first, several = problems[0], len(problems) > 1
    return Refusal(
        reason="INVALID_ARGUMENT",
        message=f"{first.field}{joint}{first.message}" + (f" (and {len(problems) - 1} more)" if several else ""),
        field=first.field,
        hint=hint if several else first.hint or hint,
        next=following,
        problems=problems if several else (),
    )


def unknown_tool(name: str, known: Collection[str]) -> Refusal:
    """Refuse a tool that does not exist, naming the nearest one."""
    near = nearest(name.replace("_", "-"), known, cutoff=0.4)
    return Refusal(
        reason="UNKNOWN_TOOL",
        message=f"There is no tool {name[:80]}.",
        hint=f"Did you mean {near}?" if near else f"Tools: {', '.join(sorted(known))}.",
        next=invocation(near) if near else "tools/list",
    )


def unknown_arguments(tool: str, given: Mapping[str, Any], schema: Mapping[str, Any]) -> Refusal | None:
    """Refuse arguments that the tool does not have, naming the nearest ones; None when all are known."""
    accepted = schema["properties"]
    unknown = [name for name in given if name not in accepted]
    if not unknown:
        return None
    hint = f"Accepted: {', '.join(accepted)}."
    if len(unknown) > _MOST_UNKNOWN:
        return Refusal(
            "INVALID_ARGUMENT", f"{len(unknown)} arguments are not known here.", hint=hint, next=_CORRECTED.format(tool)
        )
    renamed = dict(given)
    problems = []
    for number, name in enumerate(unknown):
        near = meant(name, accepted) if number < SHOWN else ""
        value = renamed.pop(name)
        if near:
            renamed.setdefault(near, value)
        problems.append(
            Problem(
                name[:LONGEST], "UNKNOWN_ARGUMENT", f"is not an argument{f'; did you mean {near}?' if near else '.'}"
            )
        )
    return refused_arguments(tuple(problems), hint, _call(tool, completed(renamed, schema)))


def invalid_arguments(
    tool: str, error: ValidationError, given: Mapping[str, Any], schema: Mapping[str, Any]
) -> Refusal:
    """Refuse arguments that do not fit the schema; neither values nor foreign texts are repeated."""
    hint = "Correct the named arguments and call again."
    if error.error_count() > _MOST_ERRORS:
        message = f"{error.error_count()} arguments do not fit."
        return Refusal("INVALID_ARGUMENT", message, hint="Correct them and call again.", next=_CORRECTED.format(tool))
    names = {field for one in schema.get("$defs", {}).values() for field in one.get("properties", {})}
    errors = error.errors(include_url=False, include_input=False)
    problems = tuple(_problem(one, names if number < SHOWN else ()) for number, one in enumerate(errors))
    following = (
        _call(tool, corrected(given, errors, schema, names)) if len(errors) <= SHOWN else _CORRECTED.format(tool)
    )
    return refused_arguments(problems, hint, following)


def _call(tool: str, arguments: Mapping[str, Any]) -> str:
    call = invocation(tool, **arguments)
    return call if len(call) <= 400 else _CORRECTED.format(tool)


def _problem(error: Mapping[str, Any], names: Collection[str]) -> Problem:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"[: LONGEST + 1] if path else str(part)[:LONGEST]
    match error["type"]:
        case "missing":
            return Problem(path, "REQUIRED", "is required.")
        case "extra_forbidden":
            near = nearest(str(error["loc"][-1]), names)
            hint = f"Did you mean {near}?" if near else f"Known: {', '.join(sorted(names))}."
            return Problem(path, "UNKNOWN_ARGUMENT", "is not known here.", hint)
        case "literal_error":
            return Problem(path, "INVALID_VALUE", f"must be {error['ctx']['expected']}.")
        case _:
            message = error["msg"].replace("Input should", "should")
            return Problem(path, "INVALID_VALUE", f"{message[:1].lower()}{message[1:]}.")

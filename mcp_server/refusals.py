"""The one shape in which a tool says no: reason, message, field, hint, and the exact next call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mcp.types import CallToolResult, TextContent
from pydantic import ValidationError

from dripstone.v1.client import ApiError
from mcp_server import reach
from mcp_server.corrections import CORRECTED, LONGEST, MENDED, Validate, fitting, meant, renamed, told
from mcp_server.identifiers import shown_by, takes_id
from mcp_server.schemas import object_at
from mcp_server.values import invocation

SHOWN = MENDED
"""Problems that one refusal lists; the rest are counted."""

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
    """Every problem of the arguments."""
    approval_id: str = ""
    """The approval that it waits for."""

    def joined(self, more: Refusal) -> Refusal:
        """Return one refusal of what is wrong with arguments here and of what is found wrong with them corrected."""
        found = more.problems or (Problem(more.field or "arguments", more.reason, more.message, more.hint),)
        return refused_arguments((*self.problems, *found), self.hint, more.next)

    def result(self) -> CallToolResult:
        """Return the refusal as a tool result: structured, and as a few lines for the model."""
        error = {
            name: value for name, value in asdict(replace(self, problems=())).items() if value not in ("", None, ())
        }
        where = f" ({self.field})" if self.field and self.field not in self.message else ""
        lines = [f"{self.reason}: {self.message}{where}", self.hint]
        if len(self.problems) > 1:
            shown = self.problems[:SHOWN]
            error["problems"] = [{k: v for k, v in asdict(problem).items() if v} for problem in shown]
            more = len(self.problems) - len(shown)
            lines = [f"{self.reason}: {len(self.problems)} arguments do not fit.", *(one.line() for one in shown)]
            lines += [f"… {more} more" if more else "", self.hint]
        # Whatever a message quotes stays on the line that we began.
        lines = [" ".join(line.splitlines()) for line in lines if line]
        if self.retry_after:
            lines.append(f"retry after {self.retry_after:g} s")
        if following := reach.kept(self.next):
            error["next"] = following
            lines.append(f"next: {following}")
        text = "\n".join(lines)
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content={"error": error}, is_error=True
        )


class Refused(Exception):
    """Raised inside a tool to answer with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


class Unfit(Exception):
    """Raised inside a tool for an answer that says as much as a refusal: what is wrong with the arguments, by field."""

    def __init__(self, error: ApiError) -> None:
        self.error = error
        super().__init__(error.message)


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
        problems=problems,
    )


def wrong_arguments(
    tool: str, given: Mapping[str, Any], schema: Mapping[str, Any], validate: Validate
) -> tuple[Refusal, dict[str, Any]]:
    """Refuse arguments that a tool does not have or that do not fit, all at once; foreign texts are not repeated.

    With it return the arguments as they are corrected in the call that is suggested; none where it is told in words.
    """
    accepted = schema["properties"]
    if (unknown := sum(name not in accepted for name in given)) > _MOST_UNKNOWN:
        return _too_many(tool, f"{unknown} arguments are not known here.", _accepted(accepted)), {}
    arguments, became = renamed(given, tool, schema)
    errors: list[Any] = []
    try:
        validate(arguments)
    except ValidationError as error:
        if error.error_count() > _MOST_ERRORS:
            return _too_many(tool, f"{error.error_count()} arguments do not fit.", "Correct them and call again."), {}
        errors = error.errors(include_url=False, include_input=False)
    problems = [_misnamed(name, near) for name, near in became.items()]
    for number, one in enumerate(errors):
        known = object_at(schema, one["loc"][:-1]).get("properties", ()) if number < SHOWN else ()
        problems.append(_problem(one, known, _value_at(arguments, one["loc"])))
    hint = _accepted(accepted) if became else "Correct the named arguments and call again."
    following, mended = _found_instead(given, became, errors), dict[str, Any]()
    if not following and len(errors) > SHOWN:
        following = CORRECTED.format(tool)
    elif not following:
        mended = fitting(arguments, validate, schema)
        following = told(tool, mended, given)
    return refused_arguments(tuple(problems), hint, following), mended


def _too_many(tool: str, message: str, hint: str) -> Refusal:
    return Refusal("INVALID_ARGUMENT", message, hint=hint, next=CORRECTED.format(tool))


def _accepted(names: Collection[str]) -> str:
    return f"Accepted: {', '.join(names)}."


def _misnamed(name: str, near: str) -> Problem:
    more = f"; did you mean {near}?" if near else ", and left out of the call below."
    if near in ("contacts", "input", "output", "fields", "filter") and near not in name:
        more = f"; it goes into {near}."
    return Problem(name[:LONGEST], "UNKNOWN_ARGUMENT", f"is not an argument{more}")


def _found_instead(given: Mapping[str, Any], became: Mapping[str, str], errors: Collection[Mapping[str, Any]]) -> str:
    """Return the call that finds the id that is missing, from what was given instead of it; empty where none does."""
    lacking = [str(one["loc"][0]) for one in errors if one["type"] == "missing" and len(one["loc"]) == 1]
    dropped = {name: given[name] for name, near in became.items() if not near}
    if not any(takes_id(name) or name == "undo" for name in lacking):
        return ""
    who = {name: dropped[name] for name in ("contact_id", "email") if isinstance(dropped.get(name), str)}
    if "enrollment_id" in lacking and isinstance(dropped.get("workflow_id"), str) and len(who) == 1:
        return invocation("explain-enrollment", workflow_id=dropped["workflow_id"], **who)
    return next(filter(None, map(shown_by, dropped.values())), "")


def _value_at(arguments: Any, path: Collection[Any]) -> Any:
    for part in path:
        try:
            arguments = arguments[part]
        except (KeyError, IndexError, TypeError):
            return None
    return arguments


def _problem(error: Mapping[str, Any], names: Collection[str], value: Any) -> Problem:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"[: LONGEST + 1] if path else str(part)[:LONGEST]
    match error["type"]:
        case "missing":
            return Problem(path, "REQUIRED", "is required.")
        case "extra_forbidden":
            near = meant(str(error["loc"][-1]), names, value) if names else ""
            hint = f"Did you mean {near}?" if near else f"Known: {', '.join(names)}." if names else ""
            return Problem(path, "UNKNOWN_ARGUMENT", "is not known here.", hint)
        case "literal_error":
            return Problem(path, "INVALID_VALUE", f"must be {error['ctx']['expected']}.")
        case _:
            message = error["msg"].replace("Input should", "should")
            return Problem(path, "INVALID_VALUE", f"{message[:1].lower()}{message[1:]}.")

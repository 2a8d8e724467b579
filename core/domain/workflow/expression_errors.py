"""What the CEL checker says, turned into sentences with a place and a way out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from core.domain.articles import with_article
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.workflow.expression_text import MACROS, Rewritten

FUNCTIONS = (
    *("size", "has", "int", "double", "string", "bool", "duration", "timestamp", "moment", "dyn", "type", "uint"),
    *("startsWith", "endsWith", "contains", "matches", "lowerAscii", "upperAscii", "trim", "split", "join", "replace"),
    *("substring", "indexOf", "lastIndexOf", "charAt", "format", "reverse"),
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes"),
    *("getSeconds", "getMilliseconds"),
    *sorted(MACROS),
)
"""Functions that an expression may call."""

_NUMBER = r"(?:wrapper\()?(?:list\()?(?:int|double)\)?"
MIXED_NUMBERS = re.compile(rf"'(?:_(?:[<>]=?|==|!=)_|@in)' applied to '\({_NUMBER}, {_NUMBER}\)'")
"""The complaint about comparing a whole with a decimal number."""

_COMPLAINT = re.compile(r"ERROR: <input>:(\d+):(\d+): ((?:(?!\nERROR: )[^\n])*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")
_SELECT = re.compile(r"expression of type '([^']*)' cannot be the operand of a select")
_WORDS = {
    "google.protobuf.Timestamp": "instant",
    "google.protobuf.Duration": "duration",
    "int": "integer",
    "double": "number",
    "bool": "boolean",
    "string": "string",
    "dyn": "any value",
    "null_type": "null",
}


@frozen
class Complaint:
    """One thing the checker found; line and column count from 1."""

    line: int
    column: int
    message: str


def complaints(text: str) -> tuple[Complaint, ...]:
    """Return what an exception of the checker lists."""
    found = [Complaint(int(line), int(column), message) for line, column, message in _COMPLAINT.findall(text)]
    return tuple(found) or (Complaint(0, 0, text),)


def violation(
    complaint: Complaint, text: str, rewritten: Rewritten, variables: Mapping[str, str], path: str
) -> Violation:
    """Return a complaint in the author's words; `text` is what the author wrote, `rewritten` what was checked."""
    offset = sum(len(line) + 1 for line in rewritten.text.split("\n")[: complaint.line - 1]) + complaint.column - 1
    called = rewritten.text[offset : offset + 1] == "("
    if not called and (unknown := _UNDECLARED.search(complaint.message)):
        offset -= max(0, unknown.group(1).rfind("."))  # the checker points at the last dot of a name
    before = text[: max(0, rewritten.original(offset))]
    place = f"column {len(before) - (before.rfind(chr(10)) + 1) + 1}"
    if "\n" in text.strip():
        place = f"line {before.count(chr(10)) + 1}, {place}"
    reason, message, hint = _translate(complaint.message, called, variables)
    return Violation(path, reason, f"{place}: {message}" if complaint.line else message, hint)


def _translate(message: str, called: bool, variables: Mapping[str, str]) -> tuple[str, str, str]:
    if found := _UNDECLARED.search(message):
        return _undeclared(found.group(1), called, variables)
    if found := _OVERLOAD.search(message):
        return _overload(found.group(1), found.group(2))
    if found := _SELECT.search(message):
        return "EXPRESSION_TYPE", f"{with_article(_word(found.group(1)))} has no fields", "Name the value itself."
    if "recursion limit" in message or "max recursion" in message:
        return "EXPRESSION_TOO_DEEP", "the expression is nested too deeply", "Split it over several branch steps."
    if "Syntax error" in message:
        said = message.partition("Syntax error: ")[2].split(" expecting ")[0].replace("mismatched input", "unexpected")
        said = "it ends too early" if "'<EOF>'" in said else said
        return "EXPRESSION_SYNTAX", f"this is not CEL: {said}", 'Write CEL, such as lead.tier == "A" && lead.score > 3.'
    return "EXPRESSION_INVALID", message.split("\n")[0][:200], "See the CEL language definition."


def _undeclared(name: str, called: bool, variables: Mapping[str, str]) -> tuple[str, str, str]:
    if called and name in FUNCTIONS:
        hint = "Check what it is called on and how many arguments it takes."
        return "EXPRESSION_TYPE", f"{name} is not called like this", hint
    if called:
        hint = did_you_mean(name, FUNCTIONS) or f"The functions there are: {', '.join(FUNCTIONS)}."
        return "EXPRESSION_UNKNOWN_FUNCTION", f"there is no function {name}", hint
    inside = [variable for variable in variables if variable.startswith(name + ".")]
    if inside:
        hint = f"Name a value in it, such as {inside[0]}."
        return "EXPRESSION_UNKNOWN_NAME", f"{name} is not a value by itself", hint
    hint = did_you_mean(name, variables) or roots(name, variables)
    return "EXPRESSION_UNKNOWN_NAME", f"there is no {name} here", hint


def roots(name: str, variables: Mapping[str, str]) -> str:
    """Return which names there are, for a name that resembles none of them."""
    root = name.partition(".")[0]
    same = [variable for variable in variables if variable.startswith(root + ".")]
    if same:
        more = ", …" if len(same) > 8 else ""
        return f"{root} has {', '.join(same[:8])}{more}."
    return f"Names begin with {', '.join(sorted({variable.partition('.')[0] for variable in variables}))}."


def _overload(operation: str, operands: str) -> tuple[str, str, str]:
    name = operation.strip("_@") or operation
    kinds = [_word(kind) for kind in _split(operands[1:-1])]
    hint = "Use values of one kind on both sides."
    if set(kinds) == {"integer", "number"}:
        hint = "Write the whole number with .0, or wrap the value in double(…) or int(…)."
    elif set(kinds) == {"instant", "string"}:
        hint = 'Write an instant as timestamp("2026-01-31T00:00:00Z"), or moment(…) of a text that holds one.'
    elif set(kinds) == {"duration", "string"}:
        hint = 'Write a length of time as duration("72h").'
    elif "string" in kinds and {"integer", "number"} & set(kinds):
        hint = 'Quote neither side or both: 3 is a number, "3" is a string.'
    return "EXPRESSION_TYPE", f"{name} does not take {' and '.join(kinds)}", hint


def _split(operands: str) -> list[str]:
    parts, depth = [""], 0
    for character in operands:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _word(type_name: str) -> str:
    if type_name.startswith("wrapper("):
        type_name = type_name[8:-1]
    return _WORDS.get(type_name) or type_name.partition("(")[0].rpartition(".")[2]

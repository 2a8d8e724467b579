"""Conditions and computed values in CEL: checked against declared variables, then run on plain values.

This is the one module that knows the CEL engine. The engine wants two environments: to check, a variable is declared
with its nullable type; to run, it is declared as anything, because only then does the engine take None for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from core.domain.errors import Invalid, Violation
from core.domain.workflow.expression_errors import MIXED_NUMBERS, Complaint, complaints, violation
from core.domain.workflow.expression_text import Mention, deepest_macro, mentions, rewrite_presence

Kind = Literal["string", "integer", "number", "boolean", "instant", "date", "reference", "map", "list", "any"]
"""What a variable holds; the field kinds of records, and the three shapes that only expressions know."""

LONGEST_TEXT = 2_000
DEEPEST_MACRO = 2

_LARGEST_INTEGER = 2**63
_CHECKED = {
    "string": cel.Type("google.protobuf.StringValue"),
    "reference": cel.Type("google.protobuf.StringValue"),
    "integer": cel.Type("google.protobuf.Int64Value"),
    "number": cel.Type("google.protobuf.DoubleValue"),
    "boolean": cel.Type("google.protobuf.BoolValue"),
    "instant": cel.Type.TIMESTAMP,
    "date": cel.Type.TIMESTAMP,
    "map": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    "list": cel.Type.List(cel.Type.DYN),
    "any": cel.Type.DYN,
}
_RESULTS: Mapping[str, Kind] = {
    "BOOL": "boolean",
    "STRING": "string",
    "INT": "integer",
    "UINT": "integer",
    "DOUBLE": "number",
    "TIMESTAMP": "instant",
}
_EXTENSIONS = (ext_strings.ExtStrings(),)


@dataclass(frozen=True, slots=True)
class Result:
    """What an expression came to."""

    value: Any
    """The value; None when it is unknown."""
    unknown: str = ""
    """Why there is no value, as a clause such as `contact.score is not known`; empty when there is one."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Each value it looked at, by path; None where it was not known."""

    @property
    def holds(self) -> bool:
        """Tell whether a condition is satisfied; an unknown one is not."""
        return self.value is True


class Expression:
    """A checked expression."""

    __slots__ = ("_kinds", "_programs", "_runnable", "kind", "mentions", "text", "wants")

    def __init__(self, text: str, runnable: str, kind: Kind, wants: Kind | None, variables: Mapping[str, Kind]):
        self.text = text
        """As the author wrote it."""
        self.kind: Kind = kind
        """What it comes to, as far as the check could tell."""
        self.wants = wants
        """What its place asks for; None for anything."""
        self.mentions: tuple[Mention, ...] = mentions(runnable, variables)
        self._runnable = runnable
        self._kinds = {name: variables[name] for name in {mention.variable for mention in self.mentions}}
        self._programs: dict[frozenset[str], Any] = {}

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, values: Mapping[str, Any]) -> Result:
        """Return what the expression comes to; `values` maps variable names to plain values, absent means unknown."""
        data = {name: to_engine(values.get(name), kind) for name, kind in self._kinds.items()}
        inputs = {mention.label: self._shown(mention, values, data) for mention in self.mentions}
        try:
            answer = self._program(data).eval(data=data)
            failed = answer.type().name() == "ERROR"
            value = answer.value() if failed else from_engine(answer.plain_value())
        except (RuntimeError, ValueError, OverflowError) as error:  # the engine's limits come as exceptions
            failed, value = True, str(error)
        if failed:
            return Result(None, _why_unknown(inputs, str(value)), inputs)
        if self.wants == "boolean" and not isinstance(value, bool):
            reason = _why_unknown(inputs, "") if value is None else f"it came to {value!r}, not to true or false"
            return Result(None, reason, inputs)
        return Result(value, "", inputs)

    def _shown(self, mention: Mention, values: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
        if self._kinds[mention.variable] == "number":
            return values.get(mention.variable)  # 3 stays 3 for the reader, though the engine was given 3.0
        return from_engine(_dig(data[mention.variable], mention.keys))

    def _program(self, data: Mapping[str, Any]) -> Any:
        # The engine takes an instant only for a variable declared as one, and None only for one that is not.
        known = frozenset(name for name, value in data.items() if isinstance(value, datetime))
        if known not in self._programs:
            types = {name: cel.Type.TIMESTAMP if name in known else cel.Type.DYN for name in data}
            self._programs[known] = cel.NewEnv(variables=types, extensions=_EXTENSIONS).compile(self._runnable)
        return self._programs[known]


class Environment:
    """The variables that expressions of one place may name, by dotted name, such as `contact.email`."""

    def __init__(self, variables: Mapping[str, Kind]):
        self.variables: Mapping[str, Kind] = MappingProxyType(dict(variables))
        self._strict = _checking(self.variables)
        self._lenient = _checking(
            {name: "any" if kind in ("integer", "number") else kind for name, kind in variables.items()}
        )

    def compile(self, text: str, *, wants: Kind | None = None, path: str = "expression") -> Expression:
        """Return a checked expression.

        Raises Invalid with everything that is wrong.
        """
        expression, problems = self.check(text, wants=wants, path=path)
        if expression is None:
            raise Invalid(*problems)
        return expression

    def check(
        self, text: str, *, wants: Kind | None = None, path: str = "expression"
    ) -> tuple[Expression | None, tuple[Violation, ...]]:
        """Return the expression, or everything that is wrong with it; `path` says where it stands."""
        if refused := _refusal(text, path):
            return None, (refused,)
        rewritten = rewrite_presence(text, self.variables)
        type_name, found = self._type_of(rewritten.text)
        if found:
            return None, tuple(violation(found_one, text, rewritten, self.variables, path) for found_one in found)
        kind = _kind(type_name)
        if wants is not None and not fits(kind, wants):
            message = f"this comes to {spoken(kind)}, but {spoken(wants)} is needed here"
            hint = "Write a condition, such as a comparison with ==." if wants == "boolean" else ""
            return None, (Violation(path, "EXPRESSION_TYPE", message, hint),)
        expression = Expression(text, rewritten.text, kind, wants, self.variables)
        expression.evaluate({})  # compiles the runnable form, so that the first enrollment does not
        return expression, ()

    def _type_of(self, text: str) -> tuple[str, tuple[Complaint, ...]]:
        name, found = _attempt(self._strict, text)
        serious = tuple(complaint for complaint in found if not MIXED_NUMBERS.search(complaint.message))
        if found and not serious:
            # Comparing a whole with a decimal number is fine when it runs; only the checker is too strict.
            return _attempt(self._lenient, text)
        return name, serious


def _checking(variables: Mapping[str, Kind]) -> Any:
    return cel.NewEnv(variables={name: _CHECKED[kind] for name, kind in variables.items()}, extensions=_EXTENSIONS)


def _attempt(environment: Any, text: str) -> tuple[str, tuple[Complaint, ...]]:
    try:
        return environment.compile(text).return_type().name(), ()
    except (RuntimeError, ValueError) as error:
        return "", complaints(str(error))


def _refusal(text: str, path: str) -> Violation | None:
    if not text.strip():
        return Violation(path, "EXPRESSION_EMPTY", "the expression is empty", 'Write CEL, such as lead.tier == "A".')
    if len(text) > LONGEST_TEXT:
        message = f"the expression has {len(text):,} characters; at most {LONGEST_TEXT:,} are allowed"
        return Violation(path, "EXPRESSION_TOO_LONG", message, "Split it over several branch steps.")
    if deepest_macro(text) > DEEPEST_MACRO:
        message = f"loops over lists are nested deeper than {DEEPEST_MACRO}"
        return Violation(path, "EXPRESSION_TOO_DEEP", message, "Split it over several branch steps.")
    return None


def _kind(type_name: str) -> Kind:
    if type_name.startswith("LIST"):
        return "list"
    if type_name.startswith("MAP"):
        return "map"
    return _RESULTS.get(type_name, "any")


def fits(kind: Kind, wants: Kind) -> bool:
    """Tell whether an expression of one kind may stand where another is wanted."""
    same = {("integer", "number"), ("string", "reference"), ("string", "date"), ("string", "instant")}
    same.add(("instant", "date"))
    return wants == "any" or kind in ("any", wants) or (kind, wants) in same


def spoken(kind: Kind) -> str:
    """Return a kind as it stands in a sentence."""
    words = {"boolean": "true or false", "any": "anything", "map": "a map", "list": "a list"}
    return words.get(kind) or f"{'an' if kind[0] in 'ai' else 'a'} {kind}"


def to_engine(value: Any, kind: Kind = "any") -> Any:
    """Return a plain value as the engine takes it: dates and instants as aware datetimes, maps as plain dicts."""
    match kind:
        case "instant" | "date":
            return as_instant(value)
        case "number" if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        case "integer" if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_INTEGER:
            return int(value)
        case "map" if value is None:
            return {}
        case _:
            return _plain(value)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str() | float():
            return value
        case int():
            return value if -_LARGEST_INTEGER <= value < _LARGEST_INTEGER else float(value)
        case datetime() | date():
            return value.isoformat()
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return str(value)


def as_instant(value: Any) -> datetime | None:
    """Return an ISO 8601 text, a date or a datetime as an instant in UTC; None when it is none of them."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        return None


def from_engine(value: Any) -> Any:
    """Return a value of the engine as JSON has it: instants as ISO 8601 text, lengths of time in seconds."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray():
            return storable_text(bytes(value).decode(errors="replace"))
        case dict():
            return {storable_text(str(key)): from_engine(item) for key, item in value.items()}
        case list():
            return [from_engine(item) for item in value]
        case str():
            return storable_text(value)
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int():
            return value
        case _:
            return storable_text(str(value))


def storable_text(text: str) -> str:
    """Return a text as every database keeps it: without NUL and without halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode(errors="ignore").decode()


def storable(value: Any) -> Any:
    """Return plain data as every database keeps it: storable texts and keys, None for a number that is not finite."""
    match value:
        case str():
            return storable_text(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {storable_text(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value


def _dig(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _why_unknown(inputs: Mapping[str, Any], error: str) -> str:
    missing = [label for label, value in inputs.items() if value is None]
    if missing:
        names = missing[0] if len(missing) == 1 else ", ".join(missing[:-1]) + " and " + missing[-1]
        return f"{names} {'is' if len(missing) == 1 else 'are'} not known"
    if "divide by zero" in error:
        return "it divides by zero"
    if "Iteration budget" in error:
        return "it runs over too many list items"
    if "No matching overload" in error:
        return "its values are not of the kinds it compares"
    told = storable_text(error.partition(": ")[2][:100])  # the engine quotes keys and values
    return "it could not be evaluated" + (f" ({told})" if ": " in error else "")

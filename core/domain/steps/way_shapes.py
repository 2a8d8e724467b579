"""The shapes of settings that give a step its ways out: cases of a branch, shares of a split, events of a wait."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.steps.shapes import IDENTIFIER, Condition, EventName, Scope, Text, wrong_type
from core.domain.steps.unread import UNREAD
from core.domain.workflow import values
from core.domain.workflow.expressions import Expression
from core.domain.workflow.values import Value

ELSE = "else"
ERROR = "error"
"""The way that `on_error` leads when it names a step; no other way can be called like this."""
MATCHED = "matched"
TIMEOUT = "timeout"

MOST_CASES = 50
FEWEST_WAYS = 2
MOST_WAYS = 20
LARGEST_WEIGHT = 1_000_000
MOST_ALTERNATIVES = 20
LONGEST_FIELD = 100

_NAME_HINT = "Use lower-case letters, digits and underscores, a letter first."


def _name_schema(*reserved: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{IDENTIFIER}$", "not": {"enum": list(reserved)}}


def _check_name(name: Any, what: str, reserved: Mapping[str, str], scope: Scope, path: str) -> bool:
    """Report a name that no exit can have, and tell whether it can."""
    if not isinstance(name, str) or not re.fullmatch(IDENTIFIER, name):
        scope.add(path, "BAD_NAME", f"{what} needs a name", _NAME_HINT)
    elif name in reserved:
        scope.add(path, "RESERVED_NAME", f"{name} is {reserved[name]}", "Choose another name.")
    else:
        return True
    return False


def _unknown_keys(raw: Mapping[str, Any], known: tuple[str, ...], what: str, scope: Scope, path: str) -> None:
    for key in raw:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"It has {', '.join(known)}."
            scope.add(f"{path}.{key}", "UNKNOWN_KEY", f"{what} has no {key}", hint)


@frozen
class Case:
    """One way of a branch."""

    name: str
    when: Expression


@frozen
class Cases:
    """The ways of a branch: each a name and a condition."""

    hint: str = "Write a list such as [{name: hot, when: 'lead.tier == \"A\"'}]."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        item = {
            "type": "object",
            "properties": {
                "name": {**_name_schema(ELSE, ERROR), "description": "Name of the case, and of its exit."},
                "when": {
                    **Condition().schema(),
                    "description": "What must hold for it; the first case that does wins.",
                },
            },
            "required": ["name", "when"],
            "additionalProperties": False,
        }
        return {"type": "array", "minItems": 1, "maxItems": MOST_CASES, "items": item}

    def read(self, raw: Any, scope: Scope, path: str) -> Any:
        """Return the cases, or report what is wrong; a condition at fault leaves a case its name."""
        if not isinstance(raw, list):
            wrong_type(raw, "a list of cases", self, scope, path)
            return UNREAD
        if not 1 <= len(raw) <= MOST_CASES:
            scope.add(path, "WRONG_COUNT", f"there are {len(raw)} cases; 1 to {MOST_CASES} are allowed", self.hint)
        names: set[str] = set()
        cases = [self._case(item, names, scope, f"{path}[{index}]") for index, item in enumerate(raw[:MOST_CASES])]
        return tuple(case for case in cases if case is not None) if all(cases) else UNREAD

    def _case(self, raw: Any, names: set[str], scope: Scope, path: str) -> Case | None:
        if not isinstance(raw, Mapping):
            wrong_type(raw, "a case with name and when", self, scope, path)
            return None
        _unknown_keys(raw, ("name", "when"), "a case", scope, path)
        name, when = raw.get("name"), None
        reserved = {ELSE: "the way when no case holds", ERROR: "the way of on_error"}
        named = _check_name(name, "a case", reserved, scope, f"{path}.name")
        if named and name in names:
            scope.add(f"{path}.name", "DUPLICATE_NAME", f"there is a case {name} already", "Choose another name.")
        names.add(str(name))
        if raw.get("when") is None:
            scope.add(f"{path}.when", "MISSING_KEY", "a case needs when", Condition().hint)
        else:
            when = Condition().read(raw["when"], scope, f"{path}.when")
        return Case(str(name), UNREAD if when is None else when) if named else None


@frozen
class Way:
    """One way of a split."""

    name: str
    weight: float


@frozen
class Ways:
    """The ways of a split: a map of names to weights, in the order of their names, since maps have none."""

    hint: str = "Write names and weights, such as {a: 50, b: 50}."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        weight = {"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST_WEIGHT}
        return {
            "type": "object",
            "minProperties": FEWEST_WAYS,
            "maxProperties": MOST_WAYS,
            "propertyNames": _name_schema(ERROR),
            "additionalProperties": weight,
        }

    def read(self, raw: Any, scope: Scope, path: str) -> Any:
        """Return the ways, or report what is wrong; a weight at fault leaves a way its name."""
        if not isinstance(raw, Mapping):
            wrong_type(raw, "a map of names to weights", self, scope, path)
            return UNREAD
        if not FEWEST_WAYS <= len(raw) <= MOST_WAYS:
            message = f"there are {len(raw)} ways; {FEWEST_WAYS} to {MOST_WAYS} are allowed"
            scope.add(path, "WRONG_COUNT", message, self.hint)
        ways, unnamed = [], False
        for name, weight in list(raw.items())[:MOST_WAYS]:
            place = f"{path}.{name}"
            named = _check_name(name, "a way", {ERROR: "the way of on_error"}, scope, place)
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not (math.isfinite(weight) and 0 < weight <= LARGEST_WEIGHT):
                message = f"a weight is a number above 0, up to {LARGEST_WEIGHT:,}"
                scope.add(place, "BAD_WEIGHT", message, self.hint)
            unnamed = unnamed or not named
            ways.append(Way(str(name), weight))
        return UNREAD if unnamed else tuple(sorted(ways, key=lambda way: way.name))


@frozen
class Alternative:
    """An event that ends a wait, and the exit it leads to."""

    event: str
    when: Expression | None = None
    exit: str = MATCHED


@frozen
class Alternatives:
    """Several events of which the first one that fits ends a wait."""

    hint: str = "Write a list such as [{event: reply.received, exit: replied}, {event: meeting.booked, exit: booked}]."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        exit = {**_name_schema(TIMEOUT, ERROR), "description": "Name of the exit it leads to; matched by default."}
        item = {
            "type": "object",
            "properties": {
                "event": {**EventName().schema(), "description": "Name of the event."},
                "when": {**Condition().schema(), "description": "What must hold besides."},
                "exit": exit,
            },
            "required": ["event"],
            "additionalProperties": False,
        }
        return {"type": "array", "minItems": 1, "maxItems": MOST_ALTERNATIVES, "items": item}

    def read(self, raw: Any, scope: Scope, path: str) -> Any:
        """Return the alternatives, or report what is wrong; one at fault keeps its exit where that can be read."""
        if not isinstance(raw, list):
            wrong_type(raw, "a list of events", self, scope, path)
            return UNREAD
        if not 1 <= len(raw) <= MOST_ALTERNATIVES:
            message = f"there are {len(raw)} events; 1 to {MOST_ALTERNATIVES} are allowed"
            scope.add(path, "WRONG_COUNT", message, self.hint)
        items = enumerate(raw[:MOST_ALTERNATIVES])
        found = [self._read_one(item, scope, f"{path}[{index}]") for index, item in items]
        return tuple(one for one in found if one is not None) if all(found) else UNREAD

    def _read_one(self, raw: Any, scope: Scope, path: str) -> Alternative | None:
        if not isinstance(raw, Mapping):
            wrong_type(raw, "an event with when and exit", self, scope, path)
            return None
        _unknown_keys(raw, ("event", "when", "exit"), "an alternative", scope, path)
        event: str = UNREAD
        if raw.get("event") is None:
            scope.add(f"{path}.event", "MISSING_KEY", "an alternative needs event", EventName().hint)
        else:
            event = EventName().read(raw["event"], scope, f"{path}.event")
        when = Condition().read(raw["when"], scope, f"{path}.when") if raw.get("when") is not None else None
        exit = MATCHED if raw.get("exit") is None else raw["exit"]
        reserved = {TIMEOUT: "the way when nothing came", ERROR: "the way of on_error"}
        named = _check_name(exit, "an exit", reserved, scope, f"{path}.exit")
        return Alternative(event, when, exit) if named else None


@frozen
class Correlation:
    """A field of an event, and the value by which it is known whose event it is."""

    field: str
    value: Value


@frozen
class Match:
    """One field of the event and the value it must have."""

    hint: str = "Write one field of the event and its value, such as {order_id: {cel: vars.order_id}}."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        name = {"type": "string", "minLength": 1, "maxLength": LONGEST_FIELD, "pattern": r"\S"}
        value = {"anyOf": [{"type": ["string", "number", "boolean"]}, dict(values.CEL_SCHEMA)]}
        return {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "propertyNames": name,
            "additionalProperties": value,
        }

    def read(self, raw: Any, scope: Scope, path: str) -> Correlation | None:
        """Return the field and its value, or report what is wrong."""
        if not isinstance(raw, Mapping):
            wrong_type(raw, "a map of one field to its value", self, scope, path)
            return None
        if len(raw) != 1:
            scope.add(path, "WRONG_COUNT", f"this names {len(raw)} fields; it takes one", self.hint)
            return None
        ((name, item),) = raw.items()
        field = Text(LONGEST_FIELD).read(name, scope, path)
        if item is None or isinstance(item, list) or (isinstance(item, Mapping) and set(item) != {"cel"}):
            wrong_type(item, "a text, a number, or {cel: …}", self, scope, f"{path}.{name}")
            return None
        value, problems = values.check(item, scope.environment, f"{path}.{name}")
        scope.problems.extend(problems)
        return Correlation(field, value) if value is not None else None

"""Conditions and computed values in CEL: checked against declared variables, then run on plain values.

This is the one module that knows the CEL engine. The engine wants two environments: to check, a variable is declared
with its nullable type; to run, it is declared as anything, because only then does the engine take None for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, Literal

from cel_expr_python import cel

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.workflow.expression_cost import Size, TooMuchWork, check_work, decides, light, measure, usual
from core.domain.workflow.expression_errors import MIXED_NUMBERS, Complaint, complaints, violation
from core.domain.workflow.expression_failures import is_want, why_broken, why_unknown
from core.domain.workflow.expression_functions import EXTENSIONS
from core.domain.workflow.expression_shortcut import Unsure, shortcut
from core.domain.workflow.expression_text import Mention, deepest_macro, rewrite_presence, roots
from core.domain.workflow.expression_tree import Tree, calls, read_mentions, read_tree
from core.domain.workflow.expression_values import (
    LARGEST_INPUT,
    TooLarge,
    converter,
    dig,
    from_engine,
    result_of,
    weight,
)
from core.domain.workflow.pattern_cost import MOST_STATES, states

Kind = Literal["string", "integer", "number", "boolean", "instant", "date", "reference", "map", "list", "any"]
"""What a variable holds; the field kinds of records, and the three shapes that only expressions know."""

LONGEST_TEXT = 2_000
DEEPEST_MACRO = 2

_MOST_LIGHT_VALUES = 1_000
"""Values that an expression which only looks may look at without being weighed."""
_MOST_KEPT = 64
"""Compiled forms and verdicts an expression keeps."""
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


@frozen
class Result:
    """What an expression came to."""

    value: Any
    """The value; None when it is unknown."""
    unknown: str = ""
    """Why there is no value, as a clause such as `contact.score is not known`; empty when there is one."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Each value it looked at, by path; None where it was not known."""
    broke: bool = False
    """There is no value because it cannot be computed from what is known, not because something is not known."""

    @property
    def holds(self) -> bool:
        """Tell whether a condition is satisfied; an unknown one is not."""
        return self.value is True


class Expression:
    """A checked expression."""

    __slots__ = (
        *("_afford", "_decides", "_instants", "_is_light", "_light", "_programs", "_reads", "_runnable", "_short"),
        *("_shown", "_tree", "_weighed", "kind", "mentions", "roots", "text", "wants"),
    )

    def __init__(
        self, text: str, runnable: str, kind: Kind, wants: Kind | None, variables: Mapping[str, Kind], tree: Tree
    ):
        self.text = text
        """As the author wrote it."""
        self.kind: Kind = kind
        """What it comes to, as far as the check could tell."""
        self.wants = wants
        """What its place asks for; None for anything."""
        self.mentions: tuple[Mention, ...] = read_mentions(tree, frozenset(variables))
        self.roots = roots(self.mentions)
        """What must be loaded for it: `contact`, `company`, `lists` and the like."""
        kinds = {mention.variable: variables[mention.variable] for mention in self.mentions}
        self._runnable = runnable
        self._tree = tree
        self._reads = tuple((name, converter(kind, _keys(name, self.mentions))) for name, kind in kinds.items())
        self._shown = tuple(
            (mention.label, mention.variable, mention.keys, kinds[mention.variable]) for mention in self.mentions
        )
        self._instants = tuple(name for name, kind in kinds.items() if kind in ("instant", "date"))
        self._weighed = tuple(name for name, kind in kinds.items() if kind in ("map", "list", "any"))
        self._light = light(tree, kinds)
        self._is_light = self._light and not self._weighed  # whatever the values
        self._decides = decides(tree)
        self._short = shortcut(tree, frozenset(kinds))
        self._afford: dict[tuple[Size, ...], bool] = {}
        self._programs: dict[tuple[bool, ...], Any] = {}

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @property
    def tree(self) -> Tree:
        """Return what it is made of."""
        return self._tree

    def evaluate(self, values: Mapping[str, Any]) -> Result:
        """Return what the expression comes to; `values` maps variable names to plain values, absent means unknown."""
        given: dict[str, Any] = {}
        data: dict[str, Any] = {}
        try:
            for name, convert in self._reads:
                given[name] = value = values.get(name)
                data[name] = convert(value)
        except TooLarge:
            return Result(None, f"{name} holds more than {LARGEST_INPUT:,} values", {}, True)
        inputs = {
            label: _shown(given[variable] if kind == "number" else data[variable], keys)
            for label, variable, keys, kind in self._shown
        }
        if not self._is_light and not self._affordable(data):
            return Result(None, "it would take too long on values of this size", inputs, True)
        try:
            value = self._worked_out(data)
        except (RuntimeError, ValueError, OverflowError, RecursionError) as error:  # its limits come as exceptions
            return _without_value(inputs, str(error))
        if self.wants == "boolean" and not isinstance(value, bool):
            if value is None:
                return Result(None, why_unknown(inputs, ""), inputs)
            return Result(None, f"it came to {value!r}, not to true or false", inputs, True)
        return Result(value, "", inputs)

    def _worked_out(self, data: Mapping[str, Any]) -> Any:
        if self._short is None:
            return self._by_engine(data)
        try:
            return from_engine(self._short(data))
        except Unsure:
            return self._by_engine(data)

    def _by_engine(self, data: Mapping[str, Any]) -> Any:
        answer = self._program(data).eval(data=data)
        if self._decides and ((plain := answer.plain_value()) is True or plain is False):
            return plain
        return from_engine(result_of(answer))

    def _affordable(self, data: Mapping[str, Any]) -> bool:
        """Tell whether it is sure to end soon on these values."""
        if self._light and sum([weight(data[name]) for name in self._weighed]) <= _MOST_LIGHT_VALUES:
            return True
        sizes = {name: measure(value) for name, value in data.items()}
        rounded = {name: size.rounded() for name, size in sizes.items()}
        key = tuple(rounded.values())
        known = self._afford.get(key)
        if known is None:
            if len(self._afford) >= _MOST_KEPT:
                self._afford.clear()
            known = self._afford[key] = _within(self._tree, rounded)
        return known or _within(self._tree, sizes)

    def _program(self, data: Mapping[str, Any]) -> Any:
        # The engine takes an instant only for a variable declared as one, and None only for one that is not.
        known = tuple([data[name] is not None for name in self._instants])
        program = self._programs.get(known)
        if program is None:
            if len(self._programs) >= _MOST_KEPT:
                self._programs.clear()
            types = dict.fromkeys(data, cel.Type.DYN)
            types |= {name: cel.Type.TIMESTAMP for name in self._instants if data[name] is not None}
            program = cel.NewEnv(variables=types, extensions=EXTENSIONS).compile(self._runnable)
            self._programs[known] = program
        return program


def _keys(variable: str, mentioned: tuple[Mention, ...]) -> frozenset[str] | None:
    """Return the keys of a map that are looked up; None when the whole map is looked at."""
    of_it = [mention.keys for mention in mentioned if mention.variable == variable]
    return frozenset(keys[0] for keys in of_it) if all(of_it) else None


def _shown(value: Any, keys: tuple[str, ...]) -> Any:
    if keys:
        value = dig(value, keys)
    return value if value is None or type(value) in (bool, int) else from_engine(value)


def _within(tree: Tree, sizes: Mapping[str, Size]) -> bool:
    try:
        check_work(tree, sizes)
    except TooMuchWork:
        return False
    return True


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
        checked, found = self._checked(rewritten.text)
        if found:
            return None, tuple(violation(found_one, text, rewritten, self.variables, path) for found_one in found)
        kind = _kind(checked.return_type().name())
        if wants is not None and not fits(kind, wants):
            message = f"this comes to {spoken(kind)}, but {spoken(wants)} is needed here"
            hint = "Write a condition, such as a comparison with ==." if wants == "boolean" else ""
            return None, (Violation(path, "EXPRESSION_TYPE", message, hint),)
        try:
            tree = read_tree(checked.serialize())
            if problems := tuple(_senseless(tree, path)):
                return None, problems
            expression = Expression(text, rewritten.text, kind, wants, self.variables, tree)
            check_work(tree, {name: usual(self.variables[name]) for name in self.variables})
        except RecursionError:
            return None, (_too_deep(path),)
        except TooMuchWork:
            message = "this can take too long, or come to something too large, even on values of a usual size"
            return None, (Violation(path, "EXPRESSION_TOO_COSTLY", message, "Split it over several branch steps."),)
        expression.evaluate({})  # compiles the runnable form, so that the first enrollment does not
        return expression, ()

    def _checked(self, text: str) -> tuple[Any, tuple[Complaint, ...]]:
        checked, found = _attempt(self._strict, text)
        serious = tuple(complaint for complaint in found if not MIXED_NUMBERS.search(complaint.message))
        if found and not serious:
            # Comparing a whole with a decimal number is fine when it runs; only the checker is too strict.
            return _attempt(self._lenient, text)
        return checked, serious


def _checking(variables: Mapping[str, Kind]) -> Any:
    return cel.NewEnv(variables={name: _CHECKED[kind] for name, kind in variables.items()}, extensions=EXTENSIONS)


def _attempt(environment: Any, text: str) -> tuple[Any, tuple[Complaint, ...]]:
    try:
        return environment.compile(text), ()
    except (RuntimeError, ValueError) as error:
        return None, complaints(str(error))


_PROBE = cel.NewEnv(variables={"text": cel.Type.STRING}, extensions=EXTENSIONS)
_LITERALS = {
    "matches": (_PROBE.compile("''.matches(text)"), "a pattern", "Write a regular expression, such as '^[a-z]+$'."),
    "moment": (_PROBE.compile("moment(text)"), "a date", 'Write "2026-01-31", or "2026-01-31T00:00:00Z".'),
    "timestamp": (_PROBE.compile("timestamp(text)"), "an instant", 'Write "2026-01-31T00:00:00Z".'),
    "duration": (_PROBE.compile("duration(text)"), "a length of time", 'Write "72h", "30m" or "45s".'),
}


def _senseless(tree: Tree, path: str) -> Iterator[Violation]:
    """Yield what only the run would find: quoted arguments that mean nothing, and patterns that could be anything."""
    for call in calls(tree):
        if call.text not in _LITERALS:
            continue
        program, wanted, hint = _LITERALS[call.text]
        argument = call.parts[-1]
        if argument.kind == "text":
            shown = argument.text[:60]
            if call.text == "matches" and states(argument.text) > MOST_STATES:
                hint = "Repeat less in it: (a{30}){30} stands for 900 characters."
                yield Violation(path, "EXPRESSION_TOO_COSTLY", f"the pattern {shown} is too large", hint)
            elif program.eval(data={"text": argument.text}).type().name() == "ERROR":
                yield Violation(path, "EXPRESSION_BAD_LITERAL", f"{shown} is not {wanted}", hint)
        elif call.text == "matches":
            message = "the pattern of matches must be written out in quotes"
            yield Violation(path, "EXPRESSION_PATTERN", message, "Use contains, startsWith or == for a computed text.")


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


def _too_deep(path: str) -> Violation:
    message = "the expression is nested too deeply"
    return Violation(path, "EXPRESSION_TOO_DEEP", message, "Split it over several branch steps.")


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


def _without_value(inputs: Mapping[str, Any], error: str) -> Result:
    """Return a result that has none, and whether that is for want of what it looks at, or because it broke."""
    wants = is_want(error, any(value is None for value in inputs.values()))
    return Result(None, why_unknown(inputs, error) if wants else why_broken(error), inputs, not wants)

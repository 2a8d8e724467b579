"""Conditions of a scoring model: CEL read with three values, so that what is not known counts neither for nor against.

A workflow must go one way or the other, so there `contact.country != "DE"` is true of an unknown country. A score must
be able to say "not known": here every comparison with an unknown fact is unknown, and `&&`, `||` and `!` join what is
known and what is not as logic has it. `has(contact.country)` and `contact.country == null` are always known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.workflow.expression_text import mentions
from core.domain.workflow.expression_tree import Tree
from core.domain.workflow.expression_values import dig
from core.domain.workflow.expressions import Environment, Expression

_STRING = re.compile(
    r"\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|//[^\n]*", re.DOTALL
)
_PATH = r"[A-Za-z_][\w.]*"
_PRESENCE = re.compile(
    rf"(?<![\w.])has\s*\(\s*{_PATH}\s*\)|{_PATH}\s*[!=]=\s*null\b|\bnull\s*[!=]=\s*{_PATH}(?!\s*[\w.(])"
)
_PLAIN = frozenset({str, int, float, bool})
_MOST_KNOWN = 256
"""Verdicts that a condition keeps."""
_LONGEST_KNOWN = 200
"""Characters of a text by which a verdict is kept."""
_NEGATED = re.compile(rf"!\s*(?:\(|{_PATH}\s*(?:\(|$))")


@frozen
class Verdict:
    """What a condition came to."""

    value: bool | None
    """None when it cannot be told without the missing facts."""
    inputs: Mapping[str, Any]
    """Each value it looked at, by path; None where it was not known."""
    missing: tuple[str, ...] = ()
    """Paths of the facts without which it cannot be told; empty when it can."""


@frozen
class _Leaf:
    expression: Expression
    asked: frozenset[str]
    """Paths whose value it compares, not only whether there is one."""

    def evaluate(self, values: Mapping[str, Any]) -> bool | None:
        result = self.expression.evaluate(values)
        if result.unknown or any(result.inputs.get(path) is None for path in self.asked):
            return None
        return result.value is True

    def unknown(self, values: Mapping[str, Any]) -> list[str]:
        inputs = self.expression.evaluate(values).inputs
        return [path for path in inputs if path in self.asked and inputs[path] is None]


@frozen
class _Join:
    kind: Literal["and", "or", "not"]
    parts: tuple[_Leaf | _Join, ...]

    def evaluate(self, values: Mapping[str, Any]) -> bool | None:
        answers = [part.evaluate(values) for part in self.parts]
        if self.kind == "not":
            return None if answers[0] is None else not answers[0]
        decisive = self.kind == "or"
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive

    def unknown(self, values: Mapping[str, Any]) -> list[str]:
        open_parts = [part for part in self.parts if part.evaluate(values) is None]
        return [path for part in open_parts for path in part.unknown(values)]


@frozen
class Condition:
    """A checked condition."""

    text: str
    """As the author wrote it."""
    _whole: Expression
    _root: _Leaf | _Join
    _known: dict[Any, Verdict] = field(default_factory=dict, compare=False, repr=False)
    """Verdicts by what was looked at: most leads look alike to a condition."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the path of every value it looks at."""
        return tuple(mention.label for mention in self._whole.mentions)

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the variables that those belong to."""
        return tuple(mention.variable for mention in self._whole.mentions)

    def judge(self, values: Mapping[str, Any]) -> Verdict:
        """Return what it comes to; `values` maps variable names to plain values, absent means unknown."""
        key = self._key(values)
        if key is not None and (known := self._known.get(key)) is not None:
            return known
        inputs = self._whole.evaluate(values).inputs
        value = self._root.evaluate(values)
        missing = tuple(dict.fromkeys(self._root.unknown(values))) if value is None else ()
        verdict = Verdict(value, inputs, missing)
        if key is not None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = verdict
        return verdict

    @property
    def tree(self) -> Tree:
        """Return what it is made of."""
        return self._whole.tree

    def _key(self, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return what it looks at, or None where that is too much to compare; 1, 1.0 and true are three things."""
        key: list[Any] = []
        for mention in self._whole.mentions:
            value = values.get(mention.variable)
            if mention.keys and value is not None:
                value = dig(value, mention.keys)
            if value is not None and type(value) not in _PLAIN:
                return None
            if type(value) is str and len(value) > _LONGEST_KNOWN:
                return None
            key += (type(value), value)
        return tuple(key)


def check(text: str, environment: Environment, path: str) -> tuple[Condition | None, Sequence[Violation]]:
    """Return the condition, or everything that is wrong with it; `path` says where it stands."""
    whole, problems = environment.check(text, wants="boolean", path=path)
    if whole is None:
        return None, problems
    try:
        root = _tree(text, environment)
    except Invalid:  # a text this module cuts in the wrong place is taken as one comparison
        root = _leaf(text, whole)
    return Condition(text, whole, root), ()


def _leaf(text: str, expression: Expression) -> _Leaf:
    bare = _PRESENCE.sub(lambda found: " " * len(found.group()), text)
    kinds = {mention.variable: "any" for mention in expression.mentions}
    return _Leaf(expression, frozenset(mention.label for mention in mentions(bare, kinds)))


def _tree(text: str, environment: Environment) -> _Leaf | _Join:
    text = text.strip()
    blank = _blanked(text)
    if "?" not in _outermost(blank):
        for sign, kind in (("||", "or"), ("&&", "and")):
            parts = _split(text, blank, sign)
            if len(parts) > 1:
                return _Join("or" if kind == "or" else "and", tuple(_tree(part, environment) for part in parts))
        if _wrapped(blank):
            return _tree(text[1:-1], environment)
        if _NEGATED.match(blank) and (_wrapped(blank[1:].strip()) or not re.search(r"[=<>+*/%-]|\bin\b", blank)):
            return _Join("not", (_tree(text[1:], environment),))
    return _leaf(text, environment.compile(text, wants="boolean"))


def _blanked(text: str) -> str:
    """Return the text with strings and comments blanked out, at the same length."""
    return _STRING.sub(lambda found: " " * len(found.group()), text)


def _depths(blank: str) -> list[int]:
    depths, depth = [], 0
    for character in blank:
        depth -= character in ")]}"
        depths.append(depth)
        depth += character in "([{"
    return depths


def _outermost(blank: str) -> str:
    return "".join(character for character, depth in zip(blank, _depths(blank), strict=True) if depth == 0)


def _split(text: str, blank: str, sign: str) -> list[str]:
    depths = _depths(blank)
    parts, start = [], 0
    for found in re.finditer(re.escape(sign), blank):
        if depths[found.start()] == 0:
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]


def _wrapped(blank: str) -> bool:
    return blank.startswith("(") and all(depth > 0 for depth in _depths(blank)[1:-1]) and blank.endswith(")")

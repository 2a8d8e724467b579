"""Conditions over facts of which some cannot be known: whether they are false all the same.

A condition is taken apart at `&&` and `||`; a part that names nothing unknown is evaluated by itself. So
`principal.kind == "agent" && has(diff.owner_id)` is false of a member, whatever the call may change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from core.domain.errors import Invalid
from core.domain.workflow.expressions import Expression

_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "\"'"
_DEEPEST = 20
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_ODD = re.compile("//|''")
"""What is left where a text has a comment, or a string in three quotes, once strings are a mark each."""

Compile = Callable[[str], Expression]


def is_false(condition: str, values: Mapping[str, Any], compile_: Compile, depth: int = 0) -> bool:
    """Tell whether a condition is false whatever the variables are that `values` lacks."""
    if depth > _DEEPEST:
        return False
    if _ODD.search(_STRING.sub("'", condition)):  # brackets and operators may stand where they mean nothing
        return _atom_is_false(condition, values, compile_)
    text = _unwrapped(condition.strip())
    if _has_ternary(text):
        return _atom_is_false(text, values, compile_)
    either = _split(text, "||")
    if len(either) > 1:
        return all(is_false(part, values, compile_, depth + 1) for part in either)
    both = _split(text, "&&")
    if len(both) > 1:
        return any(is_false(part, values, compile_, depth + 1) for part in both)
    return _atom_is_false(text, values, compile_)


def _atom_is_false(text: str, values: Mapping[str, Any], compile_: Compile) -> bool:
    try:
        expression = compile_(text)
    except Invalid:  # taken apart where it should not be
        return False
    if any(mention.variable not in values for mention in expression.mentions):
        return False
    result = expression.evaluate(values)
    return not result.unknown and not result.holds


def _marks(text: str) -> list[tuple[int, str]]:
    """Return the characters that stand in no brackets and no quotes, with their places."""
    found: list[tuple[int, str]] = []
    depth, quote, place = 0, "", 0
    while place < len(text):
        character = text[place]
        if quote:
            if character == "\\":
                place += 1
            elif character == quote:
                quote = ""
        elif character in _QUOTES:
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif not depth:
            found.append((place, character))
        place += 1
    return found


def _has_ternary(text: str) -> bool:
    return any(character == "?" for _, character in _marks(text))


def _split(text: str, operator: str) -> list[str]:
    outside = dict(_marks(text))
    parts, start, place = [], 0, 0
    while place < len(text):
        if outside.get(place) == operator[0] and outside.get(place + 1) == operator[1]:
            parts.append(text[start:place])
            start = place = place + 2
        else:
            place += 1
    return [*parts, text[start:]]


def _unwrapped(text: str) -> str:
    """Return a text without the brackets that hold all of it."""
    while text.startswith("(") and text.endswith(")") and not _marks(text):
        text = text[1:-1].strip()
    return text

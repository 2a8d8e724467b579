"""Plain conditions and sums without the engine: the few forms that most expressions are made of, and nothing else.

The engine is given its values and gives back its answer through several layers, which takes ten times as long as to
compare two numbers. So what only compares, joins or sums up plain values is worked out here. Whatever is not of
that sort, by its form or by the values it meets, is the engine's: it alone knows of values that are not there, of sums
of mixed numbers, of overflows and of errors, and says what is wrong.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from core.domain.workflow.expression_tree import Tree

Work = Callable[[Mapping[str, Any]], Any]
"""Comes to a value, given the variables as the engine is given them. Raises Unsure."""

_PLAIN = frozenset({bool, int, float, str})
_ORDERED = frozenset({int, float, str})
_NUMBERS = frozenset({int, float})
_TEXT = frozenset({str})
_LARGEST_INTEGER = 2**63
_COMPARISONS: Mapping[str, tuple[Callable[[Any, Any], bool], frozenset[type]]] = {
    "_==_": (operator.eq, _PLAIN),
    "_!=_": (operator.ne, _PLAIN),
    "_<_": (operator.lt, _ORDERED),
    "_<=_": (operator.le, _ORDERED),
    "_>_": (operator.gt, _ORDERED),
    "_>=_": (operator.ge, _ORDERED),
    "startsWith": (str.startswith, _TEXT),
    "endsWith": (str.endswith, _TEXT),
    "contains": (operator.contains, _TEXT),
}
"""How two values of one type are compared, and the types that are."""
_SUMS: Mapping[str, Callable[[Any, Any], Any]] = {"_+_": operator.add, "_-_": operator.sub, "_*_": operator.mul}


_NULL = Tree("constant", "null")


class Unsure(Exception):
    """The engine must say what it comes to."""


def shortcut(tree: Tree, variables: Collection[str]) -> Work | None:
    """Return how an expression over these variables is worked out without the engine; None where that has to be asked.

    Whether it takes too long on large values has to be settled before.
    """
    match tree.kind:
        case "text":
            return _constant(tree.text)
        case "constant" if tree.value is not None:
            return _constant(tree.value)
        case "name" if tree.text in variables:
            return _variable(tree.text)
        case "select" | "present" if tree.parts[0].kind == "name" and tree.parts[0].text in variables:
            return (_entry if tree.kind == "select" else _has_entry)(tree.parts[0].text, tree.text)
        case "call" if tree.text == "@in" and tree.parts[1].kind == "list":
            sought = shortcut(tree.parts[0], variables)
            return None if sought is None else _one_of(sought, tree.parts[1].parts)
        case "call" if tree.text in ("_==_", "_!=_") and tree.parts[1] == _NULL:
            asked = tree.parts[0]
            is_name = asked.kind == "name" and asked.text in variables
            return _whether_known(asked.text, known=tree.text == "_!=_") if is_name else None
        case "call":
            parts = [work for part in tree.parts if (work := shortcut(part, variables)) is not None]
            return _call(tree.text, parts) if len(parts) == len(tree.parts) else None
        case _:
            return None


def _call(function: str, parts: list[Work]) -> Work | None:
    match function, parts:
        case "_&&_" | "_||_", [left, right]:
            return _joined(left, right, ends=function == "_||_")
        case "!_", [part]:
            return _opposite(part)
        case "_?_:_", [condition, this, other]:
            return lambda data: this(data) if _true(condition(data)) else other(data)
        case (("_+_" | "_-_" | "_*_"), [left, right]):
            return _summed(_SUMS[function], left, right)
        case _, [left, right] if function in _COMPARISONS:
            return _compared(*_COMPARISONS[function], left, right)
        case _:
            return None


def _constant(value: Any) -> Work:
    return lambda _data: value


def _variable(name: str) -> Work:
    def work(data: Mapping[str, Any]) -> Any:
        value = data[name]
        if type(value) in _PLAIN:
            return value
        raise Unsure

    return work


def _whether_known(name: str, *, known: bool) -> Work:
    def work(data: Mapping[str, Any]) -> bool:
        value = data[name]
        if value is None or type(value) in _PLAIN:
            return (value is not None) is known
        raise Unsure

    return work


def _entry(name: str, key: str) -> Work:
    def work(data: Mapping[str, Any]) -> Any:
        entries = data[name]
        if type(entries) is dict and type(value := entries.get(key)) in _PLAIN:
            return value
        raise Unsure

    return work


def _has_entry(name: str, key: str) -> Work:
    def work(data: Mapping[str, Any]) -> bool:
        entries = data[name]
        if type(entries) is dict:
            return key in entries
        raise Unsure

    return work


def _compared(how: Callable[[Any, Any], bool], kinds: frozenset[type], left: Work, right: Work) -> Work:
    def work(data: Mapping[str, Any]) -> bool:
        one, other = left(data), right(data)
        kind, another = type(one), type(other)
        if kind in kinds and (kind is another or (kind in _NUMBERS and another in _NUMBERS)):
            return how(one, other)
        raise Unsure

    return work


def _one_of(sought: Work, items: Iterable[Tree]) -> Work | None:
    listed = [item.text if item.kind == "text" else item.value for item in items]
    kinds = {type(item) for item in listed}
    if len(kinds) != 1 or not kinds <= {int, str}:
        return None
    (kind,), values = kinds, frozenset(listed)

    def work(data: Mapping[str, Any]) -> bool:
        value = sought(data)
        if type(value) is kind:
            return value in values
        raise Unsure

    return work


def _joined(left: Work, right: Work, *, ends: bool) -> Work:
    """Return the `and` or the `or` of two conditions; a first one that comes to `ends` settles it."""

    def work(data: Mapping[str, Any]) -> bool:
        return ends if _true(left(data)) is ends else _true(right(data))

    return work


def _opposite(part: Work) -> Work:
    return lambda data: not _true(part(data))


def _true(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise Unsure


def _summed(how: Callable[[Any, Any], Any], left: Work, right: Work) -> Work:
    def work(data: Mapping[str, Any]) -> int | float:
        one, other = left(data), right(data)
        if type(one) is type(other):
            if type(one) is float:
                return float(how(one, other))
            if type(one) is int and -_LARGEST_INTEGER <= (total := how(one, other)) < _LARGEST_INTEGER:
                return int(total)
        raise Unsure

    return work

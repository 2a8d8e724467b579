"""What a condition compares facts with: the values at which its answer can change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from core.domain.frozen import frozen
from core.domain.qualification.condition import Condition
from core.domain.workflow.expression_tree import Tree
from core.domain.workflow.expressions import Kind

OTHER = "other"
"""Stands for a text that no rule names."""

MOST_COMBINATIONS = 1_000

_COMPARING = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_JOINING = frozenset({"_&&_", "_||_", "!_", "_?_:_"})
_WITHIN = frozenset({"contains", "startsWith", "endsWith"})


@frozen
class Asked:
    """A fact and a value it is compared with."""

    path: str
    value: Any
    """None for whether there is any."""


def asked(tree: Tree) -> tuple[list[Asked], bool]:
    """Return what is compared with what, and whether that is everything the answer depends on."""
    found: list[Asked] = []
    whole = all([_read(part, found) for part in _leaves(tree)])
    return found, whole


def around(values: Sequence[Any], kind: Kind) -> list[Any]:
    """Return values at which comparisons with these can come out differently, each once."""
    numbers = sorted({value for value in values if isinstance(value, int | float) and not isinstance(value, bool)})
    found: list[Any] = []
    if kind in ("boolean", "any", "map") and any(isinstance(value, bool) for value in values):
        found += [True, False]
    for number in numbers:
        found += [number, number + 1, number - 1]
    if kind != "integer":
        found += [(low + high) / 2 for low, high in pairwise(numbers)]
    else:
        found = [int(number) if float(number).is_integer() else int(number // 1) for number in found]
    texts = [value for value in values if isinstance(value, str)]
    found += [*texts, *([OTHER] if texts else [])]
    if not found and any(value is None for value in values):
        found = [{"integer": 1, "number": 1, "boolean": True}.get(kind, OTHER)]
    kept: dict[tuple[type, Any], Any] = {(type(value), value): value for value in found}
    return list(kept.values())


def outcomes(condition: Condition, kinds: Mapping[str, Kind]) -> frozenset[bool | None] | None:
    """Return everything the condition can come to, whatever is known of whom; None where that cannot be told."""
    found, whole = asked(condition.tree)
    if not whole:
        return None
    by_path: dict[str, list[Any]] = {}
    for one in found:
        by_path.setdefault(one.path, []).append(one.value)
    choices = [[None, *around(values, kind_of(path, kinds))] for path, values in by_path.items()]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST_COMBINATIONS:
        return None
    return frozenset(
        condition.judge(_placed(dict(zip(by_path, some, strict=True)), kinds)).value for some in product(*choices)
    )


def kind_of(path: str, kinds: Mapping[str, Kind]) -> Kind:
    """Return what is kept at a path."""
    return kinds.get(path, "any")


def _placed(values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return values by variable: what is inside a map stands in that map."""
    placed: dict[str, Any] = {}
    for path, value in values.items():
        if path in kinds:
            placed[path] = value
        elif value is not None:
            keys = path.split(".")
            inner = placed.setdefault(".".join(keys[:2]), {})
            for key in keys[2:-1]:
                inner = inner.setdefault(key, {})
                if not isinstance(inner, dict):
                    inner = {}
            inner[keys[-1]] = value
    return placed


def _leaves(tree: Tree) -> Iterator[Tree]:
    if tree.kind == "call" and tree.text in _JOINING:
        for part in tree.parts:
            yield from _leaves(part)
    else:
        yield tree


def _read(leaf: Tree, found: list[Asked]) -> bool:
    """Note what one comparison asks, and tell whether it was understood whole."""
    if leaf.kind == "constant":
        return True
    if leaf.kind == "present":
        path = _path(leaf)
        found.append(Asked(path, None))
        return bool(path)
    if path := _path(leaf):
        found.append(Asked(path, True))
        return True
    if leaf.kind != "call" or len(leaf.parts) != 2:
        return False
    one, other = leaf.parts
    if leaf.text in _COMPARING:
        return _compared(one, other, found) or _compared(other, one, found)
    path = _path(one)
    if leaf.text == "@in" and path and other.kind == "list":
        literals = [_literal(part) for part in other.parts]
        found += [Asked(path, literal[0]) for literal in literals if literal]
        return all(literals)
    if leaf.text in _WITHIN and path and other.kind == "text":
        found.append(Asked(path, other.text))
    return False


def _compared(path_side: Tree, literal_side: Tree, found: list[Asked]) -> bool:
    path, literal = _path(path_side), _literal(literal_side)
    if not path or not literal:
        return False
    found.append(Asked(path, literal[0]))
    return True


def _literal(tree: Tree) -> tuple[Any, ...]:
    """Return the value of a literal in a tuple, empty for what is none."""
    if tree.kind == "text":
        return (tree.text,)
    return (tree.value,) if tree.kind == "constant" else ()


def _path(tree: Tree) -> str:
    """Return the path of a fact, empty for what is none."""
    keys: list[str] = []
    while tree.kind in ("select", "present"):
        keys.append(tree.text)
        tree = tree.parts[0]
    if tree.kind == "call" and tree.text == "_[_]" and tree.parts[1].kind == "text":
        return ".".join((_path(tree.parts[0]), tree.parts[1].text, *reversed(keys))) if _path(tree.parts[0]) else ""
    return ".".join((tree.text.removeprefix("."), *reversed(keys))) if tree.kind == "name" else ""

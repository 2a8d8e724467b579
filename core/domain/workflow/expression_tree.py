"""A checked CEL expression as a tree, read from the bytes in which the engine hands it over.

The engine has no other way to look into an expression than its serialised form (`cel.expr.CheckedExpr` of the CEL
specification). Only the few fields that are needed are read: what is called on what, and which variables are named.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import field
from typing import Literal

from core.domain.frozen import frozen
from core.domain.workflow.expression_text import Mention


@frozen
class Tree:
    """A part of an expression."""

    kind: Literal["text", "constant", "name", "select", "present", "call", "list", "map", "loop"]
    text: str = ""
    """A constant text, a name, a field, or the function that is called; `null` for the constant of that name."""
    parts: tuple[Tree, ...] = ()
    """What it is made of; of a loop its range, start, condition, step and result."""
    names: tuple[str, ...] = field(default=())
    """Of a loop: what it calls an item, and what it calls its intermediate result."""
    value: bool | float | None = None
    """A constant number or truth value."""


_Fields = dict[int, list[int | bytes]]


def read_tree(serialised: bytes) -> Tree:
    """Return the tree of a checked expression."""
    checked = _message(_message(serialised)[2][0])
    return _tree(checked[4][0])


def _tree(raw: int | bytes) -> Tree:
    node = _message(raw)
    if 3 in node:
        return _constant(_message(node[3][0]))
    if 4 in node:
        return Tree("name", _string(_message(node[4][0]), 1))
    if 5 in node:
        select = _message(node[5][0])
        return Tree("present" if select.get(3) else "select", _string(select, 2), (_tree(select[1][0]),))
    if 6 in node:
        call = _message(node[6][0])
        return Tree("call", _string(call, 2), tuple(map(_tree, (*call.get(1, ()), *call.get(3, ())))))
    if 7 in node:
        return Tree("list", parts=tuple(map(_tree, _message(node[7][0]).get(1, ()))))
    if 8 in node:
        entries = [_message(entry) for entry in _message(node[8][0]).get(2, ())]
        return Tree("map", parts=tuple(_tree(part) for entry in entries for at in (3, 4) for part in entry.get(at, ())))
    loop = _message(node[9][0])
    parts = tuple(_tree(loop[at][0]) for at in (2, 4, 5, 6, 7))
    return Tree("loop", parts=parts, names=(_string(loop, 1), _string(loop, 3)))


def _constant(raw: _Fields) -> Tree:
    if 6 in raw:
        return Tree("text", _text(raw[6][0]))
    value: bool | float | None = None
    if 2 in raw:
        value = bool(raw[2][0])
    elif 3 in raw and isinstance(number := raw[3][0], int):
        value = number - (1 << 64) if number >> 63 else number
    elif 5 in raw and isinstance(number := raw[5][0], bytes):
        value = struct.unpack("<d", number)[0]
    return Tree("constant", "null" if 1 in raw else "", value=value)


def read_mentions(tree: Tree, variables: frozenset[str]) -> tuple[Mention, ...]:
    """Return each declared value an expression looks at, in order, once."""
    found: dict[str, Mention] = {}
    for variable, keys in _paths(tree, variables, frozenset()):
        label = ".".join((variable, *keys))
        found.setdefault(label, Mention(label, variable, keys))
    return tuple(found.values())


def _paths(tree: Tree, variables: frozenset[str], local: frozenset[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    keys: list[str] = []
    inner = tree
    while True:  # down a chain of fields, to the name it begins with
        if inner.kind in ("select", "present"):
            keys.append(inner.text)
        elif inner.kind == "call" and inner.text == "_[_]" and inner.parts[1].kind == "text":
            keys.append(inner.parts[1].text)
        else:
            break
        inner = inner.parts[0]
    if inner.kind == "name":
        name = inner.text.removeprefix(".")
        if name in variables and inner.text not in local:
            yield name, tuple(reversed(keys))
        return
    if inner.kind == "loop":
        yield from _paths(inner.parts[0], variables, local)
        for part in inner.parts[1:]:
            yield from _paths(part, variables, local | set(inner.names))
        return
    for part in inner.parts:
        yield from _paths(part, variables, local)


def calls(tree: Tree) -> Iterator[Tree]:
    """Yield every call in it."""
    if tree.kind == "call":
        yield tree
    for part in tree.parts:
        yield from calls(part)


def _message(raw: int | bytes) -> _Fields:
    """Return the fields of a protocol-buffers message by number."""
    assert isinstance(raw, bytes)
    fields: _Fields = {}
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = _varint(raw, at)
            case 2:
                length, at = _varint(raw, at)
                value, at = raw[at : at + length], at + length
            case wire:
                length = 8 if wire == 1 else 4
                value, at = raw[at : at + length], at + length
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _string(message: _Fields, number: int) -> str:
    return _text(message[number][0]) if number in message else ""


def _text(raw: int | bytes) -> str:
    assert isinstance(raw, bytes)
    return raw.decode(errors="replace")

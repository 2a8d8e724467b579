"""Path templates and the tree of routes: literal segments first, so `step_types` is never taken for a workflow's id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from core.domain.frozen import frozen

T = TypeVar("T")

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)(?:=\*)?\}")
_LITERAL = re.compile(r"[A-Za-z0-9._~:-]+")


@frozen
class Template:
    """A path as the contract writes it, such as `/api/v1/webhooks/{endpoint.id}`."""

    text: str
    segments: tuple[str | None, ...]
    """Literal segments; None where a variable stands."""
    variables: tuple[str, ...]
    """Field paths of the variables, in order."""

    @classmethod
    def parse(cls, text: str) -> Template:
        """Return a template of literals and one-segment variables. Raises ValueError for any other form."""
        if not text.startswith("/"):
            raise ValueError(f"the path {text!r} does not start with /")
        segments: list[str | None] = []
        variables = []
        for segment in text[1:].split("/"):
            if variable := _VARIABLE.fullmatch(segment):
                segments.append(None)
                variables.append(variable[1])
            elif _LITERAL.fullmatch(segment):
                segments.append(segment)
            else:
                raise ValueError(f"the path {text!r} has a segment {segment!r} that is neither a word nor {{field}}")
        if len(set(variables)) < len(variables):
            raise ValueError(f"the path {text!r} names a field twice")
        return cls(text, tuple(segments), tuple(variables))

    @property
    def plain(self) -> str:
        """Return the path as OpenAPI writes it."""
        return _VARIABLE.sub(r"{\1}", self.text)


def field_at(descriptor: Descriptor, path: str) -> FieldDescriptor:
    """Return the text field that a path variable fills. Raises ValueError when the message has none."""
    *above, last = path.split(".")
    for name in above:
        found = descriptor.fields_by_name.get(name)
        if found is None or found.message_type is None or found.is_repeated:
            raise ValueError(f"{path} does not lead to a field of {descriptor.full_name}")
        descriptor = found.message_type
    leaf = descriptor.fields_by_name.get(last)
    if leaf is None or leaf.type != FieldDescriptor.TYPE_STRING or leaf.is_repeated:
        raise ValueError(f"{path} is not a text field of {descriptor.full_name}")
    return leaf


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[str, _Node[T]] = field(default_factory=dict)
    variable: _Node[T] | None = None
    leaves: dict[str, T] = field(default_factory=dict)


class Tree(Generic[T]):
    """The routes by path and verb."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, template: Template, verb: str, leaf: T) -> None:
        """Add a route. Raises ValueError when one with the same shape and verb is there."""
        node = self._root
        for segment in template.segments:
            if segment is None:
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, _Node())
        if verb in node.leaves:
            raise ValueError(f"{verb} {template.text} is routed twice")
        node.leaves[verb] = leaf

    def find(self, raw_path: bytes) -> list[tuple[dict[str, T], tuple[str, ...]]]:
        """Return what stands at a path, best match first: leaves by verb, and the values of the variables.

        Segments are told apart before they are unescaped, so an id may have an escaped slash.
        """
        if not raw_path.startswith(b"/"):
            return []
        try:
            segments = [unquote_to_bytes(segment).decode() for segment in raw_path[1:].split(b"/")]
        except UnicodeDecodeError:
            return []
        return [(node.leaves, values) for node, values in _reach(self._root, segments, ())]


def _reach(node: _Node[Any], segments: list[str], values: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    if not segments:
        if node.leaves:
            yield node, values
        return
    first, rest = segments[0], segments[1:]
    if (literal := node.literals.get(first)) is not None:
        yield from _reach(literal, rest, values)
    if node.variable is not None and first:
        yield from _reach(node.variable, rest, (*values, first))

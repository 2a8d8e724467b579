"""Escaping what a template's values bring along, for texts that are not HTML: JSON bodies, forms, URLs.

The engine escapes HTML by itself. For the rest every place that writes a value out gets its escape here, after its
filters and where it is really written: not inside `capture`, whose result is a value again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import quote

from liquid import RenderContext
from liquid.ast import Node
from liquid.builtin.output import OutputNode
from liquid.builtin.tags.capture_tag import CaptureNode
from liquid.builtin.tags.cycle_tag import CycleNode
from liquid.expression import Expression
from liquid.stringify import to_liquid_string

from core.domain.workflow.escapes import VALUE_BEGINS, VALUE_ENDS

_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON leaves as it is, and some take for the end of a line."""

_NO_CONTEXT = cast(RenderContext, None)  # only nodes that load other templates would look at it


def _json(text: str) -> str:
    return VALUE_BEGINS + json.dumps(text, ensure_ascii=False)[1:-1] + VALUE_ENDS


def _quoted(text: str) -> str:
    return _BREAKS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(text, ensure_ascii=False))


def _url(text: str) -> str:
    return quote(text, safe="", errors="ignore")


_ESCAPES: Mapping[str, Callable[[str], str]] = {"json": _json, "quoted": _quoted, "url": _url}


class _Escaped(Expression):
    """An expression whose value is written out escaped."""

    __slots__ = ("_escape", "_inner")

    def __init__(self, inner: Expression, escape: Callable[[str], str]):
        super().__init__(inner.token)
        self._inner = inner
        self._escape = escape

    def __str__(self) -> str:
        return str(self._inner)

    def evaluate(self, context: RenderContext) -> object:
        """Return the escaped text."""
        return self._escape(to_liquid_string(self._inner.evaluate(context), autoescape=False))

    def children(self) -> list[Expression]:
        """Return what it is made of."""
        return [self._inner]


def escape_outputs(nodes: list[Node], escape: str) -> None:
    """Make parsed nodes write their values escaped; an escape that the engine does itself, or none, changes nothing."""
    if escape in _ESCAPES:
        _escape(nodes, _ESCAPES[escape])


def _escape(nodes: list[Node], escape: Callable[[str], str]) -> None:
    for node in nodes:
        if isinstance(node, OutputNode):
            node.expression = _Escaped(node.expression, escape)
        elif isinstance(node, CycleNode):
            node.args = [_Escaped(argument, escape) for argument in node.args]
        elif not isinstance(node, CaptureNode):
            _escape(list(node.children(_NO_CONTEXT)), escape)

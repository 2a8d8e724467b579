"""Finishing a rendered JSON body: every value must stand inside quotes, or be a number, true, false or null."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from core.domain.workflow.escapes import VALUE_BEGINS, VALUE_ENDS

_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_TOKEN = re.compile(r"\\.|\"|\\\Z", re.DOTALL)


class BadBody(Exception):
    """A rendered body is not the JSON that its author meant; the text says why and quotes no value."""


def finished(text: str) -> str:
    """Return the body without the marks around its values.

    Raises BadBody where a value could change the body's structure, and where the whole is not JSON.
    """
    body = "".join(_pieces(text))
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadBody(f"the body is not JSON{place}") from None
    return body


def _pieces(text: str) -> Iterator[str]:
    literal, *rest = text.split(VALUE_BEGINS)
    inside = _after(literal, inside=False)
    yield literal
    for piece in rest:
        value, _, literal = piece.partition(VALUE_ENDS)
        if inside is None:
            raise BadBody("a value follows a backslash in the body")
        if not inside and not _SCALAR.fullmatch(value):
            raise BadBody("a value in the body stands outside quotes and is not a number, true, false or null")
        yield value
        inside = _after(literal, inside=inside)
        yield literal


def _after(literal: str, *, inside: bool) -> bool | None:
    """Tell whether a JSON string is open after a literal text; None in the middle of an escape."""
    for token in _TOKEN.finditer(literal):
        if token[0] == '"':
            inside = not inside
        elif token[0] == "\\":
            return None
    return inside

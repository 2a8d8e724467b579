"""What the answer to a call means, by the connection's own expressions over its status, headers and body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.workflow.expressions import Environment, Expression, Kind, Result
from core.domain.workflow.storable import storable
from core.domain.workflow.templates import one_line

VARIABLES: Mapping[str, Kind] = {"status": "integer", "headers": "map", "body": "any"}
"""What the expressions may look at."""

RETRYABLE = frozenset({408, 425, 429})
"""Statuses that may be tried again, beside 5xx, where the connection says nothing else."""

LONGEST_ERROR = 300
LONGEST_ID = 200

_ENVIRONMENT = Environment(VARIABLES)
_WANTED: Mapping[str, Kind] = {"sent": "boolean", "retryable": "boolean", "message_id": "any", "error": "any"}


@frozen
class ResultMapping:
    """The expressions; an empty one stands for the usual meaning."""

    sent: str = ""
    retryable: str = ""
    message_id: str = ""
    error: str = ""


@frozen
class Judgement:
    """What an answer came to."""

    sent: bool
    retryable: bool
    """Whether the same may be tried again; only where it was not sent."""
    provider_id: str
    error: str
    """Why it was not sent, in one line; empty where it was."""


def check(mapping: ResultMapping, at: str) -> list[Violation]:
    """Return everything that is wrong with the expressions; `at` says where they stand."""
    found: list[Violation] = []
    for one in fields(mapping):
        text = getattr(mapping, one.name)
        if text.strip():
            found += _ENVIRONMENT.check(text, wants=_WANTED[one.name], path=f"{at}.{one.name}")[1]
    return found


def reads_body(mapping: ResultMapping) -> bool:
    """Tell whether an expression looks into the body, which then must be JSON."""
    texts = [getattr(mapping, one.name) for one in fields(mapping)]
    compiled = [_compiled(text, "any") for text in texts if text.strip()]
    return any(one is not None and any(m.variable == "body" and m.keys for m in one.mentions) for one in compiled)


def read_body(text: str) -> Any:
    """Return a body as expressions see it: what its JSON says, else its text."""
    try:
        return storable(json.loads(text))
    except (ValueError, RecursionError):
        return text


def judge(mapping: ResultMapping, status: int, headers: Mapping[str, str], text: str) -> Judgement:
    """Return what a complete answer means; what cannot be told counts as not sent."""
    answer = {"status": status, "headers": dict(headers), "body": read_body(text)}
    usual = 200 <= status < 300
    told = _evaluated(mapping.sent, "boolean", answer)
    sent = usual if told is None else told.holds
    if sent:
        return Judgement(True, False, _text(_value(mapping.message_id, answer))[:LONGEST_ID], "")
    again = _evaluated(mapping.retryable, "boolean", answer)
    usually = status in RETRYABLE or status >= 500
    retryable = usually if again is None or again.value is None else again.holds
    error = one_line(_text(_value(mapping.error, answer)))[:LONGEST_ERROR]
    if not error:
        error = f"whether it was sent cannot be told: {told.unknown}" if told is not None and told.unknown else ""
    said = f"HTTP {status}"
    return Judgement(False, retryable, "", f"{said}: {error}" if error else said)


@lru_cache(maxsize=1_024)
def _compiled(text: str, wants: Kind) -> Expression | None:
    return _ENVIRONMENT.check(text, wants=wants, path="result")[0]


def _evaluated(text: str, wants: Kind, answer: Mapping[str, Any]) -> Result | None:
    """Return what an expression comes to; None where there is none, or none that can still be read."""
    compiled = _compiled(text, wants) if text.strip() else None
    return None if compiled is None else compiled.evaluate(answer)


def _value(text: str, answer: Mapping[str, Any]) -> Any:
    result = _evaluated(text, "any", answer)
    return None if result is None else result.value


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)

"""How a step stands in its document: its id, where its exits lead, and what happens when it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from core.domain.nearest import did_you_mean
from core.domain.steps import base
from core.domain.steps.shapes import IDENTIFIER, Duration, Scope
from core.domain.steps.unread import LookedIntoUnread
from core.domain.workflow.document import END
from core.domain.workflow.version import LONGEST_DELAY, OnError, Retry

MOST_ATTEMPTS = 20
_RETRY_KEYS = ("attempts", "delay", "factor")
_RETRY_HINT = "Write {attempts: 3, delay: 1m}, with factor: 2 for growing delays."


def step_ids(raw: list[Any], scope: Scope) -> list[str]:
    """Return the ids of all steps, in order; what cannot be one is reported."""
    ids: list[str] = []
    for index, item in enumerate(raw):
        path = f"steps[{index}].id"
        name = item.get("id") if isinstance(item, Mapping) else None
        if isinstance(item, Mapping):
            _check_id(name, ids, scope, path)
        ids.append(str(name))
    return ids


def _check_id(name: Any, before: list[str], scope: Scope, path: str) -> None:
    if not name:
        scope.add(path, "MISSING_KEY", "a step needs an id", "Name it, such as notify_owner.")
    elif not isinstance(name, str) or not re.fullmatch(IDENTIFIER, name):
        better = re.sub(r"[^a-z0-9_]+", "_", str(name).lower()).strip("_")[:63]
        hint = f"Use {better if re.fullmatch(IDENTIFIER, better) else 'lower-case letters, digits and underscores'}."
        scope.add(path, "BAD_ID", f"{str(name)[:60]} cannot be the id of a step: expressions have to name it", hint)
    elif name == END:
        scope.add(path, "RESERVED_NAME", f"{END} is where an enrollment completes", "Choose another id.")
    elif name in before:
        hint = "Every step needs an id of its own."
        scope.add(path, "DUPLICATE_ID", f"steps[{before.index(name)}] is called {name} already", hint)


def written_exits(item: Mapping[str, Any], scope: Scope, path: str) -> dict[str, str]:
    """Return the exits whose target the author wrote."""
    raw = item.get("exits")
    written: dict[str, str] = {}
    if raw is not None and not isinstance(raw, Mapping):
        scope.add(f"{path}.exits", "WRONG_TYPE", "this must be a map of exits to step ids", "Write {next: done}.")
        raw = None
    for name, target in (raw or {}).items():
        if isinstance(target, str) and target:
            written[str(name)] = target
        else:
            scope.add(f"{path}.exits.{name}", "WRONG_TYPE", "this must be a step's id", f"Name a step, or {END}.")
    following = item.get("next")
    if following is None:
        return written
    if not isinstance(following, str) or not following:
        scope.add(f"{path}.next", "WRONG_TYPE", "this must be a step's id", f"Name a step, or {END}.")
    elif written.get("next", following) != following:
        scope.add(f"{path}.next", "CONFLICT", "next and exits.next name different steps", "Keep one of them.")
    else:
        written["next"] = following
    return written


def exits_of(
    step: base.Step, written: Mapping[str, str], following: str, scope: Scope, path: str
) -> dict[str, str] | None:
    """Return where every exit leads that the step has as configured; None where what they are could not be read."""
    try:
        own, required = step.its_exits(), step.its_required_exits()
    except LookedIntoUnread:
        return None
    known = tuple(dict.fromkeys((*own, *step.optional_exits)))
    for name in written:
        if name not in known:
            place = f"{path}.exits.{name}"
            hint = did_you_mean(name, known) or (f"It has {', '.join(known)}." if known else "Remove it.")
            why = f"this {step.kind} step has no exit {name}"
            scope.add(place, "UNKNOWN_EXIT", why, hint)
    exits: dict[str, str] = {}
    for name in own:
        if name in required and name not in written:
            hint = f"Name a step, or {END}; it would lead to the following step otherwise."
            scope.add(f"{path}.exits.{name}", "MISSING_EXIT", f"say where {name} leads", hint)
        fallback = written.get(step.fallbacks.get(name, ""), following)
        exits[name] = written.get(name, fallback)
    return exits | {name: written[name] for name in step.optional_exits if name in written}


def retry_of(raw: Any, scope: Scope, path: str) -> Retry | None:
    """Return how a failed step is tried again, or report what is wrong."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        scope.add(path, "WRONG_TYPE", "this must be a map", _RETRY_HINT)
        return None
    for key in raw:
        if key not in _RETRY_KEYS:
            hint = did_you_mean(str(key), _RETRY_KEYS) or _RETRY_HINT
            scope.add(f"{path}.{key}", "UNKNOWN_KEY", f"retry has no {key}", hint)
    attempts, factor = raw.get("attempts"), raw.get("factor", 2)
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 2 <= attempts <= MOST_ATTEMPTS:
        message = f"attempts must be a number from 2 to {MOST_ATTEMPTS}: the tries in all"
        scope.add(f"{path}.attempts", "OUT_OF_RANGE", message, _RETRY_HINT)
        attempts = 2
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 1 <= factor <= 10:
        scope.add(f"{path}.factor", "OUT_OF_RANGE", "factor must be a number from 1 to 10", _RETRY_HINT)
        factor = 2
    if raw.get("delay") is None:
        return Retry(attempts, timedelta(minutes=1), float(factor))
    delay = Duration().read(raw["delay"], scope, f"{path}.delay")
    if delay > LONGEST_DELAY:
        message = f"{raw['delay']} is too long to wait for another try; {LONGEST_DELAY.days}d is the most"
        scope.add(f"{path}.delay", "OUT_OF_RANGE", message, _RETRY_HINT)
    return Retry(attempts, delay, float(factor))


def on_error_of(raw: Any, scope: Scope, path: str) -> tuple[OnError, str]:
    """Return what a step that failed for good leads to, and the step's id where it names one."""
    if raw is None or raw in ("fail", "continue"):
        return raw or "fail", ""
    if not isinstance(raw, str) or not raw:
        scope.add(path, "WRONG_TYPE", "this must be text", "Write fail, continue, or the id of a step.")
        return "fail", ""
    return "goto", raw


RETRY_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "How often a step that failed is tried again before on_error decides.",
    "properties": {
        "attempts": {"type": "integer", "minimum": 2, "maximum": MOST_ATTEMPTS, "description": "Tries in all."},
        "delay": {**Duration().schema(), "description": "Before the second try; 1m by default."},
        "factor": {"type": "number", "minimum": 1, "maximum": 10, "description": "Growth of the delay; 2 by default."},
    },
    "required": ["attempts"],
    "additionalProperties": False,
}
ON_ERROR_SCHEMA: Mapping[str, Any] = {
    "type": "string",
    "minLength": 1,
    "description": "What follows when it failed for good: fail (default), continue, or the id of a step.",
}

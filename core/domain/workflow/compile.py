"""From a document to a version that can run, or to everything that is wrong with it, all at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from core.domain import steps
from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.records.values import zone_names
from core.domain.steps import base
from core.domain.steps.shapes import IDENTIFIER, EventName, Lookups, Scope
from core.domain.workflow import graph
from core.domain.workflow.document import DOCUMENT_KEYS, END, REENTRY
from core.domain.workflow.expressions import Kind
from core.domain.workflow.templates import is_template
from core.domain.workflow.variables import step_environment, trigger_environment
from core.domain.workflow.version import Node, Reentry, Trigger, Version

MOST_STEPS = 200
MOST_TRIGGERS = 20
MOST_COMPUTED = 1_000
"""Expressions and templates in one workflow; checking one takes about half a millisecond."""
LONGEST_TITLE = 200
LONGEST_DESCRIPTION = 2_000

Problem = Violation


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of a document."""

    version: Version | None
    """None when something is wrong."""
    problems: tuple[Problem, ...]
    """Everything that is wrong, in document order."""


def compile_document(
    document: Mapping[str, Any], lookups: Lookups | None = None, *, workflow_id: str = "", number: int = 0
) -> Compiled:
    """Return the version that a document describes, or everything that is wrong with it."""
    lookups = lookups or Lookups()
    head = Scope(trigger_environment(), lookups)
    _check_head(document, head)
    triggers = _triggers(document.get("triggers"), head)
    body = Scope(step_environment(_outputs(document.get("steps"))), lookups)
    nodes = _steps(document.get("steps"), body)
    problems = sorted((*head.problems, *body.problems), key=lambda problem: _position(problem, list(document)))
    if problems:
        return Compiled(None, tuple(problems))
    version = Version(
        workflow_id,
        number,
        str(document.get("title") or ""),
        document,
        {node.id: node for node in nodes},
        nodes[0].id,
        triggers,
        cast(Reentry, document.get("reentry") or "once"),
        str(document.get("timezone") or ""),
    )
    return Compiled(version, ())


def _position(problem: Problem, keys: list[str]) -> tuple[int, int]:
    """Return where in the document a problem stands, for sorting."""
    found = re.match(r"([^.\[]*)(?:\[(\d+)\])?", problem.field)
    key, index = found.groups() if found else ("", None)
    return keys.index(key) if key in keys else len(keys), int(index or 0)


def _check_head(document: Mapping[str, Any], scope: Scope) -> None:
    for key in document:
        if key not in DOCUMENT_KEYS:
            hint = did_you_mean(key, DOCUMENT_KEYS) or f"A workflow has {', '.join(DOCUMENT_KEYS)}."
            scope.add(key, "UNKNOWN_KEY", f"a workflow has no {key}", hint)
    for key, longest in (("title", LONGEST_TITLE), ("description", LONGEST_DESCRIPTION)):
        text = document.get(key)
        if text is not None and not isinstance(text, str):
            scope.add(key, "WRONG_TYPE", "this must be text", "Put it in quotes.")
        elif text and len(text) > longest:
            scope.add(key, "TOO_LONG", f"this has {len(text):,} characters; at most {longest:,} are allowed")
    zone = document.get("timezone")
    if zone and (not isinstance(zone, str) or zone not in zone_names()):
        hint = did_you_mean(str(zone), zone_names()) or "Write an IANA name, such as Europe/Berlin."
        scope.add("timezone", "UNKNOWN_TIMEZONE", f"there is no time zone {str(zone)[:60]}", hint)
    reentry = document.get("reentry")
    if reentry and reentry not in REENTRY:
        hint = did_you_mean(str(reentry), REENTRY) or f"Use one of {', '.join(REENTRY)}."
        scope.add("reentry", "UNKNOWN_VALUE", f"there is no re-entry policy {str(reentry)[:40]}", hint)


def _triggers(raw: Any, scope: Scope) -> tuple[Trigger, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        scope.add("triggers", "WRONG_TYPE", "this must be a list", "Write triggers as a list of {event, when}.")
        return ()
    if len(raw) > MOST_TRIGGERS:
        scope.add("triggers", "TOO_MANY", f"there are {len(raw)} triggers; at most {MOST_TRIGGERS} are allowed")
    triggers = []
    for index, item in enumerate(raw[:MOST_TRIGGERS]):
        path = f"triggers[{index}]"
        if not isinstance(item, Mapping):
            scope.add(path, "WRONG_TYPE", "this must be a map", "Write {event: form.submitted}.")
            continue
        for key in item:
            if key not in ("event", "when"):
                hint = did_you_mean(key, ("event", "when")) or "A trigger has event and when."
                scope.add(f"{path}.{key}", "UNKNOWN_KEY", f"a trigger has no {key}", hint)
        triggers.append(_trigger(item, scope, path))
    return tuple(triggers)


def _trigger(item: Mapping[str, Any], scope: Scope, path: str) -> Trigger:
    if item.get("event") is None:
        scope.add(f"{path}.event", "MISSING_KEY", "a trigger needs event", EventName().hint)
    event = EventName().read(item["event"], scope, f"{path}.event") if item.get("event") is not None else ""
    when = item.get("when")
    if when is None or when == "":
        return Trigger(event)
    if not isinstance(when, str):
        scope.add(f"{path}.when", "WRONG_TYPE", "this must be a CEL expression in quotes", "Write when: '…'.")
        return Trigger(event)
    expression, problems = scope.environment.check(when, wants="boolean", path=f"{path}.when")
    scope.problems += problems
    return Trigger(event, expression)


def _outputs(raw: Any) -> dict[str, Mapping[str, Kind]]:
    """Return what each step leaves behind, as far as the document is well formed."""
    return {
        str(step.get("id")): steps.BY_NAME[step["kind"]].outputs
        for step in (raw if isinstance(raw, list) else ())
        if isinstance(step, Mapping) and isinstance(step.get("kind"), str) and step["kind"] in steps.BY_NAME
    }


def _steps(raw: Any, scope: Scope) -> list[Node]:
    if not isinstance(raw, list) or not raw:
        scope.add("steps", "MISSING_KEY", "a workflow needs steps", "Write steps as a list of {id, kind, …}.")
        return []
    if len(raw) > MOST_STEPS:
        scope.add("steps", "TOO_MANY", f"there are {len(raw)} steps; at most {MOST_STEPS} are allowed", "Split it.")
        return []
    if (computed := _count_computed(raw)) > MOST_COMPUTED:
        message = f"there are {computed:,} expressions and templates; at most {MOST_COMPUTED:,} are allowed"
        scope.add("steps", "TOO_MANY", message, "Split the workflow.")
        return []
    ids = _ids(raw, scope)
    nodes: list[Node] = []
    places: list[graph.Place] = []
    for index, item in enumerate(raw):
        path = f"steps[{index}]"
        if not isinstance(item, Mapping):
            scope.add(path, "WRONG_TYPE", "this must be a map", "Write {id: …, kind: …}.")
            continue
        following = ids[index + 1] if index + 1 < len(ids) else END
        written = _written_exits(item, scope, path)
        step = _step(item, scope, path)
        if step is None:
            places.append(graph.Place(path, ids[index], written, frozenset(written), True))
            continue
        exits = _exits(step, written, following, scope, path)
        nodes.append(Node(ids[index], _title(item, step), step, exits))
        places.append(graph.Place(path, ids[index], exits, frozenset(written), step.holds()))
    found = graph.problems(places, ids)
    complete = len(nodes) == len(raw)  # a step that could not be read hides where its exits lead
    scope.problems += [one for one in found if complete or one.reason == "UNKNOWN_TARGET"]
    return nodes


def _count_computed(raw: Any) -> int:
    match raw:
        case list():
            return sum(_count_computed(item) for item in raw)
        case Mapping():
            return sum(_count_computed(item) + (key in ("when", "cel")) for key, item in raw.items())
        case str():
            return int(is_template(raw))
        case _:
            return 0


def _title(item: Mapping[str, Any], step: base.Step) -> str:
    """Return how people call a step; where `title` is configuration, it says something else."""
    title = item.get("title")
    configured = any(setting.key == "title" for setting in base.settings(type(step)))
    return title if isinstance(title, str) and not configured else ""


def _ids(raw: list[Any], scope: Scope) -> list[str]:
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


def _written_exits(item: Mapping[str, Any], scope: Scope, path: str) -> dict[str, str]:
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


def _step(item: Mapping[str, Any], scope: Scope, path: str) -> base.Step | None:
    name = item.get("kind")
    kind = steps.BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None:
        reason = "UNKNOWN_KIND" if name else "MISSING_KEY"
        message = f"there is no step kind {str(name)[:40]}" if name else "a step needs a kind"
        hint = did_you_mean(str(name or ""), steps.BY_NAME) or f"The kinds are {', '.join(steps.BY_NAME)}."
        scope.add(f"{path}.kind", reason, message, hint)
        return None
    settings = {setting.key for setting in base.settings(kind)}
    title = item.get("title")
    if "title" not in settings and title is not None and (not isinstance(title, str) or len(title) > LONGEST_TITLE):
        scope.add(f"{path}.title", "WRONG_TYPE", f"this must be text of at most {LONGEST_TITLE} characters")
    common = {"id", "kind", "next", "exits", "title"} - settings
    config = {key: value for key, value in item.items() if key not in common}
    return base.read(kind, config, scope, path)


def _exits(step: base.Step, written: Mapping[str, str], following: str, scope: Scope, path: str) -> dict[str, str]:
    own = step.its_exits()
    for name in written:
        if name not in own:
            place = f"{path}.exits.{name}"
            hint = did_you_mean(name, own) or (f"It has {', '.join(own)}." if own else "Remove it.")
            why = f"this {step.kind} step has no exit {name}"
            scope.add(place, "UNKNOWN_EXIT", why, hint)
    exits: dict[str, str] = {}
    for name in own:
        if name in step.required_exits and name not in written:
            hint = f"Name a step, or {END}; it would lead to the following step otherwise."
            scope.add(f"{path}.exits.{name}", "MISSING_EXIT", f"say where {name} leads", hint)
        fallback = written.get(step.fallbacks.get(name, ""), following)
        exits[name] = written.get(name, fallback)
    return exits

"""From a document to a version that can run, or to everything that is wrong with it, all at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

from core.domain import steps
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.steps import base
from core.domain.steps.shapes import Lookups, Scope
from core.domain.steps.unread import LookedIntoUnread
from core.domain.workflow import graph, head, own_kinds
from core.domain.workflow.document import END, STEP_KEYS
from core.domain.workflow.expressions import Expression, Kind
from core.domain.workflow.record_changes import OF_CONTACT
from core.domain.workflow.remembered import remembered
from core.domain.workflow.templates import Template, is_template
from core.domain.workflow.trigger_kinds import RecordTrigger
from core.domain.workflow.triggers import read_triggers
from core.domain.workflow.variables import NO_RECORDS, step_environment, trigger_environment
from core.domain.workflow.version import Node, Version
from core.domain.workflow.wiring import exits_of, on_error_of, retry_of, step_ids, written_exits

MOST_STEPS = 200
MOST_COMPUTED = 1_000
"""Expressions and templates in one workflow; checking one takes about half a millisecond."""

Problem = Violation


@frozen
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
    own: Any = {"custom": lookups.custom}
    outer = Scope(trigger_environment(**own), lookups)
    head.check_texts(document, outer)
    names = head.declared(document, outer)
    declared: Any = {"variables": names.variables, "event_fields": names.event_fields}
    if declared["variables"] or declared["event_fields"]:
        outer.environment = trigger_environment(**declared, **own)
    calendars = head.calendars_of(document, outer)
    outer.calendars = calendars
    reentry, interval = head.reentry_of(document, outer)
    key = head.key_of(document, outer)
    admission = head.entry_of(document, outer)
    triggers = read_triggers(document.get("triggers"), outer)
    quiet_hours = head.quiet_hours_of(document, outer)
    caps = head.frequency_caps_of(document, outer)
    breaker = head.breaker_of(document, outer)
    head.check_gate(document, outer)
    inside = step_environment(_outputs(document.get("steps")), **declared, **own)
    body = Scope(inside, lookups, calendars=calendars, steps=_ids(document))
    rules = head.rules_of(document, body)
    nodes = _steps(document.get("steps"), body)
    problems = sorted((*outer.problems, *body.problems), key=lambda problem: _position(problem, list(document)))
    if problems:
        return Compiled(None, tuple(problems))
    mentioned = {
        mention.variable
        for computed in _computed((triggers, key, admission, rules, nodes))
        for mention in computed.mentions
    }
    needs = _needs(mentioned, nodes, bool(caps), bool(admission.suppress_lists))
    records = _records(mentioned, nodes)
    named = records | {one.record for one in triggers if isinstance(one, RecordTrigger)}
    version = Version(
        workflow_id,
        number,
        str(document.get("title") or ""),
        document,
        {node.id: node for node in nodes},
        nodes[0].id,
        triggers,
        reentry,
        str(document.get("timezone") or ""),
        interval,
        key,
        admission,
        rules,
        calendars,
        quiet_hours,
        caps,
        names.variables,
        breaker,
        needs if "opportunity" in records else needs - {"pipelines"},
        records,
        own_kinds.mentioned(own_kinds.of(lookups.custom), mentioned, named),
        remembered(nodes),
    )
    return Compiled(version, ())


def _needs(mentioned: Collection[str], nodes: list[Node], capped: bool, listed: bool) -> frozenset[str]:
    """Return what decisions read beyond contact and lead, so that only this is loaded."""
    needs = {"company"} if any(name.startswith("company.") for name in mentioned) else set()
    needs |= {need for node in nodes for need in node.step.needs()}
    if listed or "contact.lists" in mentioned:
        needs.add("lists")
    if capped:
        needs.add("sent")
    return frozenset(needs)


def _records(mentioned: Collection[str], nodes: list[Node]) -> frozenset[str]:
    """Return the types of records that are read beyond those that the contact has one of."""
    roots = {name.partition(".")[0] for name in mentioned} - NO_RECORDS
    return frozenset(roots | {name for node in nodes for name in node.step.records()}) - frozenset(OF_CONTACT)


def _computed(part: Any) -> Iterator[Expression | Template]:
    """Yield every expression and template in a tree of dataclasses, maps and lists."""
    if isinstance(part, Expression | Template):
        yield part
    elif isinstance(part, Mapping):
        for item in part.values():
            yield from _computed(item)
    elif isinstance(part, list | tuple):
        for item in part:
            yield from _computed(item)
    elif is_dataclass(part) and not isinstance(part, type):
        for one in fields(part):
            yield from _computed(getattr(part, one.name))


def _ids(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of the steps, as far as the document is well formed."""
    raw = document.get("steps")
    listed = raw if isinstance(raw, list) else ()
    return tuple(step["id"] for step in listed if isinstance(step, Mapping) and isinstance(step.get("id"), str))


def _position(problem: Problem, keys: list[str]) -> tuple[int, int]:
    """Return where in the document a problem stands, for sorting."""
    found = re.match(r"([^.\[]*)(?:\[(\d+)\])?", problem.field)
    key, index = found.groups() if found else ("", None)
    return keys.index(key) if key in keys else len(keys), int(index or 0)


def _outputs(raw: Any) -> dict[str, Mapping[str, Kind]]:
    """Return what each step leaves behind, as far as the document is well formed."""
    return {
        str(step.get("id")): steps.BY_NAME[step["kind"]].its_outputs(step)
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
    ids = step_ids(raw, scope)
    nodes: list[Node] = []
    places: list[graph.Place] = []
    for index, item in enumerate(raw):
        path, following = f"steps[{index}]", ids[index + 1] if index + 1 < len(ids) else END
        if not isinstance(item, Mapping):
            scope.add(path, "WRONG_TYPE", "this must be a map", "Write {id: …, kind: …}.")
            places.append(graph.Place(path, ids[index], {}, frozenset(), True, perhaps={"next": following}))
            continue
        node, place = _node(item, ids[index], following, scope, path)
        places.append(place)
        if node is not None:
            nodes.append(node)
    scope.problems.extend(graph.problems(places, ids))
    return nodes


def _node(
    item: Mapping[str, Any], step_id: str, following: str, scope: Scope, path: str
) -> tuple[Node | None, graph.Place]:
    written = written_exits(item, scope, path)
    retry = retry_of(item.get("retry"), scope, f"{path}.retry")
    on_error, target = on_error_of(item.get("on_error"), scope, f"{path}.on_error")
    to_error = {"error": target} if target else {}
    step = _step(item, scope, path)
    exits = None if step is None else exits_of(step, written, following, scope, path)
    if step is None or exits is None:
        known = written | to_error
        return None, graph.Place(path, step_id, known, frozenset(known), True, perhaps={"": following})
    exits |= to_error
    led = frozenset(name for name in exits if name in written or step.fallbacks.get(name) in written)
    node = Node(step_id, _title(item, step), step, exits, retry, on_error, led)
    hasty = {"fail": "", "continue": step.exit_undone(), "goto": "error"}[on_error]
    place = graph.Place(
        path,
        step_id,
        exits,
        frozenset(written | to_error),
        _holds(step),
        frozenset({hasty} if hasty else ()),
        written,
    )
    return node, place


def _holds(step: base.Step) -> bool:
    """Tell whether a step holds an enrollment; one of which that cannot be told is believed to."""
    with suppress(LookedIntoUnread):
        return bool(step.holds())
    return True


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
    longest = head.LONGEST_TITLE
    if "title" not in settings and title is not None and (not isinstance(title, str) or len(title) > longest):
        scope.add(f"{path}.title", "WRONG_TYPE", f"this must be text of at most {longest} characters", "Shorten it.")
    common = set(STEP_KEYS) - settings
    config = {key: value for key, value in item.items() if key not in common}
    return base.read(kind, config, scope, path)

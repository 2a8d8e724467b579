"""What a simulation assumes of everybody outside: approvers, receivers, agents, scoring models, other workflows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from datetime import timedelta
from typing import Any

from core.domain.articles import with_article
from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records.values import zone_names
from core.domain.steps.agent_task import AgentTask
from core.domain.steps.webhook import Webhook
from core.domain.workflow.json_schemas import JsonSchema
from core.domain.workflow.schema_complaints import complaints
from core.domain.workflow.time_notation import ZONE_HINT
from core.domain.workflow.version import Version
from core.simulation.script import ScriptedEvent, read_script
from core.simulation.spans import Span, read_length, read_share, read_span

NONE = "none"
"""Nobody ever answers."""

QUALIFIED_AS = ("decision", "score", "fit", "engagement", "tier", "owner")
"""What an assumed qualification may say."""

Kind = str


def _after(**length: float) -> Span:
    return Span(timedelta(**length), timedelta(**length))


@frozen
class Answers:
    """How questions of one kind are answered."""

    shares: tuple[tuple[str, float], ...]
    """Outcomes and how many of the questions come to them; the rest is never answered."""
    after: Span
    said: Mapping[str, Any] = field(default_factory=dict)
    """More of the answer, such as `output` of a task or `status_code` of a delivery."""

    def drawn(self, point: float) -> str:
        """Return the outcome at a point from 0 to 1; empty for none."""
        reach = 0.0
        for outcome, share in self.shares:
            reach += share
            if point < reach:
                return outcome
        return ""


@frozen
class Qualification:
    """What a scoring model is assumed to say of a share of the leads."""

    share: float
    outputs: Mapping[str, Any]


@frozen
class Assumptions:
    """Everything that is assumed; the defaults let everybody answer kindly and soon."""

    approvals: Answers = Answers((("approve", 1.0),), _after(hours=4))
    deliveries: Answers = Answers((("delivered", 1.0),), _after(seconds=1))
    messages: Answers = Answers((("sent", 1.0),), _after(seconds=1))
    tasks: Answers = Answers((("answered", 1.0),), _after(minutes=10))
    qualify: tuple[Qualification, ...] = ()
    """None: a lead that is scored already comes to the same again, and another one cannot be qualified."""
    owners: bool = True
    """Whoever is asked for gives an owner; False when nobody can own anything."""
    steps: Mapping[str, Answers | tuple[Qualification, ...]] = field(default_factory=dict)
    """Instead of the above, by step."""
    events: tuple[ScriptedEvent, ...] = ()
    """What comes in by chance, beside the script."""
    arrive_over: timedelta = timedelta()
    """How long it takes until all contacts have entered; at once by default."""
    organization_timezone: str = ""


_OUTCOMES: Mapping[str, tuple[str, ...]] = {
    "approvals": ("approve", "reject"),
    "deliveries": ("delivered", "failed"),
    "messages": ("sent", "failed"),
    "tasks": ("answered",),
}
_SAID: Mapping[str, tuple[str, ...]] = {
    "approvals": ("decider", "comment"),
    "deliveries": ("status_code", "answer", "outcome"),
    "messages": ("outcome",),
    "tasks": ("output", "agent"),
}
_OF_STEP = {"approval": "approvals", "webhook": "deliveries", "message": "messages", "agent_task": "tasks"}
_KEYS = (*_OUTCOMES, "qualify", "assign_owner", "steps", "events", "arrive_over", "organization_timezone")


def read_assumptions(raw: Any, version: Version | None = None, path: str = "assumptions") -> Assumptions:
    """Return assumptions from plain data; with a version, steps are checked against it.

    Raises Invalid with everything that is wrong.
    """
    if not isinstance(raw, Mapping):
        raise Invalid(Violation(path, "WRONG_TYPE", "this must be a map", "Write {approvals: {approve: 0.8}}."))
    problems: list[Violation] = []
    for key in raw:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS) or f"There are {', '.join(_KEYS)}."
            problems.append(Violation(f"{path}.{key}", "UNKNOWN_KEY", f"nothing is assumed of {key}", hint))
    usual = Assumptions()
    given: dict[str, Any] = {
        name: _answers(raw[name], name, getattr(usual, name), f"{path}.{name}", problems)
        for name in _OUTCOMES
        if raw.get(name) is not None
    }
    if raw.get("qualify") is not None:
        given["qualify"] = _qualifications(raw["qualify"], f"{path}.qualify", problems)
    if raw.get("assign_owner") is not None:
        given["owners"] = raw["assign_owner"] not in (NONE, False)
    if raw.get("arrive_over") is not None:
        given["arrive_over"] = read_length(raw["arrive_over"], f"{path}.arrive_over", problems)
    given["organization_timezone"] = _timezone(
        raw.get("organization_timezone"), f"{path}.organization_timezone", problems
    )
    merged = Assumptions(**given)
    steps = _steps(raw.get("steps"), merged, version, f"{path}.steps", problems)
    problems += _misfits(raw, merged, steps, version, path)
    try:
        events = read_script(raw["events"], f"{path}.events") if raw.get("events") is not None else ()
    except Invalid as error:
        events = ()
        problems += error.violations
    if problems:
        raise Invalid(*problems)
    kept = {one.name: getattr(merged, one.name) for one in fields(merged)}
    return Assumptions(**{**kept, "steps": steps, "events": events})


def schemas_of(version: Version) -> dict[str, JsonSchema]:
    """Return what answers must look like, by the step that asks for them."""
    found: dict[str, JsonSchema] = {}
    for node in version.steps.values():
        step = node.step
        schema = step.output_schema if isinstance(step, AgentTask) else None
        schema = step.answer_schema if isinstance(step, Webhook) else schema
        if schema is not None:
            found[node.id] = schema
    return found


def _misfits(
    raw: Mapping[str, Any], merged: Assumptions, steps: Mapping[str, Any], version: Version | None, path: str
) -> Iterator[Violation]:
    """Yield what assumed answers lack of what is asked for: such an answer would be refused, and change nothing."""
    for step_id, schema in schemas_of(version).items() if version is not None else ():
        kind = _OF_STEP[version.steps[step_id].step.kind] if version is not None else ""
        key = "output" if kind == "tasks" else "answer"
        said = steps.get(step_id, getattr(merged, kind)).said
        own = raw["steps"].get(step_id) if step_id in steps else None
        at = f"steps.{step_id}" if isinstance(own, Mapping) and key in own else kind
        if key in said:
            hint = f"Make it fit what {step_id} asks for, or say it for this step alone, under steps."
            yield from complaints(schema, said[key], f"{path}.{at}.{key}", hint)


def _timezone(raw: Any, path: str, problems: list[Violation]) -> str:
    name = str(raw or "")
    if name and name not in zone_names():
        hint = did_you_mean(name, zone_names()) or ZONE_HINT
        problems.append(Violation(path, "UNKNOWN_TIMEZONE", f"there is no time zone {name[:60]}", hint))
    return name


def _answers(raw: Any, kind: Kind, usual: Answers, path: str, problems: list[Violation]) -> Answers:
    """Read `approve`, or `{approve: 0.8, reject: 0.1, after: [1h, 2d]}`."""
    outcomes, said = _OUTCOMES[kind], _SAID[kind]
    hint = f"Write {outcomes[0]}, {NONE}, or {{{outcomes[0]}: 0.8, after: 4h}}."
    if isinstance(raw, str):
        if raw not in (*outcomes, NONE):
            near = did_you_mean(raw, (*outcomes, NONE)) or hint
            problems.append(Violation(path, "UNKNOWN_VALUE", f"{raw[:40]} is no outcome of {kind}", near))
        return Answers(((raw, 1.0),) if raw != NONE else (), usual.after)
    if not isinstance(raw, Mapping):
        problems.append(Violation(path, "WRONG_TYPE", "this must be an outcome, or a map of outcomes", hint))
        return usual
    shares: list[tuple[str, float]] = []
    for key, value in raw.items():
        if key in outcomes:
            shares.append((str(key), read_share(value, f"{path}.{key}", problems)))
        elif key not in (*said, "after", NONE):
            near = did_you_mean(str(key), (*outcomes, *said, "after")) or hint
            problems.append(Violation(f"{path}.{key}", "UNKNOWN_KEY", f"{kind} have no {key}", near))
    if sum(share for _, share in shares) > 1.000_001:
        problems.append(Violation(path, "TOO_MUCH", "the shares come to more than 1", "The rest is never answered."))
    after = read_span(raw["after"], f"{path}.after", problems) if raw.get("after") is not None else usual.after
    more = {key: raw[key] for key in said if key in raw}
    return Answers(tuple(shares) or usual.shares, after, {**usual.said, **more})


def _qualifications(raw: Any, path: str, problems: list[Violation]) -> tuple[Qualification, ...]:
    """Read `{decision: qualified, score: 80}`, or a list of such maps with shares; `none` when nothing qualifies."""
    if raw == NONE:
        return (Qualification(1.0, {}),)
    given = raw if isinstance(raw, list) else [raw]
    found: list[Qualification] = []
    for index, item in enumerate(given):
        at = f"{path}[{index}]" if isinstance(raw, list) else path
        if not isinstance(item, Mapping):
            problems.append(
                Violation(at, "WRONG_TYPE", "this must be a map", "Write {decision: qualified, score: 80}.")
            )
            continue
        for key in item:
            if key not in (*QUALIFIED_AS, "share"):
                hint = did_you_mean(str(key), QUALIFIED_AS) or f"It has {', '.join(QUALIFIED_AS)}."
                problems.append(Violation(f"{at}.{key}", "UNKNOWN_KEY", f"a qualification has no {key}", hint))
        share = read_share(item["share"], f"{at}.share", problems) if item.get("share") is not None else 1.0
        found.append(Qualification(share, {key: item[key] for key in QUALIFIED_AS if key in item}))
    return tuple(found)


def _steps(
    raw: Any, merged: Assumptions, version: Version | None, path: str, problems: list[Violation]
) -> Mapping[str, Answers | tuple[Qualification, ...]]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping) or version is None:
        hint = "Write {ask: {reject: 0.2}}, with the ids of steps."
        problems.append(Violation(path, "WRONG_TYPE", "this must be a map of steps", hint))
        return {}
    found: dict[str, Answers | tuple[Qualification, ...]] = {}
    for step_id, item in raw.items():
        at = f"{path}.{step_id}"
        node = version.steps.get(str(step_id))
        kind = "" if node is None else node.step.kind
        if kind in _OF_STEP:
            found[str(step_id)] = _answers(item, _OF_STEP[kind], getattr(merged, _OF_STEP[kind]), at, problems)
        elif kind == "score":
            found[str(step_id)] = _qualifications(item, at, problems)
        elif node is None:
            hint = did_you_mean(str(step_id), version.steps) or f"The steps are {', '.join(version.steps)}."
            problems.append(Violation(at, "UNKNOWN_STEP", f"there is no step {step_id}", hint))
        else:
            problems.append(
                Violation(at, "NOTHING_TO_ASSUME", f"{with_article(kind)} step asks nobody", "Leave it out.")
            )
    return found

"""The simulation and the live engine agree, entry by entry, on random workflows and on the templates."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings

from core.clock import ManualClock
from core.domain.records.pipelines import Pipeline, StageKind
from core.domain.records.pipelines import Stage as SalesStage
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.workflow import firing
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse, render
from core.simulation.assumptions import read_assumptions
from core.simulation.chance import draw
from core.simulation.made_up import made_up
from core.simulation.outside import Outside
from core.simulation.script import read_script
from core.simulation.simulate import simulate
from core.store.database import Database
from core.store.records import pipelines
from core.templates import Template, templates
from tests.engine.parts import ORG, Parts
from tests.simulation.cases import START
from tests.simulation.live import MINUTE, Live, line, type_of
from tests.simulation.random_workflows import ASSUMPTIONS, CONTACTS, HAPPENINGS, documents

HORIZON = timedelta(days=4)

SALES = Pipeline("sales", "Sales", (SalesStage("new", "New", 0.1), SalesStage("won", "Won", 1, StageKind.WON)))
SELLING = """
circuit_breaker: off
steps:
  - {id: back, kind: update, record: opportunity, set: {stage_id: new}}
  - {id: says, kind: log, message: "{{ opportunity.status }} {{ opportunity.probability }}"}
  - {id: town, kind: wait, until_true: contact.city == "Bonn", timeout: 2d, exits: {next: make, timeout: late}}
  - {id: late, kind: update, record: opportunity, set: {custom.late: {cel: "true"}}}
  - {id: make, kind: create, record: opportunity, set: {name: New, stage_id: won}}
  - {id: newest, kind: wait, until_true: 'opportunity.name == "New"'}
  - {id: tells, kind: log, message: "{{ opportunity.status }} {{ opportunity.name }}"}
"""

OF_ITS_OWN = """
circuit_breaker: off
steps:
  - {id: join, kind: list, add: [club]}
  - {id: tell, kind: emit_event, event: a, fields: {x: 1}}
  - {id: hears, kind: wait_for_event, any_of: [{event: b, exit: other}, {event: a}], timeout: 1d,
     exits: {other: late, matched: member, timeout: late}}
  - {id: member, kind: filter, when: '"club" in contact.lists', exits: {next: leave, otherwise: late}}
  - {id: leave, kind: list, remove: [club]}
  - {id: lead, kind: create, set: {status: new}}
  - {id: tier, kind: update, record: lead, set: {tier: A}}
  - {id: left, kind: wait, until_true: '!("club" in contact.lists) && lead.tier == "A"', timeout: 1d,
     exits: {next: title, timeout: late}}
  - {id: title, kind: update, set: {job_title: CTO}}
  - {id: hook, kind: webhook, event_type: x.y}
  - {id: dm, kind: message, channel: dm, to: "@x", text: Hi}
  - {id: done, kind: exit, reason: "{{ contact.job_title }} {{ lead.tier }}"}
  - {id: late, kind: exit, reason: late}
"""

Happening = tuple[timedelta, int, str, Mapping[str, Any]]
"""How long after the start, whose, what, and with which fields."""


@dataclass(frozen=True, slots=True)
class Stage:
    """An empty database to begin each example with, and the loop that its connections live in."""

    runner: asyncio.Runner
    template: Path

    def run(self, example: Callable[[Parts], Coroutine[Any, Any, int]]) -> int:
        """Run one example on a database of its own."""
        return self.runner.run(self._run(example))

    async def _run(self, example: Callable[[Parts], Coroutine[Any, Any, int]]) -> int:
        path = self.template.with_name("example.db")
        for left in self.template.parent.glob("example.db*"):
            left.unlink()
        shutil.copy(self.template, path)
        clock = ManualClock(START)
        database = await Database.open(f"sqlite:///{path}", clock)
        try:
            return await example(Parts(database, clock))
        finally:
            await database.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path = tmp_path_factory.mktemp("agreement") / "template.db"

    async def prepare() -> None:
        database = await Database.open(f"sqlite:///{path}", ManualClock(START))
        await database.create_schema()
        await Parts(database, ManualClock(START)).begin()
        await database.close()

    with asyncio.Runner() as runner:
        runner.run(prepare())
        yield Stage(runner, path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(documents(), CONTACTS, HAPPENINGS, ASSUMPTIONS)
def test_both_tell_the_same_story(
    stage: Stage, document: dict[str, Any], contacts: list[Any], happenings: list[Any], assumed: dict[str, Any]
) -> None:
    note(render(document))
    coming = [
        (position * timedelta(hours=7, minutes=13) + MINUTE, whose, name, fields)
        for position, (whose, name, fields) in enumerate(happenings)
    ]
    stage.run(lambda parts: _compare(parts, document, contacts, coming, assumed, HORIZON))


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.id)
def test_both_tell_the_same_story_of_a_template(stage: Stage, template: Template) -> None:
    document = parse(template.source)
    document = {key: value for key, value in document.items() if key != "entry"} | {"circuit_breaker": "off"}
    document["triggers"] = [one for one in document.get("triggers", ()) if "event" in one]
    version = compile_document(document, workflow_id="w", number=1).version
    assert version is not None
    steps = [node.step for node in version.steps.values()]
    names = {*firing.trigger_events(version), *(name for rule in version.rules for name in rule.events)}
    names |= {name for step in steps if isinstance(step, WaitForEvent) for name in step.events}
    contacts = [
        {
            **one.contact.fields,
            "custom": {"handle": f"@{n}", "renewal_date": "2026-05-01"},
            **({"lead": dict(one.lead.fields)} if one.lead else {}),
        }
        for n, one in enumerate(made_up(8, 3))
    ]
    coming: list[Happening] = [
        (MINUTE, n, name, _fields(n)) for n in range(8) for name in firing.trigger_events(version)
    ]
    coming += [
        (timedelta(minutes=2 + int(draw(1, name, n) * 40_000)), n, name, _fields(n))
        for n in range(8)
        for name in sorted(names)
        if draw(2, name, n) < 0.5
    ]
    assumed = {
        "approvals": {"approve": 0.5, "reject": 0.3, "after": ["1h", "2d"]},
        "messages": {"sent": 0.9, "failed": 0.1, "after": "1m"},
        "deliveries": {"delivered": 0.7, "failed": 0.3, "after": "1m"},
        "tasks": {"answered": 0.8, "after": ["1m", "1d"]},
        "qualify": [
            {"share": 0.5, "decision": "qualified", "score": 80, "tier": "A"},
            {"decision": "nurture", "score": 20},
        ],
    }
    assert stage.run(lambda parts: _compare(parts, document, contacts, coming, assumed, timedelta(days=25))) > 20


def test_both_make_a_lead_of_an_event_where_none_is_open(stage: Stage) -> None:
    document = {
        "triggers": [{"record": "lead", "on": "created", "when": 'lead.status == "new"'}],
        "reentry": "after_exit",
        "circuit_breaker": "off",
        "steps": [
            {"id": "pause", "kind": "wait", "for": "1h"},
            {"id": "close", "kind": "update", "record": "lead", "set": {"status": "closed"}},
        ],
    }
    contacts = [{}, {"lead": {"status": "working"}}, {"lead": {"status": "disqualified"}}]
    coming: list[Happening] = [
        (timedelta(hours=3 * n) + MINUTE, whose, name, {})
        for n, name in enumerate(("lead.came", "lead.came", "a"))
        for whose in range(3)
    ]
    told = stage.run(lambda parts: _compare(parts, document, contacts, coming, {}, HORIZON))
    assert told == 4 * 5  # two enrollments each of the first and the third contact


def test_both_move_opportunities_and_wait_until_they_stand_somewhere(stage: Stage) -> None:
    async def tell(parts: Parts) -> int:
        async with parts.database.write(ORG) as tx:
            await pipelines.put(tx, SALES)
        return await _compare(parts, parse(SELLING), contacts, coming, {}, HORIZON)

    contacts = [{"opportunity": {"name": "One"}}, {}, {"opportunity": {"name": "Two", "stage_id": "won"}}]
    coming: list[Happening] = [
        (timedelta(hours=1), whose, "a", {"city": city}) for whose, city in enumerate(("Bonn", "Bonn", "Rome"))
    ]
    assert stage.run(tell) == 28


def test_both_see_what_the_steps_themselves_have_done(stage: Stage) -> None:
    async def tell(parts: Parts) -> int:
        count = await _compare(parts, parse(OF_ITS_OWN), [{}, {}], [], {}, HORIZON)
        assert [one.end_reason for one in await parts.enrolled()] == ["CTO A"] * 2
        return count

    assert stage.run(tell) == 2 * 14


def _fields(number: int) -> dict[str, Any]:
    ours = {"workspace_id": f"ws{number}", "meeting_id": f"m{number}", "form": "demo"}
    return {**ours, "channel": "dm", "text": "Yes!", "path": "/pricing/x"}


async def _compare(
    parts: Parts,
    document: Mapping[str, Any],
    contacts: Sequence[Any],
    coming: Sequence[Happening],
    assumed: Mapping[str, Any],
    horizon: timedelta,
) -> int:
    """Tell the story both ways and compare every entry; return how many entries there were."""
    version = compile_document(document, workflow_id="w", number=1).version
    assert version is not None
    assumptions = read_assumptions({**assumed, "organization_timezone": "Europe/Berlin"}, version)
    live = Live(parts, "w", Outside(version, assumptions, 0))
    subjects = await live.subjects(contacts, version.records)
    await parts.publish(render(document), "w")
    parts.clock.advance(MINUTE)  # of leads that are made in one millisecond, none is the newest
    start = parts.clock.now()
    events = [(start + after, subjects[whose], name, fields) for after, whose, name, fields in coming]
    script = [
        {
            "event": name,
            "type": type_of(name),
            "contact": one.contact.id,
            "at": at.isoformat(),
            "fields": {**fields, "email": one.label},
        }
        for at, one, name, fields in events
    ]
    by_triggers = bool(document.get("triggers"))
    simulated = simulate(
        version,
        subjects,
        read_script(script),
        start=start,
        horizon=horizon - timedelta(microseconds=1),
        assumptions=assumptions,
        timelines=len(subjects),
        entering="triggers" if by_triggers else "start",
    )
    await live.run(
        version,
        [] if by_triggers else [one.contact.id for one in subjects],
        [(at, one.label, name, fields) for at, one, name, fields in events],
        start + horizon,
    )
    ids = {one.label: one.contact.id for one in subjects}
    told: dict[str, list[Any]] = {}
    for one in simulated.timelines:
        if one.entries:
            told.setdefault(ids[one.contact], []).append([line(entry) for entry in one.entries])
    lived = await live.lines()  # runs of one instant are in no order: their ids end by chance
    assert {who: sorted(runs) for who, runs in told.items()} == {who: sorted(runs) for who, runs in lived.items()}
    ends = {one.contact_id: (one.state, one.step_id) for one in simulated.journeys if one.enrollments}
    assert ends == {contact: some[-1][:2] for contact, some in (await live.ends()).items()}
    counted = {(one.step_id, one.way): (one.entered, one.converted) for one in simulated.variants}
    assert {way: counts for way, counts in counted.items() if any(counts)} == await live.ways()
    return sum(len(trace) for traces in told.values() for trace in traces)

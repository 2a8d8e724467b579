"""The simulation itself: the machine that decides, on a clock of its own; what it decides stays in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain import machine, names
from core.domain.effects import (
    Ask,
    ChangeList,
    CreateRecord,
    CreateTask,
    Effect,
    Emit,
    EmitEvent,
    RequestApproval,
    SendMessage,
    UpdateRecord,
    WithdrawMessages,
)
from core.domain.enrollment import EventArrived, EventFacts, Facts, Stimulus, TimerFired
from core.domain.steps.emit_event import MOST_HOPS
from core.domain.trace import Transition
from core.domain.workflow import entry, firing
from core.domain.workflow.audiences import belongs
from core.domain.workflow.expressions import Expression
from core.domain.workflow.frequency import lookback
from core.domain.workflow.record_changes import RECORD, ChangedRecord, record_event
from core.domain.workflow.trigger_kinds import KEYED, PoolTrigger, ScheduleTrigger, Timed
from core.domain.workflow.variables import event_values
from core.domain.workflow.version import Version
from core.domain.workflow.zones import zone_of
from core.simulation import beginnings
from core.simulation.agenda import Agenda, Rank
from core.simulation.assumptions import QUALIFIED_AS, Assumptions
from core.simulation.beginnings import Entering
from core.simulation.chance import draw
from core.simulation.collecting import collecting_less
from core.simulation.heard import Heard
from core.simulation.outside import Outside
from core.simulation.people import MOST_MOVES, Person, Running
from core.simulation.report import report
from core.simulation.result import Simulation
from core.simulation.script import ScriptedEvent
from core.simulation.subjects import Subject
from core.simulation.tally import Tally

ORGANIZATION = "org_simulated"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SOURCE = "simulation"
"""Where events of the script come from; a trigger that listens to a source listens to this one."""

Progress = Callable[[int, int], None]


def simulate(
    version: Version,
    subjects: Sequence[Subject],
    script: Sequence[ScriptedEvent] = (),
    *,
    start: datetime,
    horizon: timedelta,
    assumptions: Assumptions | None = None,
    seed: int = 0,
    timelines: int = 10,
    entering: Entering = "auto",
    progress: Progress | None = None,
) -> Simulation:
    """Return what would become of contacts in a workflow; `progress` is told how much of all is done."""
    simulator = Simulator(
        version, subjects, script, start, start + horizon, assumptions or Assumptions(), seed, timelines, entering
    )
    more = True
    with collecting_less():
        while more:
            more = simulator.turn()
            if progress is not None:
                progress(*simulator.done)
        return simulator.result()


class Simulator:
    """A simulation under way, for a caller that has other work to do in between."""

    def __init__(
        self,
        version: Version,
        subjects: Sequence[Subject],
        script: Sequence[ScriptedEvent],
        start: datetime,
        end: datetime,
        assumptions: Assumptions,
        seed: int = 0,
        timelines: int = 10,
        entering: Entering = "auto",
    ):
        self._version = version
        self._start, self._end = start, end
        self._seed = seed
        self._timelines = timelines
        self._assumed = assumptions
        self._outside = Outside(version, assumptions, seed)
        self._tally = Tally(version)
        script = (*script, *assumptions.events)
        self._agenda = Agenda(version, script, start, end, seed)
        self._moving_events = frozenset(firing.moving_events(version))
        self._sources = frozenset(firing.trigger_sources(version))
        self._counted = lookback(version.frequency_caps)
        self._people = [self._person(index, subject) for index, subject in enumerate(subjects)]
        self._oldest_first = sorted(self._people, key=lambda person: person.subject.age)
        by_triggers = entering == "triggers" or (
            entering == "auto" and beginnings.may_fire(version, script, self._people)
        )
        self._trigger_events = frozenset(firing.trigger_events(version)) if by_triggers else frozenset()
        self._by_triggers = self._tally.by_triggers = by_triggers
        nobody_to_take = not by_triggers and entering == "auto"
        self._tally.notes += beginnings.notes(version, script, self._people, nobody_to_take=nobody_to_take)
        self._by_key: dict[str, list[Running]] = {}
        """Enrollments that wait for an event by what its fields say."""
        self._heard = Heard(version)
        self._begun = 0
        self._handlers: Mapping[int, Callable[[Any, Any], None]] = {
            Rank.TRIGGER: self._fire,
            Rank.ENTRY: self._enter_at_start,
            Rank.EVENT: self._happen,
            Rank.ANSWER: self._advance,
            Rank.TIMER: self._timer,
        }
        self._begin()

    def turn(self, most: int = 2_000) -> bool:
        """Carry on with what comes next, so many things at most; tell whether there is more."""
        agenda, handlers = self._agenda, self._handlers
        for _ in range(most):
            if agenda.is_empty:
                agenda.finish()
                return False
            rank, target, payload = agenda.pop()
            handlers[rank](target, payload)
        return True

    @property
    def done(self) -> tuple[int, int]:
        """Return how much is done, and of how much: contacts that entered, and the time that has passed for all."""
        count = max(1, len(self._people))
        passed = (self._agenda.now - self._start) / (self._end - self._start) if self._end > self._start else 1.0
        begun = count if self._agenda.is_empty else min(self._begun, count)
        return begun + int(count * passed), 2 * count

    def result(self) -> Simulation:
        """Return what was found."""
        return report(self._version, self._people, self._tally, self._outside, self._start, self._end, self._timelines)

    def _person(self, index: int, subject: Subject) -> Person:
        zone = self._assumed.organization_timezone
        facts = Facts(
            subject.contact,
            subject.lead,
            company=subject.company,
            lists=subject.lists,
            sent=subject.sent,
            organization_timezone=zone,
            consent=subject.consent,
            records=subject.records,
            pipelines=subject.pipelines,
        )
        return Person(index, subject, facts)

    def _begin(self) -> None:
        if self._by_triggers:
            for position, trigger in enumerate(self._version.triggers):
                if isinstance(trigger, ScheduleTrigger | PoolTrigger):
                    self._agenda.push(self._next_time(trigger, self._start), Rank.TRIGGER, trigger, position)
        else:
            over = self._assumed.arrive_over
            for person in self._people:
                later = over * draw(self._seed, "arrives", person.id) if over else over
                self._agenda.push(self._start + later, Rank.ENTRY, person, None)
        self._agenda.begin(self._people)

    def _next_time(self, trigger: Timed, after: datetime) -> datetime:
        zone = zone_of("", trigger.timezone or self._version.timezone, self._assumed.organization_timezone)
        return trigger.next_after(after, zone)

    # Entering

    def _enter_at_start(self, person: Person, _: Any) -> None:
        self._begun += 1
        self._enter(person, "simulation", None, None)

    def _fire(self, trigger: Timed, position: int) -> None:
        """Let the audience of a schedule enter, or the next ones of a pool."""
        self._agenda.push(self._next_time(trigger, self._agenda.now), Rank.TRIGGER, trigger, position)
        is_pool = isinstance(trigger, PoolTrigger)
        limit, entered = trigger.per_day if isinstance(trigger, PoolTrigger) else len(self._people), 0
        actor = f"{trigger.kind}:{self._version.workflow_id}/{position}"
        for person in self._oldest_first:
            if entered == limit:
                break
            if (is_pool and person.enrolled) or not belongs(trigger.audience, person.facts):
                continue
            self._tally.fired = True
            if is_pool and person.subject.entered:
                self._tally.keep_out(person, beginnings.IN_IT_BEFORE)
                continue
            self._begun += 1
            entered += self._enter(person, actor, None, None)
        if is_pool and not entered:
            self._tally.out_of_leads = self._tally.out_of_leads or self._agenda.now

    def _enter(self, person: Person, actor: str, event: EventFacts | None, key: Expression | None) -> bool:
        """Enroll a contact, unless an entry rule keeps it out; tell whether it entered."""
        version, subject, facts, now = self._version, person.subject, person.facts, self._agenda.now
        values = None if event is None else event_values(event)
        about = ChangedRecord.of(event).about if event is not None and event.type == RECORD else {}
        named = subject.key or ("" if key is None else entry.key_of(version, facts, values, {}, now, key, about))
        named = named or entry.key_of(version, facts, values, subject.variables, now, about=about)
        before, standing = person.latest.get(named), subject.entered.get(named)
        if before is not None:
            standing = entry.Standing(before.enrollment.state, before.enrollment.entered_at)
        given: Any = {"event": values, "variables": subject.variables, "key": named, "about": about}
        judged = entry.judge(version, facts, now, **given, standing=standing)
        if judged.outcome != "enrolled":
            self._tally.keep_out(person, judged)
            return False
        occurrence = 1 if before is None else before.enrollment.occurrence + 1
        transition = machine.enter(
            version,
            # Not of the instant: the draws of splits hang on the id, and the same seed shall give the same ways.
            id=names.derive("enr", _EPOCH, self._seed, version.workflow_id, person.id, named, occurrence),
            org_id=ORGANIZATION,
            contact_id=person.id,
            key=named,
            actor=actor,
            variables=subject.variables,
            event=event,
            facts=facts,
            now=now,
            occurrence=occurrence,
            hops=0 if event is None else event.hops,
            again=bool(person.enrolled or subject.entered),
            about=about,
        )
        run = Running(person, transition.enrollment, entries=[] if person.index < self._timelines else None)
        person.take(named, run)
        self._agenda.entered(person, occurrence)
        self._apply(run, transition)
        return True

    # What happens

    def _happen(self, person: Person, what: ScriptedEvent | EventFacts) -> None:
        if isinstance(what, EventFacts):
            self._arrive(person, what)
            return
        now = self._agenda.now
        for record_type, fields in what.changes.items():
            self._changed(person, person.set(record_type, fields))
        if what.type == "lead":  # the rule of `core.store.events.ingestion`
            lead_id = names.derive("lead", now, self._seed, person.id, self._agenda.serial())
            self._changed(person, person.open_lead(lead_id, SOURCE))
        if what.name:
            event_id = what.id or self._event_id()
            happened = now - what.occurred
            self._arrive(person, EventFacts(event_id, what.name, what.type, what.fields, happened, now, SOURCE))

    def _event_id(self) -> str:
        return f"evt_{self._agenda.serial():026}"

    def _arrive(self, person: Person, event: EventFacts) -> None:
        """Let an event wake those who wait for it, end those whom a rule of it ends, and start those it triggers."""
        name, contact_id, arrived = event.name, person.id, EventArrived(event)
        is_ruled = name in self._moving_events
        keys = self._heard.take(contact_id, event)
        others = [run for key in sorted(keys) for run in self._by_key.get(key, ()) if run.waits_for(name, key)]
        for run in tuple(person.running):
            if is_ruled or run.waits_for(name, contact_id):
                self._advance(run, arrived)
        for run in others:
            if any(run.waits_for(name, key) for key in keys):  # it may have moved on by now
                self._advance(run, arrived)
        if self._by_triggers and (name in self._trigger_events or self._sources) and event.hops <= MOST_HOPS:
            self._start_by(person, event)

    def _start_by(self, person: Person, event: EventFacts) -> None:
        if event.type == RECORD and event.fields.get("workflow_id") == self._version.workflow_id:
            return  # it is not triggered by its own doing
        sources = self._sources if event.source_id == SOURCE else (event.source_id,)
        for trigger in self._version.triggers:
            looked = firing.look(trigger, event, person.facts, self._agenda.now, sources=sources)
            if looked is not None and looked.fires:
                self._begun += 1
                self._tally.fired = True
                key = trigger.key if isinstance(trigger, KEYED) else None
                self._enter(person, f"event:{event.id}", event, key)
                return

    def _timer(self, run: Running, rev: int) -> None:
        if run.enrollment.rev == rev:
            self._advance(run, TimerFired())

    def _advance(self, run: Running, stimulus: Stimulus) -> None:
        if run.moves >= MOST_MOVES or not run.hears(stimulus):
            return
        transition = machine.advance(self._version, run.enrollment, stimulus, run.person.facts, self._agenda.now)
        if transition is not None:
            self._apply(run, transition)

    # What follows

    def _apply(self, run: Running, transition: Transition) -> None:
        """Take a decision as the engine's writer would, in memory; a question is answered at once."""
        following: Transition | None = transition
        while following is not None:
            run.enrollment = following.enrollment
            run.moves += 1
            self._tally.note(run, following, self._agenda.now)
            self._agenda.moved(run, following)
            asked: Ask | None = None
            for effect in following.effects:
                if isinstance(effect, Ask):
                    asked = effect
                else:
                    self._carry_out(run, effect)
            following = None if asked is None else self._answer(run, asked)
        enrollment = run.enrollment
        if enrollment.state.over:
            if run in run.person.running:  # what became of a message may come later still
                run.person.running.remove(run)
            return
        if enrollment.due_at is not None:
            self._agenda.push(enrollment.due_at, Rank.TIMER, run, enrollment.rev)
        for event in self._heard.since(enrollment):
            self._agenda.push(self._agenda.now, Rank.ANSWER, run, EventArrived(event))
        waiting = enrollment.waiting
        if waiting is not None and waiting.key not in ("", enrollment.contact_id):
            self._by_key.setdefault(waiting.key, []).append(run)

    def _answer(self, run: Running, ask: Ask) -> Transition | None:
        answered = self._outside.ask(run.enrollment, ask, run.person.facts)
        if ask.service == "qualify" and answered.ok:
            said = {"owner_id" if name == "owner" else name: answered.outputs.get(name) for name in QUALIFIED_AS}
            fields = {name: value for name, value in said.items() if value is not None}
            self._changed(run.person, run.person.set("lead", fields))  # as the qualification itself would
        return machine.advance(self._version, run.enrollment, answered, run.person.facts, self._agenda.now)

    def _carry_out(self, run: Running, effect: Effect) -> None:  # noqa: C901 -- a few lines a kind
        person, tally, now = run.person, self._tally, self._agenda.now
        workflow = self._version.workflow_id
        match effect:
            case Emit():
                tally.announce(effect)
                if effect.awaited:
                    self._ask_outside(run, effect)
            case UpdateRecord():
                self._changed(person, person.update(effect, workflow), run.enrollment.in_a_row + 1)
            case CreateRecord():
                self._changed(person, person.create(effect, workflow), run.enrollment.in_a_row + 1)
            case ChangeList():
                self._changed(person, person.change_list(effect, workflow))
            case EmitEvent():
                tally.emitted[effect.name] += 1
                source = f"workflow:{workflow}"
                event = EventFacts(effect.id, effect.name, "action", effect.fields, now, now, source, effect.hops)
                self._agenda.push(now, Rank.EVENT, person, event)
            case SendMessage():
                tally.messages[now.date(), effect.channel] += 1
                if effect.gaps:
                    tally.gaps.setdefault(effect.step_id, Counter()).update([effect.gaps])
                if self._counted:
                    person.sent(effect, now, self._counted, workflow)
                if effect.awaited:
                    run.unsent[effect.id] = effect.step_id
                    self._ask_outside(run, effect)
            case WithdrawMessages():
                for ended in run.take_back(effect):
                    self._agenda.push(now, Rank.ANSWER, run, ended)
            case RequestApproval() | CreateTask():
                self._ask_outside(run, effect)
            case _:
                pass

    def _ask_outside(self, run: Running, effect: Effect) -> None:
        answer = self._outside.answer(run.enrollment, effect)
        if answer is not None:
            self._agenda.push(self._agenda.now + answer[0], Rank.ANSWER, run, answer[1])

    def _changed(self, person: Person, change: ChangedRecord | None, hops: int = 0) -> None:
        """Let a change of a record travel as the event that tells of it, where anything listens."""
        if change is None:
            return
        name, now = record_event(change.record_type), self._agenda.now
        if name in self._moving_events or name in self._trigger_events:
            event = EventFacts(self._event_id(), name, RECORD, change.to_fields(), now, now, hops=hops)
            self._agenda.push(now, Rank.EVENT, person, event)

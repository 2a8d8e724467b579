"""What must become of contacts, said a second time and as simply as possible: lists, loops and no database.

It knows two workflows by heart and nothing of the engine's code. Where it and the engine differ, one of them is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

_HEAD = """
title: Modelled
reentry: after_exit
circuit_breaker: off
goals: [{name: bought, event: order.paid}]
exit_on: [{name: left, event: contact.left}]
steps:
  - {id: hello, kind: webhook, event_type: model.hello}
"""
SHORT = f"""{_HEAD}
  - {{id: nap, kind: wait, for: 2h}}
  - id: check
    kind: webhook
    event_type: model.check
    data: {{email: "{{{{ contact.email }}}}"}}
    await: true
    answer_schema: {{type: object, properties: {{ok: {{const: true}}}}, required: [ok]}}
    retry: {{attempts: 2, delay: 1h}}
    exits: {{delivered: listen, failed: listen}}
  - {{id: listen, kind: wait_for_event, event: reply.received, timeout: 1d, exits: {{matched: thanks, timeout: nudge}}}}
  - {{id: nudge, kind: message, channel: dm, to: "@{{{{ contact.email }}}}", text: Still there?}}
  - {{id: thanks, kind: webhook, event_type: model.thanks}}
"""
LONG = f"""{_HEAD}
  - {{id: nap, kind: wait, for: 5h}}
  - id: vote
    kind: approval
    title: "Go on with {{{{ contact.email }}}}?"
    timeout: 2d
    exits: {{approved: fork, rejected: refused, timeout: fork}}
  - {{id: fork, kind: split, ways: {{a: 1, b: 1}}, exits: {{a: listen, b: listen}}}}
  - id: listen
    kind: wait_for_event
    event: reply.received
    match: {{email: "{{{{ contact.email }}}}"}}
    timeout: 1d
    exits: {{matched: thanks, timeout: nudge}}
  - {{id: nudge, kind: message, channel: dm, to: "@{{{{ contact.email }}}}", text: Still there?, next: listen}}
  - {{id: thanks, kind: webhook, event_type: model.thanks, next: end}}
  - {{id: refused, kind: exit, reason: refused}}
"""
STEPS = {
    SHORT: ("hello", "nap", "check", "listen", "nudge", "thanks"),
    LONG: ("hello", "nap", "vote", "fork", "listen", "nudge", "thanks", "refused"),
}
NAP = {SHORT: timedelta(hours=2), LONG: timedelta(hours=5)}
GOAL, LEFT, REPLY = "order.paid", "contact.left", "reply.received"

Policy = Literal["run_overdue", "shift", "skip_overdue"]
Wait = Literal["keep", "recompute", "restart"]
Way = tuple[str, Wait | None]
"""The step that a migration leads to, and what becomes of the wait."""
Stimulus = tuple[str, object, datetime]
"""What happened, about what, and when: an event's name; or `vote` and `check` with the number asked and the answer."""


@dataclass(slots=True)
class Journey:
    """One enrollment."""

    contact: str
    key: str
    occurrence: int
    version: int
    entered: datetime
    state: str = "active"
    step: str = "hello"
    waiting: str = ""
    """`timer`, `event`, `approval`, `delivery`, `retry`, or nothing: it has its step yet to begin."""
    since: datetime | None = None
    due: datetime | None = None
    shifted: timedelta = timedelta()
    """By how much pauses have moved the wait."""
    attempts: int = 0
    skipping: bool = False
    held: list[Stimulus] = field(default_factory=list)
    asked: int = 0
    """Counts questions, so that an answer to an older one is told apart."""
    asked_until: datetime | None = None
    sent: Counter[str] = field(default_factory=Counter)

    @property
    def over(self) -> bool:
        return self.state not in ("active", "awaiting_approval")

    @property
    def identity(self) -> tuple[str, str, int]:
        return self.contact, self.key, self.occurrence


@dataclass(slots=True)
class Model:
    """Everybody's journey through one workflow."""

    versions: list[str] = field(default_factory=list)
    """Documents as they were published; the first is version 1."""
    journeys: list[Journey] = field(default_factory=list)
    paused_at: datetime | None = None
    grumpy: set[str] = field(default_factory=set)
    """Contacts of whom the receiver does not approve."""
    unheard: list[tuple[str, str, datetime]] = field(default_factory=list)
    """Events, with their contacts, that no loop has looked at."""
    undelivered: list[tuple[Journey, int]] = field(default_factory=list)
    """Questions to the receiver that have not gone out."""

    def running(self) -> list[Journey]:
        return [one for one in self.journeys if not one.over]

    # What is asked of it from outside.

    def enroll(self, contact: str, key: str, now: datetime) -> str:
        """Admit a contact, unless it is in there already."""
        before = [one for one in self.journeys if (one.contact, one.key) == (contact, key)]
        if before and not before[-1].over:
            return "already_enrolled"
        journey = Journey(contact, key, len(before) + 1, len(self.versions), now)
        journey.sent["enrollment.created"] += 1
        self.journeys.append(journey)
        self._begin(journey, "hello", now)
        return "enrolled"

    def cancel(self, journey: Journey) -> None:
        self._end(journey, "cancelled", "exited")

    def decide(self, journey: Journey, approved: bool, now: datetime) -> None:
        self._tell(journey, ("vote", (journey.asked, approved), now), now)

    def redrive(self, now: datetime) -> list[Journey]:
        """Let everybody try again whose step failed, unless the contact has entered anew since."""
        latest = {(one.contact, one.key): one for one in self.journeys}
        chosen = [one for one in self.journeys if one.state == "failed" and one is latest[one.contact, one.key]]
        for journey in chosen:
            journey.state, journey.attempts = "active", 0
            self._begin(journey, journey.step, now)
        return chosen

    def overdue(self, now: datetime) -> list[Journey]:
        return [one for one in self.running() if one.due is not None and one.due <= now and not one.held]

    def resume(self, policy: Policy, now: datetime) -> None:
        assert self.paused_at is not None
        length, self.paused_at = now - self.paused_at, None
        overdue = [one.identity for one in self.timed() if one.due is not None and one.due <= now]
        for journey in self.running():
            journey.skipping = policy == "skip_overdue" and journey.identity in overdue
        for journey in self.timed() if policy == "shift" else ():
            assert journey.due is not None
            journey.due += length
            journey.shifted += length
            if journey.asked_until is not None and journey.waiting == "approval":
                journey.asked_until += length

    def timed(self) -> list[Journey]:
        """Return those whose timer runs; to stand before a step is no timer."""
        return [one for one in self.running() if one.due is not None and one.waiting]

    def destination(
        self, journey: Journey, number: int, steps: Mapping[str, str], waits: Mapping[str, Wait]
    ) -> Way | None:
        """Return where a journey goes in another version; None where it cannot."""
        target, wanted = steps.get(journey.step, journey.step), waits.get(journey.step)
        if target == "exit":
            return target, None
        if target not in STEPS[self.versions[number - 1]]:
            return None
        waits_on = journey.waiting not in ("", "retry")
        if target != journey.step:
            stays = journey.waiting == "delivery" or (waits_on and wanted in ("keep", "recompute"))
            return None if stays else (target, "restart")
        if not waits_on:
            return target, "restart"
        if journey.waiting == "delivery" and wanted == "restart":
            return None
        other = self.versions[number - 1] != self.versions[journey.version - 1] and target in ("nap", "listen")
        return target, wanted or ("recompute" if other else "keep")

    def due_there(self, journey: Journey, number: int, where: Way) -> datetime | None:
        """Return when a wait that goes on is due there; None for never, and for one that does not go on."""
        if where[1] not in ("keep", "recompute"):
            return None
        if where[1] == "keep" or journey.waiting == "delivery" or journey.since is None:
            return journey.due
        lengths = {"nap": NAP[self.versions[number - 1]], "listen": timedelta(days=1), "vote": timedelta(days=2)}
        return journey.since + lengths[journey.step] + journey.shifted

    def migrate(self, journey: Journey, number: int, where: Way, now: datetime) -> None:
        target, wait = where
        if target == "exit":
            self.cancel(journey)
            return
        if wait == "recompute":
            journey.due, journey.skipping = self.due_there(journey, number, where), False
            journey.asked_until = journey.due if journey.waiting == "approval" else journey.asked_until
        journey.version, journey.step = number, target
        if wait == "restart":
            self._begin(journey, target, now)

    # What the loops do.

    def match(self, now: datetime) -> bool:
        """Bring events to whoever listens."""
        heard, self.unheard = self.unheard, []
        for contact, name, at in heard:
            for journey in self.running():
                listens = name in (GOAL, LEFT) or (journey.waiting == "event" and name == REPLY)
                if journey.contact == contact and listens:
                    self._tell(journey, (name, None, at), now)
        return bool(heard)

    def tick(self, now: datetime) -> bool:
        """Let time do its work: first what was held during a pause, in its order, then timers."""
        moved = False
        for journey in self.running() if self.paused_at is None else ():
            if journey.held:
                self._release(journey, now)
                moved = True
            elif journey.due is not None and journey.due <= now:
                self._fire(journey, now)
                moved = True
        return moved

    def deliver(self, now: datetime) -> bool:
        """Hand questions to the receiver, and its answers to those who wait for them."""
        asked, self.undelivered = self.undelivered, []
        for journey, number in asked:
            self._tell(journey, ("check", (number, journey.contact not in self.grumpy), now), now)
        return bool(asked)

    def _tell(self, journey: Journey, stimulus: Stimulus, now: datetime) -> None:
        if journey.over:
            return
        if self.paused_at is not None or journey.held:
            journey.held.append(stimulus)
        else:
            self._happen(journey, stimulus, now)

    def _release(self, journey: Journey, now: datetime) -> None:
        held, journey.held = journey.held, []
        silent, journey.skipping = journey.skipping, False
        for position, stimulus in enumerate(held, 1):
            if self._happen(journey, stimulus, now):
                journey.held = [] if journey.over else held[position:]
                return
        journey.skipping = silent
        if journey.due is not None and journey.due <= now:
            self._fire(journey, now)

    def _happen(self, journey: Journey, stimulus: Stimulus, now: datetime) -> bool:
        """Let something take effect, and tell whether it did."""
        what, about, at = stimulus
        if what == GOAL and at >= journey.entered:
            self._end(journey, "completed", "completed")
        elif what == LEFT and at >= journey.entered:
            self._end(journey, "exited", "exited")
        elif what == REPLY and journey.waiting == "event" and self._in_time(journey, at):
            self._go(journey, "thanks", now)
        elif (
            what == "vote"
            and journey.waiting == "approval"
            and about in ((journey.asked, True), (journey.asked, False))
        ):
            self._go(journey, "fork" if about == (journey.asked, True) else "refused", now)
        elif what == "check" and journey.waiting == "delivery" and about == (journey.asked, True):
            self._go(journey, "listen", now)
        elif what == "check" and journey.waiting == "delivery" and about == (journey.asked, False):
            self._try_again(journey, now)
        else:
            return False
        return True

    def _in_time(self, journey: Journey, at: datetime) -> bool:
        return journey.since is not None and journey.due is not None and journey.since <= at < journey.due

    def _try_again(self, journey: Journey, now: datetime) -> None:
        journey.attempts += 1
        if journey.attempts < 2:
            self._stay(journey, "retry", now, timedelta(hours=1))
        else:
            self._end(journey, "failed", "failed")

    def _fire(self, journey: Journey, now: datetime) -> None:
        match journey.waiting:
            case "":
                self._go(journey, journey.step, now)
            case "retry":
                attempts = journey.attempts
                self._go(journey, journey.step, now)
                journey.attempts = attempts if journey.step == "check" else 0
            case "timer":
                self._go(journey, "check" if self._is_short(journey) else "vote", now)
            case "event":
                self._go(journey, "nudge", now)
            case "approval":
                self._go(journey, "fork", now)

    # The two workflows.

    def _is_short(self, journey: Journey) -> bool:
        return self.versions[journey.version - 1] == SHORT

    def _begin(self, journey: Journey, step: str, now: datetime) -> None:
        """Begin a step because somebody wants it; while the workflow is paused, stand before it."""
        if self.paused_at is None:
            self._go(journey, step, now)
        else:
            journey.state, journey.step, journey.waiting, journey.since = "active", step, "", None
            journey.due, journey.attempts, journey.shifted = now, 0, timedelta()

    def _go(self, journey: Journey, step: str, now: datetime) -> None:
        journey.state, journey.waiting, journey.since, journey.due, journey.attempts = "active", "", None, None, 0
        short, silent = self._is_short(journey), journey.skipping
        while True:
            journey.step = step
            match step:
                case "hello":
                    journey.sent["model.hello"] += not silent
                    step = "nap"
                case "nap":
                    return self._stay(journey, "timer", now, NAP[SHORT if short else LONG])
                case "check" if not silent:
                    journey.sent["model.check"] += 1
                    journey.asked += 1
                    self.undelivered.append((journey, journey.asked))
                    return self._stay(journey, "delivery", now, None)
                case "vote" if not silent:
                    journey.sent["approval.requested"] += 1
                    journey.asked += 1
                    journey.asked_until = now + timedelta(days=2)
                    return self._stay(journey, "approval", now, timedelta(days=2))
                case "vote":
                    step = "refused"
                case "check" | "fork":
                    step = "listen"
                case "listen":
                    return self._stay(journey, "event", now, timedelta(days=1))
                case "nudge":
                    journey.sent["dm"] += not silent
                    step = "thanks" if short else "listen"
                case "thanks":
                    journey.sent["model.thanks"] += not silent
                    return self._end(journey, "completed", "completed")
                case "refused":
                    return self._end(journey, "exited", "exited")

    def _stay(self, journey: Journey, waiting: str, now: datetime, at_most: timedelta | None) -> None:
        journey.state = "awaiting_approval" if waiting == "approval" else "active"
        journey.waiting, journey.since, journey.skipping, journey.shifted = waiting, now, False, timedelta()
        journey.due = None if at_most is None else now + at_most

    def _end(self, journey: Journey, state: str, event: str) -> None:
        journey.state, journey.waiting, journey.since, journey.due = state, "", None, None
        journey.held, journey.skipping = [], False
        journey.sent[f"enrollment.{event}"] += 1

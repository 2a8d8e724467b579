"""Why an enrollment is where it is and what comes next, in sentences made from stored facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from core.domain.enrollment import Enrollment, State, Waiting
from core.domain.frozen import frozen
from core.domain.steps.approval import Approval
from core.domain.steps.wait import Wait
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.trace import BESIDE, OUTCOME, TraceEntry
from core.domain.workflow import durations
from core.domain.workflow.document import END
from core.domain.workflow.version import Node, Version

_ENDINGS = {
    State.COMPLETED: "It went through to the end",
    State.EXITED: "It left the workflow",
    State.FAILED: "It failed",
    State.CANCELLED: "It was cancelled",
}
_STAYS = ("waiting", "held")
_MOST_RULES = 5
_MOST_MESSAGES = 3
_FAILED = "failed"


@frozen
class OnItsWay:
    """A message that was written and has not been sent, failed or skipped."""

    ordinal: int
    channel: str
    outcome: str
    """What was answered last, or why it is held; empty before the first try."""
    attempts: int
    due_at: datetime | None

    def told(self, paused: bool) -> str:
        """Return when it is sent, and why not yet."""
        until = "when the workflow goes on" if paused or self.due_at is None else f"at {_at(self.due_at)}"
        tries = "once" if self.attempts == 1 else f"{self.attempts} times"
        tried = f" was tried {tries} and" if self.attempts else ""
        because = f" ({self.outcome})" if self.outcome else ""
        return f"Message {self.ordinal} on {self.channel}{tried} is to be sent {until}{because}."


def explain(
    version: Version,
    enrollment: Enrollment,
    trace: Sequence[TraceEntry],
    *,
    paused: bool = False,
    on_their_way: Sequence[OnItsWay] = (),
) -> tuple[str, str]:
    """Return why it is where it is, and what will happen next and when.

    `trace` may be its last part; `paused` tells whether the workflow is; `on_their_way` are messages that have no
    outcome yet.
    """
    lost = tuple(entry.reason for entry in trace if entry.kind == OUTCOME and entry.outcome != "ok")
    why, following = _explained(version, enrollment, [entry for entry in trace if entry.kind not in BESIDE], paused)
    unsent = (one.told(paused) for one in on_their_way)
    return " ".join((why, *lost[-_MOST_MESSAGES:])), " ".join((following, *unsent))


def _explained(version: Version, enrollment: Enrollment, trace: Sequence[TraceEntry], paused: bool) -> tuple[str, str]:
    if enrollment.state.over:
        return _why_over(enrollment, trace), _after_the_end(enrollment)
    node = version.steps.get(enrollment.step_id)
    if node is None:
        return f"It stands at {enrollment.step_id}, which version {version.number} does not have.", "It will fail."
    why = [f"It stands at {node.name} of version {version.number}.", *_how_it_came(enrollment, node, trace)]
    if enrollment.converted:
        why.append(f"It has reached the goal {enrollment.converted}.")
    return " ".join(why), " ".join(_what_follows(version, enrollment, node, paused))


def _how_it_came(enrollment: Enrollment, node: Node, trace: Sequence[TraceEntry]) -> Iterator[str]:
    came = [entry for entry in trace if entry.exit or entry.outcome == "entered"]
    if came:
        last = came[-1]
        entry = "at entry" if last.reason.startswith("Enrolled by ") else "again"  # redriven, or a merge taken back
        moved = "by migration" if last.reason.startswith("Moved by ") else entry
        how = f"by exit {last.exit} of {last.step_id}" if last.exit else moved
        yield f"It came there {how}, {_at(last.at)}: {last.reason}"
    waiting = enrollment.waiting
    if waiting is not None:
        outcomes = ("failed",) if waiting.kind == "retry" else _STAYS
        here = [entry for entry in trace if entry.step_id == node.id and entry.outcome in outcomes]
        if here:
            yield here[-1].reason
    if enrollment.shifted:
        by = durations.speak(enrollment.shifted)
        yield f"Its timer has been moved by {by}, to {_at(enrollment.due_at)}: the workflow was paused."


def _why_over(enrollment: Enrollment, trace: Sequence[TraceEntry]) -> str:
    when = f" on {_at(enrollment.ended_at)}" if enrollment.ended_at else ""
    last = (trace[-1].reason if trace else "") or enrollment.end_reason  # erasing takes reasons out of traces
    goal = f" It reached the goal {enrollment.converted}." if enrollment.converted else ""
    return f"{_ENDINGS[enrollment.state]} at {enrollment.step_id}{when}: {last.rstrip('.')}.{goal}"


def _after_the_end(enrollment: Enrollment) -> str:
    if enrollment.state is State.FAILED:
        return f"Nothing more will happen, unless somebody redrives it: {enrollment.step_id} is then tried again."
    return "Nothing more will happen."


def _what_follows(version: Version, enrollment: Enrollment, node: Node, paused: bool) -> Iterator[str]:
    """Yield what holds it up, what it waits for, and what may come in between."""
    if paused:
        yield "The workflow is paused: nothing happens before it is resumed, and due times are kept."
    if enrollment.held:
        count = len(enrollment.held)
        things = "1 thing that happened" if count == 1 else f"{count} things that happened"
        yield f"{things.capitalize()} during the pause will take effect first, oldest first."
    yield _next(version, enrollment, node)
    if enrollment.skipping:
        yield "Until its next wait it passes over what acts on people and systems."
    if version.rules:
        says = [rule.says() for rule in version.rules[:_MOST_RULES]]
        more = " or another rule" if len(version.rules) > _MOST_RULES else ""
        yield f"Before that, {' or '.join(says)}{more} would end it."


def _next(version: Version, enrollment: Enrollment, node: Node) -> str:
    waiting, due = enrollment.waiting, enrollment.due_at
    if waiting is None:
        when = f" at {_at(due)}" if due else ""
        return f"{node.name} runs as soon as the engine comes to it{when}."
    match waiting.kind:
        case "condition":
            return _once_it_holds(version, node, waiting, due)
        case "timer":
            return _when_it_is_time(version, enrollment, node)
        case "retry":
            return f"At {_at(due)} {node.name} is tried again{_which_try(enrollment, node)}. {_on_error(version, node)}"
        case "answer":
            return f"The core answers {node.name} at once. {_on_error(version, node)}"
        case "event":
            return f"{_events(version, node, waiting)}{_otherwise(version, node, due)}."
        case "approval":
            decided = f"A decision on {waiting.subject} leads to {_target(version, node, 'approved')} when approved"
            return f"{decided}{_rejected(version, node)}{_undecided(version, node, waiting, due)}."
        case "delivery":
            leads = f"The delivery of {waiting.subject} leads to {_target(version, node, 'delivered')}"
            return f"{leads}{_undelivered(version, node, due, ', its final failure to {}')}."
        case "message":
            leads = f"The outcome of {waiting.subject} leads to {_target(version, node, 'sent')} by sent"
            return f"{leads}{_undelivered(version, node, due, ', to {} by failed')}."
        case "task":
            return (
                f"An agent's answer to {waiting.subject} leads {_ways(version, node)}{_otherwise(version, node, due)}."
            )


def _when_it_is_time(version: Version, enrollment: Enrollment, node: Node) -> str:
    then, due = _target(version, node, "next"), enrollment.due_at
    if isinstance(node.step, Wait) and node.step.slot and enrollment.shifted:
        return f"From {_at(due)} on it waits for {node.step.slot}, then it goes on to {then}."
    if node.step.kind == "wait":
        return f"At {_at(due)} it goes on to {then}."
    return f"At {_at(due)} {node.name} is carried out."


def _once_it_holds(version: Version, node: Node, waiting: Waiting, due: datetime | None) -> str:
    sentence = f"Once {waiting.subject} holds it goes on to {_target(version, node, 'next')}"
    if due is not None and "timeout" in node.exits:
        sentence += f", or at {_at(due)} to {_target(version, node, 'timeout')}"
    return f"{sentence}; every change of what it names is looked at."


def _which_try(enrollment: Enrollment, node: Node) -> str:
    return f", try {enrollment.attempts + 1} of {node.retry.attempts}" if node.retry else ""


def _on_error(version: Version, node: Node) -> str:
    return f"Should it fail for good, {_failed(version, node, _FAILED if node.step.undone == _FAILED else '')}."


def _failed(version: Version, node: Node, exit_name: str) -> str:
    """Return what follows where a step has failed for good, as a clause; the exit counts where the author led it."""
    if exit_name in node.led:
        return f"it goes to {_target(version, node, exit_name)}"
    match node.on_error:
        case "fail":
            return "the enrollment fails"
        case "goto":
            return f"it goes to {_target(version, node, 'error')}"
        case "continue":
            return f"it goes on to {_target(version, node, node.step.exit_undone())}"


def _undelivered(version: Version, node: Node, due: datetime | None, leads: str) -> str:
    """Return what follows where what was sent does not arrive, or nothing is known of it in time."""
    led = _FAILED in node.led
    sentence = leads.format(_target(version, node, _FAILED)) if led else f". {_on_error(version, node).rstrip('.')}"
    if due is None or "timeout" not in node.exits:
        return sentence
    return f"{sentence}; without {'one' if led else 'an outcome'} {_failed(version, node, 'timeout')} at {_at(due)}"


def _rejected(version: Version, node: Node) -> str:
    match node.step:
        case Approval(on_reject="cancel"):
            return ", and ends it when rejected"
        case Approval(on_reject="fail"):
            return f"; when rejected {_failed(version, node, '')}"
        case _:
            return f", to {_target(version, node, 'rejected')} when rejected"


def _undecided(version: Version, node: Node, waiting: Waiting, due: datetime | None) -> str:
    if due is None or not isinstance(node.step, Approval):
        return ""
    match node.step.on_timeout:
        case "approve":
            then = f"it goes to {_target(version, node, 'approved')} at {_at(due)}"
        case "cancel":
            then = f"it ends at {_at(due)}"
        case "fail":
            then = f"{_failed(version, node, '')} at {_at(due)}"
        case "escalate" if not waiting.key:
            then = f"others are asked as well at {_at(due)}, and after the same time again "
            then += f"it goes to {_target(version, node, 'timeout')}"
        case _:
            then = f"it goes to {_target(version, node, 'timeout')} at {_at(due)}"
    return f"; without one {then}"


def _events(version: Version, node: Node, waiting: Waiting) -> str:
    """Return which event leads where; those that lead to the same step are named together."""
    if not isinstance(node.step, WaitForEvent):
        return f"{' or '.join(waiting.events)} moves it on"
    leads: dict[str, list[str]] = {}
    for one in node.step.alternatives:
        leads.setdefault(_target(version, node, one.exit), []).append(one.event)
    whose = f" with {waiting.key.replace('=', ' ', 1)}" if "=" in waiting.key else ""  # ids of contacts have none
    ways = [
        f"{_article(events[0])} {' or '.join(dict.fromkeys(events))}{whose} that fits leads to {target}"
        for target, events in leads.items()
    ]
    sentence = ", ".join(ways)
    return sentence[:1].upper() + sentence[1:]


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeiou" else "a"


def _otherwise(version: Version, node: Node, due: datetime | None) -> str:
    if due is None or "timeout" not in node.exits:
        return ""
    return f"; without one it goes to {_target(version, node, 'timeout')} at {_at(due)}"


def _ways(version: Version, node: Node) -> str:
    """Return where each exit leads that is not the one of time running out."""
    names = [name for name in node.step.its_exits() if name != "timeout"]
    if len(names) == 1:
        return f"to {_target(version, node, names[0])}"
    return ", ".join(f"to {_target(version, node, name)} by {name}" for name in names)


def _target(version: Version, node: Node, exit_name: str) -> str:
    target = node.exits.get(exit_name, END)
    found = version.steps.get(target)
    return found.name if found is not None else "the end"


def _at(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else "no set time"

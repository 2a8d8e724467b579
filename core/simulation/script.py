"""What happens to the contacts of a simulation: events and changes of records, scripted, by chance, or recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records.fields import normalise, validate_fields
from core.domain.records.ingestion import IncomingEvent, ReadEvent, read
from core.domain.records.values import BadValue
from core.simulation.spans import AT_ONCE, Span, read_length, read_share, read_span

EVERYBODY = "*"
START = "start"
ENTRY = "entry"
MOST_EVENTS = 100_000

_KEYS = ("event", "name", "contact", "at", "after", "before", "since", "share", "fields", "set", "type")
_HINT = "Write {event: reply.received, after: [1d, 3d], share: 0.3}, or {event: …, at: +2d, contact: ada@example.com}."
_SET = ("contact", "lead", "opportunity")
"""The records of which a script sets fields."""
_OF_STAGE = ("status", "probability")
_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class ScriptedEvent:
    """An event that comes in for one contact, for all of them, or for a share of them."""

    name: str
    """Empty where records change and no event tells of it."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    contact: str = EVERYBODY
    """Whose: an id, an e-mail, a position such as `#3`, or `*` for everybody."""
    at: datetime | None = None
    """The instant; None where it comes some time after `since`."""
    after: Span = AT_ONCE
    """How long after `since`."""
    since: str = START
    """`start` of the simulation, `entry` into the workflow, or the id of the step it follows."""
    share: float = 1.0
    """Of those it may happen to."""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields that it sets, by record type; what an event says of its contact is among them."""
    type: str = "action"
    id: str = ""
    """Of an event that really came in."""
    occurred: timedelta = timedelta()
    """How long before it came in it had happened."""


def read_script(raw: Any, path: str = "events") -> tuple[ScriptedEvent, ...]:
    """Return a script from plain data.

    Raises Invalid with everything that is wrong.
    """
    problems: list[Violation] = []
    if not isinstance(raw, list):
        raise Invalid(Violation(path, "WRONG_TYPE", "this must be a list of events", _HINT))
    if len(raw) > MOST_EVENTS:
        raise Invalid(
            Violation(path, "TOO_MANY", f"there are {len(raw):,} events; at most {MOST_EVENTS:,} are allowed")
        )
    found = tuple(_read(item, f"{path}[{index}]", problems) for index, item in enumerate(raw))
    if problems:
        raise Invalid(*problems)
    return found


def _read(raw: Any, path: str, problems: list[Violation]) -> ScriptedEvent:
    if not isinstance(raw, Mapping):
        problems.append(Violation(path, "WRONG_TYPE", "this must be a map", _HINT))
        return ScriptedEvent("")
    for key in raw:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS) or f"It has {', '.join(_KEYS)}."
            problems.append(Violation(f"{path}.{key}", "UNKNOWN_KEY", f"an event has no {key}", hint))
    name = str(raw.get("event") or raw.get("name") or "").strip()
    fields = _map(raw.get("fields"), f"{path}.fields", problems)
    changes = _changes(raw.get("set"), f"{path}.set", problems)
    if not name and not changes:
        problems.append(Violation(f"{path}.event", "MISSING_KEY", "what happens?", _HINT))
    if name:
        told = _told(name, fields, str(raw.get("type") or "action"), path, problems)
        changes = {**changes, "contact": {**told, **changes.get("contact", {})}} if told else changes
    share = read_share(raw["share"], f"{path}.share", problems) if raw.get("share") is not None else 1.0
    usual = ENTRY if raw.get("share") is not None else START
    return ScriptedEvent(
        name,
        fields,
        str(raw.get("contact") or EVERYBODY).strip(),
        *_when(raw, path, problems),
        str(raw.get("since") or usual),
        share,
        changes,
        str(raw.get("type") or "action"),
    )


def _when(raw: Mapping[str, Any], path: str, problems: list[Violation]) -> tuple[datetime | None, Span]:
    """Return the instant, or the span after it: `at`, or `after`, or `after` and `before`."""
    given = raw.get("at")
    if given is not None and raw.get("after") is not None:
        problems.append(Violation(f"{path}.after", "CONFLICT", "it has at and after", "Keep one of them."))
    if given is not None:
        instant = _instant(given)
        if instant is not None:
            return instant, AT_ONCE
        length = read_length(given, f"{path}.at", problems)
        return None, Span(length, length)
    span = read_span(raw["after"], f"{path}.after", problems) if raw.get("after") is not None else AT_ONCE
    if raw.get("before") is not None:
        most = read_length(raw["before"], f"{path}.before", problems)
        if most < span.least:
            problems.append(Violation(f"{path}.before", "WRONG_ORDER", "before is earlier than after"))
        span = Span(span.least, max(span.least, most))
    return None, span


def _instant(raw: Any) -> datetime | None:
    if isinstance(raw, datetime):
        return raw if raw.tzinfo else raw.replace(tzinfo=UTC)
    try:
        instant = datetime.fromisoformat(str(raw).strip())
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _told(
    name: str, fields: Mapping[str, Any], event_type: str, path: str, problems: list[Violation]
) -> Mapping[str, Any]:
    """Return what an event that comes in tells of its contact, by the rules of ingestion."""
    event = read(IncomingEvent(event_type, name, "simulation", fields), _ANY_TIME)
    if isinstance(event, ReadEvent):
        return {path: value for path, value in event.contact_fields.items() if path != "email"}
    problems += [Violation(f"{path}.{one.field}", one.reason, one.message, one.hint) for one in event]
    return {}


def _changes(raw: Any, path: str, problems: list[Violation]) -> Mapping[str, Mapping[str, Any]]:
    """Return the fields that are set, by record type; a path without one is the contact's."""
    given: dict[str, dict[str, Any]] = {}
    for name, value in _map(raw, path, problems).items():
        head, _, rest = str(name).partition(".")
        record, path_in_it = (head, rest) if head in _SET and rest else ("contact", str(name))
        given.setdefault(record, {})[path_in_it] = value
    accepted: dict[str, Mapping[str, Any]] = {}
    for record, fields in given.items():
        accepted[record], wrong = _accepted(record, fields, path)
        problems += wrong
    return accepted


def _accepted(record: str, fields: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[Violation]]:
    """Return fields as they are stored, and what is wrong with them.

    Without the organization's pipelines nothing but the script can say what the stage of an opportunity means.
    """
    told = {name: value for name, value in fields.items() if record == "opportunity" and name in _OF_STAGE}
    accepted, wrong = validate_fields(record, {name: fields[name] for name in fields if name not in told}, path)
    for name, value in told.items():
        try:
            accepted[name] = normalise(record, name, value)
        except BadValue as bad:
            wrong.append(Violation(f"{path}.{record}.{name}", bad.reason, bad.message, bad.hint))
    return accepted, wrong


def _map(raw: Any, path: str, problems: list[Violation]) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        problems.append(Violation(path, "WRONG_TYPE", "this must be a map of names to values", _HINT))
        return {}
    return raw


def follows(script: Sequence[ScriptedEvent], since: str) -> tuple[tuple[int, ScriptedEvent], ...]:
    """Return the events that come after something, each with its place in the script."""
    return tuple((place, one) for place, one in enumerate(script) if one.since == since and one.at is None)

"""What a document says beside its steps: who may come in, what ends an enrollment, and the rules of time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from core.domain.frozen import frozen
from core.domain.names import is_slug
from core.domain.nearest import did_you_mean
from core.domain.records.values import zone_names
from core.domain.steps.shapes import IDENTIFIER, Condition, Duration, EventName, Scope, Text
from core.domain.workflow import calendar, frequency, launch_gate, quiet_hours
from core.domain.workflow.document import DOCUMENT_KEYS, REENTRY
from core.domain.workflow.expressions import Expression, Kind
from core.domain.workflow.record_changes import events_that_matter
from core.domain.workflow.version import Breaker, Entry, Reentry, Rule

LONGEST_TITLE = 200
LONGEST_DESCRIPTION = 2_000
MOST_DECLARED = 100
MOST_RULES = 20
MOST_LISTS = 50
MOST_CALENDARS = 20
DECLARABLE: tuple[Kind, ...] = ("string", "integer", "number", "boolean", "instant", "date", "list", "map", "any")
"""Kinds that a document may declare for variables and fields of events."""


@frozen
class Declared:
    """The names a document declares, known before its expressions are read."""

    variables: Mapping[str, Kind]
    event_fields: Mapping[str, Kind]


def declared(document: Mapping[str, Any], scope: Scope) -> Declared:
    """Return the declared names, or report what is wrong with them."""
    return Declared(*(_kinds(document.get(key), scope, key) for key in ("variables", "event_fields")))


def _kinds(raw: Any, scope: Scope, path: str) -> dict[str, Kind]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        scope.add(path, "WRONG_TYPE", "this must be a map of names to kinds", "Write {amount: number}.")
        return {}
    if len(raw) > MOST_DECLARED:
        message = f"this declares {len(raw)} names; at most {MOST_DECLARED} are allowed"
        scope.add(path, "TOO_MANY", message, "Declare those that the steps use.")
    found: dict[str, Kind] = {}
    for name, kind in raw.items():
        if not re.fullmatch(IDENTIFIER, str(name)):
            scope.add(f"{path}.{name}", "BAD_NAME", f"{str(name)[:60]} cannot be a name", "Use lower_case letters.")
        elif kind not in DECLARABLE:
            hint = did_you_mean(str(kind), DECLARABLE) or f"Use one of {', '.join(DECLARABLE)}."
            scope.add(f"{path}.{name}", "UNKNOWN_VALUE", f"there is no kind {str(kind)[:40]}", hint)
        else:
            found[str(name)] = kind
    return found


def check_texts(document: Mapping[str, Any], scope: Scope) -> None:
    """Report unknown keys, and texts that are none or too long."""
    for key in document:
        if key not in DOCUMENT_KEYS:
            hint = did_you_mean(key, DOCUMENT_KEYS) or f"A workflow has {', '.join(DOCUMENT_KEYS)}."
            scope.add(key, "UNKNOWN_KEY", f"a workflow has no {key}", hint)
    for key, longest in (("title", LONGEST_TITLE), ("description", LONGEST_DESCRIPTION)):
        text = document.get(key)
        if text is not None and not isinstance(text, str):
            scope.add(key, "WRONG_TYPE", "this must be text", "Put it in quotes.")
        elif text and len(text) > longest:
            message = f"this has {len(text):,} characters; at most {longest:,} are allowed"
            scope.add(key, "TOO_LONG", message, "Shorten it.")
    zone = document.get("timezone")
    if zone not in (None, "") and (not isinstance(zone, str) or zone not in zone_names()):
        hint = did_you_mean(str(zone), zone_names()) or "Write an IANA name, such as Europe/Berlin."
        scope.add("timezone", "UNKNOWN_TIMEZONE", f"there is no time zone {str(zone)[:60]}", hint)


def reentry_of(document: Mapping[str, Any], scope: Scope) -> tuple[Reentry, timedelta | None]:
    """Return when a contact may enter again."""
    raw, interval = document.get("reentry"), document.get("reentry_interval")
    if raw is not None and raw not in REENTRY:
        hint = did_you_mean(str(raw), REENTRY) or f"Use one of {', '.join(REENTRY)}."
        scope.add("reentry", "UNKNOWN_VALUE", f"there is no re-entry policy {str(raw)[:40]}", hint)
        raw = None
    reentry = cast(Reentry, raw or "once")
    if reentry == "after_interval" and interval is None:
        scope.add("reentry_interval", "MISSING_KEY", "after_interval needs reentry_interval", Duration().hint)
    if reentry != "after_interval" and interval is not None:
        message = "reentry_interval matters only with reentry: after_interval"
        scope.add("reentry_interval", "CONFLICT", message, "Remove it, or change reentry.")
    if reentry == "concurrent_by_key" and document.get("key") is None and _keyless(document.get("triggers")):
        hint = "Write key: event.fields.order_id, or whatever tells enrollments of one contact apart."
        scope.add("key", "MISSING_KEY", "concurrent_by_key needs a key where triggers enroll", hint)
    if interval is None:
        return reentry, None
    return reentry, Duration().read(interval, scope, "reentry_interval")


def _keyless(triggers: Any) -> bool:
    """Tell whether there are triggers without a key of their own."""
    listed = triggers if isinstance(triggers, list) else []
    return any(not isinstance(one, Mapping) or one.get("key") is None for one in listed)


def key_of(document: Mapping[str, Any], scope: Scope) -> Expression | None:
    """Return the expression that tells parallel enrollments of one contact apart."""
    raw = document.get("key")
    if raw is None:
        return None
    if not isinstance(raw, str):
        scope.add("key", "WRONG_TYPE", "this must be a CEL expression", "Write key: event.fields.order_id.")
        return None
    expression, problems = scope.environment.check(raw, path="key")
    scope.problems.extend(problems)
    return expression


def entry_of(document: Mapping[str, Any], scope: Scope) -> Entry:
    """Return who may come in."""
    raw = document.get("entry")
    if raw is None:
        return Entry()
    keys = ("when", "suppress", "suppress_lists")
    if not isinstance(raw, Mapping):
        scope.add("entry", "WRONG_TYPE", "this must be a map", "Write {when: 'contact.email != \"\"'}.")
        return Entry()
    _unknown_keys(raw, keys, "entry", scope, "entry")
    conditions = [
        Condition().read(raw[key], scope, f"entry.{key}") if raw.get(key) is not None else None
        for key in ("when", "suppress")
    ]
    lists = _lists(raw["suppress_lists"], scope) if raw.get("suppress_lists") is not None else ()
    return Entry(conditions[0], conditions[1], lists)


def _lists(raw: Any, scope: Scope) -> tuple[str, ...]:
    path, hint = "entry.suppress_lists", "Write names of lists, such as [customers, competitors]."
    if not isinstance(raw, list) or len(raw) > MOST_LISTS:
        scope.add(path, "WRONG_TYPE", f"this must be a list of at most {MOST_LISTS} names", hint)
        return ()
    for index, name in enumerate(raw):
        if not isinstance(name, str) or not is_slug(name):
            scope.add(f"{path}[{index}]", "BAD_NAME", f"{str(name)[:60]!r} cannot name a list", hint)
    return tuple(str(name) for name in raw)


def rules_of(document: Mapping[str, Any], scope: Scope) -> tuple[Rule, ...]:
    """Return goals and exit rules, goals first: who reaches a goal has not merely left."""
    return (
        *_rules(document.get("goals"), "goal", "goals", scope),
        *_rules(document.get("exit_on"), "exit", "exit_on", scope),
    )


def _rules(raw: Any, kind: Any, path: str, scope: Scope) -> tuple[Rule, ...]:
    if raw is None:
        return ()
    hint = "Write a list such as [{name: replied, event: reply.received}]."
    if not isinstance(raw, list) or len(raw) > MOST_RULES:
        scope.add(path, "WRONG_TYPE", f"this must be a list of at most {MOST_RULES}", hint)
        return ()
    rules: list[Rule] = []
    for index, item in enumerate(raw):
        place = f"{path}[{index}]"
        if not isinstance(item, Mapping):
            scope.add(place, "WRONG_TYPE", "this must be a map", hint)
            continue
        rules.append(_rule(item, kind, place, scope))
        if rules[-1].name in [rule.name for rule in rules[:-1]]:
            scope.add(f"{place}.name", "DUPLICATE_NAME", f"there is a {rules[-1].name} already", "Rename it.")
    return tuple(rules)


def _rule(item: Mapping[str, Any], kind: Any, path: str, scope: Scope) -> Rule:
    _unknown_keys(item, ("name", "event", "events", "when"), f"{path}", scope, "a rule")
    events = _events(item, path, scope)
    when = Condition().read(item["when"], scope, f"{path}.when") if item.get("when") is not None else None
    if all(item.get(key) is None for key in ("event", "events", "when")):
        scope.add(path, "MISSING_KEY", "say at which event, or when", "Write event: reply.received, or when: '…'.")
    if when is not None and not events and _is_about_time_alone(when):
        message = "nobody looks at a rule about time alone when its moment comes"
        hint = "Wait for that moment: a wait step with until; or name what happens: event, or a field of a record."
        scope.add(f"{path}.when", "TIME_ALONE", message, hint)
    name = events[0] if events else "when"
    if item.get("name") is not None:
        name = Text(LONGEST_TITLE).read(item["name"], scope, f"{path}.name")
    return Rule(kind, name, events, when)


def _is_about_time_alone(when: Expression) -> bool:
    """Tell whether a condition reads the time, and no record whose change would be a reason to look at it."""
    return any(one.variable == "now" for one in when.mentions) and not events_that_matter(when.mentions)


def _events(item: Mapping[str, Any], path: str, scope: Scope) -> tuple[str, ...]:
    """Return the events of a rule, whether it names one or several."""
    given = [key for key in ("event", "events") if item.get(key) is not None]
    if len(given) == 2:
        scope.add(f"{path}.events", "CONFLICT", "event and events name events", "Put all of them into events.")
    found: list[str] = []
    for key in given:
        raw = item[key]
        if raw == []:
            scope.add(f"{path}.{key}", "WRONG_COUNT", "this names no event", "Name one, or leave it out.")
        names = enumerate(raw) if isinstance(raw, list) else ()
        found += [EventName().read(name, scope, f"{path}.{key}[{index}]") for index, name in names]
        if not isinstance(raw, list):
            found.append(EventName().read(raw, scope, f"{path}.{key}"))
    return tuple(found)


def breaker_of(document: Mapping[str, Any], scope: Scope) -> Breaker | None:
    """Return when the workflow pauses itself; None for never."""
    raw = document.get("circuit_breaker")
    hint = "Write {percent: 10, of_last: 50}, or off."
    if raw is None:
        return Breaker()
    if raw == "off" or raw is False:
        return None
    if not isinstance(raw, Mapping):
        scope.add("circuit_breaker", "WRONG_TYPE", "this must be a map, or off", hint)
        return None
    _unknown_keys(raw, ("percent", "of_last"), "circuit_breaker", scope, "circuit_breaker")
    percent, of_last = raw.get("percent", 10), raw.get("of_last", 50)
    if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 < percent <= 100:
        scope.add("circuit_breaker.percent", "OUT_OF_RANGE", "percent must be above 0 and at most 100", hint)
        percent = 10
    if not isinstance(of_last, int) or isinstance(of_last, bool) or not 10 <= of_last <= 1_000:
        scope.add("circuit_breaker.of_last", "OUT_OF_RANGE", "of_last must be from 10 to 1,000", hint)
        of_last = 50
    return Breaker(float(percent), of_last)


def check_gate(document: Mapping[str, Any], scope: Scope) -> None:
    """Report what is neither yes nor no to the question whether publication puts an approval first."""
    raw = document.get(launch_gate.KEY)
    if raw is not None and not isinstance(raw, bool):
        scope.add(launch_gate.KEY, "WRONG_TYPE", "this must be true or false", "Write true or false.")


def calendars_of(document: Mapping[str, Any], scope: Scope) -> dict[str, calendar.Calendar]:
    """Return the document's calendars by name."""
    raw = document.get("calendars")
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        hint = "Write {office: {days: [monday, friday], hours: 09:00-17:00}}."
        scope.add("calendars", "WRONG_TYPE", "this must be a map of names to calendars", hint)
        return {}
    if len(raw) > MOST_CALENDARS:
        message = f"there are {len(raw)} calendars; at most {MOST_CALENDARS} are allowed"
        scope.add("calendars", "TOO_MANY", message, "Keep those that the steps use.")
        return {}
    if any(not str(name).strip() for name in raw):
        scope.add("calendars", "BAD_NAME", "a calendar needs a name", "Name it, such as office.")
    found = {str(name): calendar.read_calendar(item, scope.findings, f"calendars.{name}") for name, item in raw.items()}
    return {name: item for name, item in found.items() if item is not None}


def quiet_hours_of(document: Mapping[str, Any], scope: Scope) -> quiet_hours.QuietHours | None:
    """Return when messages wait."""
    raw = document.get("quiet_hours")
    return None if raw is None else quiet_hours.read_quiet_hours(raw, scope.findings, "quiet_hours")


def frequency_caps_of(document: Mapping[str, Any], scope: Scope) -> tuple[frequency.FrequencyCap, ...]:
    """Return how many messages a contact gets at most."""
    raw = document.get("frequency_caps")
    return () if raw is None else frequency.read_frequency_caps(raw, scope.findings, "frequency_caps")


def _unknown_keys(item: Mapping[str, Any], keys: tuple[str, ...], path: str, scope: Scope, what: str) -> None:
    for key in item:
        if key not in keys:
            hint = did_you_mean(str(key), keys) or f"It has {', '.join(keys)}."
            scope.add(f"{path}.{key}", "UNKNOWN_KEY", f"{what} has no {key}", hint)

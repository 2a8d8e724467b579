"""The contacts of a simulation: whom it is tried on, as facts in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from typing import Any

from core.domain import names
from core.domain.enrollment import RecordFacts, Sent
from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.messaging.consent import NOTHING_STORED, Consent
from core.domain.nearest import did_you_mean
from core.domain.records.changes import apply, diff
from core.domain.records.fields import STANDARD_FIELDS, check_path, normalise
from core.domain.records.pipelines import Pipeline
from core.domain.records.values import BadValue
from core.domain.workflow.entry import Standing

MOST_SUBJECTS = 100_000

_BESIDE = ("id", "lead", "company", "opportunity", "lists", "variables", "key")
"""What a given contact may have beside its fields."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@frozen
class Subject:
    """One contact, with what is known of it when the simulation begins."""

    contact: RecordFacts
    lead: RecordFacts | None = None
    company: RecordFacts | None = None
    lists: frozenset[str] = frozenset()
    sent: tuple[Sent, ...] = ()
    """Messages it got before."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Given at entry."""
    key: str = ""
    """Given at entry; empty for what the workflow's own key comes to."""
    consent: Consent = NOTHING_STORED
    """What it may be sent."""
    entered: Mapping[str, Standing] = field(default_factory=dict)
    """Its latest enrollments in the workflow before the simulation begins, by key."""
    records: Mapping[str, RecordFacts] = field(default_factory=dict)
    """Its newest opportunity and own objects, by type, where the workflow reads them."""
    pipelines: tuple[Pipeline, ...] = ()
    age: str = ""
    """Its place among those whom a pool takes: the id of a stored contact; empty for the order in which they came."""

    @property
    def label(self) -> str:
        """Return how people call it: its e-mail, else its id."""
        return str(self.contact.fields.get("email") or self.contact.id)


def read_subjects(raw: Any, path: str = "contacts") -> tuple[Subject, ...]:
    """Return subjects from plain data: fields of the contact, and inside them what else is known of them.

    That is `lead`, `company`, `opportunity`, `lists`, `variables` and `key`. Dotted names are read as well, such as
    `lead.tier` and `custom.plan`. Raises Invalid with everything that is wrong.
    """
    if not isinstance(raw, list):
        raise Invalid(Violation(path, "WRONG_TYPE", "this must be a list of contacts", "Write [{email: …}]."))
    if len(raw) > MOST_SUBJECTS:
        message = f"there are {len(raw):,} contacts; at most {MOST_SUBJECTS:,} are allowed"
        raise Invalid(Violation(path, "TOO_MANY", message))
    problems: list[Violation] = []
    found = tuple(_read(item, index, f"{path}[{index}]", problems) for index, item in enumerate(raw))
    taken: dict[str, int] = {}
    for index, subject in enumerate(found):
        first = taken.setdefault(subject.contact.id, index)
        if first != index:
            message = f"{path}[{first}] is the same contact, {subject.label}"
            problems.append(Violation(f"{path}[{index}]", "DUPLICATE_CONTACT", message, "Leave one of them out."))
    if problems:
        raise Invalid(*problems)
    return found


def _read(raw: Any, index: int, path: str, problems: list[Violation]) -> Subject:
    if not isinstance(raw, Mapping):
        problems.append(Violation(path, "WRONG_TYPE", "this must be a map of fields", "Write {email: …}."))
        return Subject(RecordFacts(f"#{index}", "contact", {}))
    apart: dict[str, dict[str, Any]] = {name: {} for name in ("contact", "lead", "company", "opportunity", "variables")}
    for name, value in raw.items():
        head, _, rest = str(name).partition(".")
        if head in apart and rest:
            apart[head][rest] = value
        elif head in apart and isinstance(value, Mapping):
            apart[head].update(value)
        elif name not in _BESIDE:
            apart["contact"][str(name)] = value
    mark = raw.get("id") or raw.get("email") or f"#{index}"
    contact_id = str(raw["id"]) if raw.get("id") else names.derive("cnt", _EPOCH, str(mark).lower())
    contact = _record("contact", contact_id, apart["contact"], path, problems)
    lead = company = None
    if apart["lead"]:
        lead_id = str(apart["lead"].pop("id", "") or names.derive("lead", _EPOCH, contact_id))
        apart["lead"].pop("contact_id", None)
        lead = _record("lead", lead_id, apart["lead"], f"{path}.lead", problems)
        lead = replace(lead, fields={"contact_id": contact_id, **lead.fields})
    if apart["company"]:
        company_id = str(apart["company"].pop("id", "") or names.derive("cmp", _EPOCH, contact_id))
        company = _record("company", company_id, apart["company"], f"{path}.company", problems)
    records = {}
    if told := apart["opportunity"]:
        one = str(told.pop("id", "") or names.derive("opp", _EPOCH, contact_id))
        found = _record("opportunity", one, told, f"{path}.opportunity", problems)
        records = {"opportunity": replace(found, fields={"contact_id": contact_id, **found.fields})}
    key = raw.get("key")
    lists = frozenset(_lists(raw.get("lists"), f"{path}.lists", problems))
    given = "" if key is None else str(key)
    return Subject(contact, lead, company, lists, (), apart["variables"], given, records=records)


def _record(
    record_type: str, record_id: str, fields: Mapping[str, Any], path: str, problems: list[Violation]
) -> RecordFacts:
    """Return a record with its fields in stored form; what only the core writes is taken as well."""
    accepted: dict[str, Any] = {}
    for name, leaf in _leaves(fields):
        at = f"{path}.{name}"
        problem = check_path(record_type, name, at)
        if problem is None:
            try:
                value = normalise(record_type, name, leaf)
                if value is not None:
                    accepted[name] = value
            except BadValue as bad:
                problem = Violation(at, bad.reason, bad.message, bad.hint)
        elif record_type == "contact" and not did_you_mean(name, STANDARD_FIELDS[record_type]):
            near = did_you_mean(name, _BESIDE)
            problem = Violation(at, problem.reason, problem.message, near or problem.hint)
        if problem is not None:
            problems.append(problem)
    return RecordFacts(record_id, record_type, apply({}, diff({}, accepted)))


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in fields.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path.partition(".")[0] == "custom":
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _lists(raw: Any, path: str, problems: list[Violation]) -> Sequence[str]:
    if raw is None or raw == "":
        return ()
    given = [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        problems.append(Violation(path, "WRONG_TYPE", "this must be a list of names", "Write [customers]."))
        return ()
    return [one for one in given if one]

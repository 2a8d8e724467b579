"""Whether a trigger fires: events and their conditions, changes of records, the moment a segment is entered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.enrollment import EventFacts, Facts, RecordFacts
from core.domain.records.changes import Change
from core.domain.steps.shapes import Scope
from core.domain.workflow.firing import Look, look
from core.domain.workflow.record_changes import RECORD, ChangedRecord, record_event
from core.domain.workflow.triggers import read_triggers
from core.domain.workflow.variables import trigger_environment

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def trigger(raw: dict[str, Any]) -> Any:
    scope = Scope(trigger_environment())
    (found,) = read_triggers([raw], scope)
    assert scope.problems == []
    return found


def facts(lead: dict[str, Any] | None = None, *, lists: tuple[str, ...] = (), **contact: Any) -> Facts:
    company = RecordFacts("cmp_1", "company", {"employees": 20})
    newest = None if lead is None else RecordFacts("lead_1", "lead", lead)
    sale = RecordFacts("opp_1", "opportunity", {"status": "won"})
    person = RecordFacts("cnt_1", "contact", contact)
    return Facts(person, newest, company=company, lists=frozenset(lists), records={"opportunity": sale})


def came(name: str, source: str = "web", **fields: Any) -> EventFacts:
    return EventFacts("evt_1", name, "action", fields, NOW, NOW, source)


def changed(record_type: str, *changes: Change, created: bool = False, record_id: str = "") -> EventFacts:
    ids = {"contact": "cnt_1", "lead": "lead_1", "company": "cmp_1", "opportunity": "opp_1"}
    told = ChangedRecord(record_type, record_id or ids[record_type], created, changes, "key_1", "request")
    return EventFacts("evt_2", record_event(record_type), RECORD, told.to_fields(), NOW, NOW)


def fires(raw: dict[str, Any], event: EventFacts, known: Facts | None = None, **options: Any) -> bool | None:
    looked = look(trigger(raw), event, known or facts(), NOW, **options)
    return None if looked is None else looked.fires


def test_a_change_survives_its_event() -> None:
    change = ChangedRecord("lead", "lead_1", True, (Change("tier", None, "A"),), "workflow:w", "enrollment:e/1", "w")
    event = EventFacts("evt", "$record.lead", RECORD, change.to_fields(), NOW, NOW)
    assert ChangedRecord.of(event) == change


@pytest.mark.parametrize(
    ("raw", "event", "expected"),
    [
        ({"event": "a"}, came("a"), True),
        ({"event": "a"}, came("b"), None),
        ({"event": "a", "when": "event.fields.n > 1"}, came("a", n=2), True),
        ({"event": "a", "when": "event.fields.n > 1"}, came("a", n=1), False),
        ({"event": "a", "when": "event.fields.n > 1"}, came("a"), False),
        ({"source": "web"}, came("anything"), True),
        ({"source": "Web form"}, came("anything"), True),
        ({"source": "crm"}, came("anything"), None),
        ({"source": "web", "event": "a"}, came("b"), None),
        ({"record": "contact"}, came("$record.contact"), None),
        ({"source": "web"}, changed("contact"), None),
    ],
)
def test_events_fire_triggers_that_name_them(raw: dict[str, Any], event: EventFacts, expected: bool | None) -> None:
    assert fires(raw, event, sources=("web", "Web form")) is expected


def test_a_look_says_what_decided() -> None:
    looked = look(trigger({"event": "a", "when": "event.fields.n > 1"}), came("a", n=1), facts(), NOW)
    assert looked == Look(
        False,
        "a came in, and event.fields.n > 1 does not hold (event.fields.n is 1)",
        {"event.id": "evt_1", "event.fields.n": 1},
    )


WON = Change("status", "open", "won")
TIER = Change("tier", "B", "A")


@pytest.mark.parametrize(
    ("raw", "event", "expected"),
    [
        ({"record": "lead"}, changed("lead", TIER), True),
        ({"record": "contact"}, changed("lead", TIER), None),
        ({"record": "lead", "on": "created"}, changed("lead", TIER), False),
        ({"record": "lead", "on": "created"}, changed("lead", TIER, created=True), True),
        ({"record": "lead", "on": "changed"}, changed("lead", TIER, created=True), False),
        ({"record": "lead", "fields": ["tier"]}, changed("lead", TIER), True),
        ({"record": "lead", "fields": ["score"]}, changed("lead", TIER), False),
        ({"record": "lead", "fields": ["custom"]}, changed("lead", Change("custom.plan", None, 1)), True),
        ({"record": "lead", "fields": ["custom.plan.name"]}, changed("lead", Change("custom.plan", None, 1)), True),
        ({"record": "lead", "fields": ["custom.plan"]}, changed("lead", Change("custom.planet", None, 1)), False),
        ({"record": "lead", "when": 'before.tier == "B" && lead.tier == "A"'}, changed("lead", TIER), True),
        ({"record": "lead", "when": 'before.tier == "C"'}, changed("lead", TIER), False),
        ({"record": "lead", "when": '"tier" in change.fields'}, changed("lead", TIER), True),
        ({"record": "opportunity", "when": 'opportunity.status == "won"'}, changed("opportunity", WON), True),
    ],
)
def test_record_changes_fire_triggers_that_ask_for_them(
    raw: dict[str, Any], event: EventFacts, expected: bool | None
) -> None:
    assert fires(raw, event, facts({"tier": "A"})) is expected


@pytest.mark.parametrize(
    ("segment", "event", "expected"),
    [
        ('lead.tier == "A"', changed("lead", TIER), True),
        ('lead.tier == "A"', changed("lead", Change("score", 1, 2)), False),  # it did before
        ('lead.tier == "B"', changed("lead", TIER), False),  # it does not now
        ('lead.tier == "A"', changed("lead", TIER, record_id="lead_0"), False),  # an older lead
        ('lead.tier == "A"', changed("lead", Change("tier", None, "A"), created=True), True),
        ('lead.tier == "A"', changed("contact", Change("city", None, "Bonn")), None),  # nothing it looks at
        ('contact.city == "Bonn"', changed("contact", Change("city", "Köln", "Bonn")), True),
        ('contact.city == "Bonn"', changed("contact", Change("city", None, "Bonn"), created=True), True),
        ('contact.city == "Bonn"', changed("contact", Change("email", None, "a@b")), False),
        ('"vip" in contact.lists', changed("contact", Change("lists", ["news"], ["news", "vip"])), True),
        ('"vip" in contact.lists', changed("contact", Change("lists", ["vip"], ["news", "vip"])), False),
        ("company.employees > 10", changed("company", Change("employees", 5, 20)), True),
        ("company.employees > 10", changed("company", Change("employees", 15, 20)), False),
        ("company.employees > 10", changed("contact", Change("company_id", None, "cmp_1")), True),
        ('opportunity.status == "won"', changed("opportunity", WON), True),
        ('opportunity.status == "won"', changed("opportunity", Change("amount", None, "1 EUR")), False),
        ('opportunity.status == "won"', changed("opportunity", WON, created=True), True),
        ('opportunity.status == "won"', changed("opportunity", WON, record_id="opp_0"), False),  # an older one
    ],
)
def test_a_segment_fires_on_the_way_in(segment: str, event: EventFacts, expected: bool | None) -> None:
    known = facts({"tier": "A", "score": 2}, lists=("news", "vip"), city="Bonn")
    assert fires({"segment": segment}, event, known) is expected


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_a_segment_is_entered_once_for_each_way_in(scores: list[int]) -> None:
    """Told one by one, as the matcher sees them in time, changes fire exactly where the condition begins to hold."""
    inside = "lead.score >= 3"
    before: int | None = None
    for score in scores:
        fired = fires({"segment": inside}, changed("lead", Change("score", before, score)), facts({"score": score}))
        assert fired is (score >= 3 and (before is None or before < 3))
        before = score

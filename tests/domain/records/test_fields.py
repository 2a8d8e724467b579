"""What a record's fields accept, and in which form they are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from core.domain.records.fields import STANDARD_FIELDS, missing_fields, validate_fields
from core.domain.records.values import parse_instant


@pytest.mark.parametrize(
    ("record_type", "given", "kept"),
    [
        ("contact", {"email": " Ada@Example.COM "}, {"email": "Ada@example.com"}),
        ("contact", {"first_name": "  Ada ", "last_name": ""}, {"first_name": "Ada", "last_name": None}),
        ("contact", {"phone": "+44  20 7946\t0000"}, {"phone": "+44 20 7946 0000"}),
        ("contact", {"phone": 442079460000}, {"phone": "442079460000"}),
        ("contact", {"employees": "120", "annual_revenue": "1.5"}, {"employees": 120, "annual_revenue": 1.5}),
        ("contact", {"employees": 120.0}, {"employees": 120}),
        ("contact", {"unsubscribed": "True"}, {"unsubscribed": True}),
        ("contact", {"timezone": "Europe/Berlin"}, {"timezone": "Europe/Berlin"}),
        ("contact", {"custom": {"plan": "pro", "seats": 3}}, {"custom.plan": "pro", "custom.seats": 3}),
        ("contact", {"custom": {"a": {"b": [1, "x", True]}}}, {"custom.a.b": [1, "x", True]}),
        ("contact", {"custom.plan": "pro"}, {"custom.plan": "pro"}),
        ("contact", {"custom": None, "job_title": None}, {"custom": None, "job_title": None}),
        ("lead", {"status": "working", "score": 70}, {"status": "working", "score": 70}),
    ],
)
def test_values_are_kept_in_one_form(record_type: str, given: dict[str, Any], kept: dict[str, Any]) -> None:
    assert validate_fields(record_type, given) == (kept, [])


@pytest.mark.parametrize(
    ("record_type", "given", "field", "reason", "way_out"),
    [
        ("contact", {"emial": "a@b.co"}, "fields.emial", "UNKNOWN_FIELD", "Did you mean email?"),
        ("contact", {"Favourite colour": "x"}, "fields.Favourite colour", "UNKNOWN_FIELD", "custom.Favourite_colour"),
        ("contact", {"email": "ada"}, "fields.email", "INVALID_EMAIL", "ada@example.com"),
        ("contact", {"email": 3}, "fields.email", "WRONG_TYPE", "JSON string"),
        ("contact", {"phone": "call me"}, "fields.phone", "INVALID_PHONE", "+44"),
        ("contact", {"timezone": "Berlin"}, "fields.timezone", "UNKNOWN_TIMEZONE", "Europe/Berlin"),
        ("contact", {"timezone": "localtime"}, "fields.timezone", "UNKNOWN_TIMEZONE", "Europe/Berlin"),
        ("contact", {"employees": "50-100"}, "fields.employees", "WRONG_TYPE", "JSON number"),
        ("contact", {"employees": True}, "fields.employees", "WRONG_TYPE", "JSON number"),
        ("contact", {"annual_revenue": float("inf")}, "fields.annual_revenue", "WRONG_TYPE", "JSON number"),
        ("contact", {"first_name": "x" * 201}, "fields.first_name", "TOO_LONG", ""),
        ("contact", {"company_id": "lead_1"}, "fields.company_id", "NOT_A_REFERENCE", ""),
        ("contact", {"custom": "pro"}, "fields.custom", "WRONG_TYPE", "{"),
        ("contact", {"custom": {"my plan": "x"}}, "fields.custom.my plan", "BAD_FIELD_NAME", "my_plan"),
        ("contact", {"custom": {"a": {"b": {"c": {"d": 1}}}}}, "fields.custom.a.b.c.d", "TOO_DEEP", "Flatten"),
        ("contact", {"custom": {"a": [[1]]}}, "fields.custom.a", "NESTED_LIST", ""),
        ("contact", {"custom": {"a": "x" * 8193}}, "fields.custom.a", "TOO_LONG", ""),
        ("contact", {"custom": {"a": list(range(101))}}, "fields.custom.a", "TOO_MANY_ITEMS", ""),
        ("contact", {"custom": {f"f{n}": n for n in range(201)}}, "fields.custom", "TOO_MANY_FIELDS", ""),
        ("lead", {"status": "qualifed"}, "fields.status", "UNKNOWN_VALUE", "Did you mean qualified?"),
        ("lead", {"qualified_at": "2026-03-02T09:00:00Z"}, "fields.qualified_at", "READ_ONLY_FIELD", "QualifyLead"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_the_way_out(
    record_type: str, given: dict[str, Any], field: str, reason: str, way_out: str
) -> None:
    _, violations = validate_fields(record_type, given)
    assert [(violation.field, violation.reason) for violation in violations] == [(field, reason)]
    assert way_out in violations[0].hint


def test_everything_wrong_is_told_at_once() -> None:
    accepted, violations = validate_fields("contact", {"emial": "x", "phone": "?", "city": "London"}, "contacts[3]")
    assert accepted == {"city": "London"}
    assert [violation.field for violation in violations] == ["contacts[3].emial", "contacts[3].phone"]


def test_a_bottomless_custom_object_is_refused_without_recursing_into_it() -> None:
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"a": nested}
    _, violations = validate_fields("contact", {"custom": {"a": nested}})
    assert {violation.reason for violation in violations} == {"TOO_DEEP"}


def test_control_characters_never_reach_the_store() -> None:
    accepted, _ = validate_fields("contact", {"first_name": "A\x00da", "custom": {"note": "a\x00b"}})
    assert accepted == {"first_name": "Ada", "custom.note": "ab"}


def test_a_new_record_lacks_what_it_must_have() -> None:
    assert [violation.field for violation in missing_fields("company", {})] == ["fields.name"]
    assert missing_fields("contact", {}) == []


def test_every_standard_field_says_what_it_is() -> None:
    for fields in STANDARD_FIELDS.values():
        for name, field in fields.items():
            assert field.name == name
            assert field.description.endswith(".")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2019-12-02T10:00:00.000Z", datetime(2019, 12, 2, 10, tzinfo=UTC)),
        ("2019-12-02T10:00:00+02:00", datetime(2019, 12, 2, 8, tzinfo=UTC)),
        ("2019-12-02T10:00:00", datetime(2019, 12, 2, 10, tzinfo=UTC)),
        ("2019-12-02", datetime(2019, 12, 2, tzinfo=UTC)),
    ],
)
def test_instants_are_read_as_utc(text: str, instant: datetime) -> None:
    assert parse_instant(text) == instant


def test_an_instant_beyond_the_calendar_is_no_instant() -> None:
    text = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))).isoformat()
    with pytest.raises(ValueError, match="out of range"):
        parse_instant(text)

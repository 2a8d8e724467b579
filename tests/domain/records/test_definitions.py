"""Fields of an organization's own: what may be defined, which values they take, and in which form those are stored."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.records.definitions import Definition, FieldKind, contradiction, problems, read
from core.domain.records.fields import check_path, fit_custom, missing_fields, validate_fields
from core.domain.records.schema import OwnType, build
from core.domain.records.values import BadValue

PLAN = Definition("plan", FieldKind.CHOICE, choices=("free", "pro"), required=True)
SEATS = Definition("seats", FieldKind.INTEGER, minimum=1, maximum=500)
CODE = Definition("code", FieldKind.STRING, pattern="[A-Z]{2}[0-9]+", unique=True)
OLD = Definition("old", FieldKind.STRING, archived=True)
SCHEMA = build(
    3,
    [OwnType("subscription", "Subscription", "Subscriptions", title_field="custom.code")],
    [("contact", PLAN), ("contact", SEATS), ("contact", OLD), ("subscription", CODE)],
)


@pytest.mark.parametrize(
    ("definition", "given", "stored"),
    [
        (Definition("a", FieldKind.STRING), "  x\x00y ", "xy"),
        (Definition("a", FieldKind.STRING), " ", None),
        (SEATS, "12", 12),
        (SEATS, 3.0, 3),
        (Definition("a", FieldKind.NUMBER), "1.50", 1.5),
        (Definition("a", FieldKind.BOOLEAN), "True", True),
        (Definition("a", FieldKind.INSTANT), "2026-03-02T10:00:00+01:00", "2026-03-02T09:00:00.000Z"),
        (Definition("a", FieldKind.DATE), "2026-03-02", "2026-03-02"),
        (PLAN, "pro", "pro"),
        (Definition("a", FieldKind.CHOICES, choices=("x", "y", "z")), ["z", "x", "z"], ["x", "z"]),
        (Definition("a", FieldKind.CHOICES, choices=("x",)), [], None),
        (Definition("a", FieldKind.EMAIL), "Ada@EXAMPLE.com", "Ada@example.com"),
        (Definition("a", FieldKind.PHONE), "+44 (0)20 7946 0000", "+442079460000"),
        (Definition("a", FieldKind.URL), "HTTPS://Example.com", "https://example.com/"),
        (Definition("a", FieldKind.MONEY), "0012.5 eur", "12.50 EUR"),
        (Definition("a", FieldKind.MONEY), "1200.00 EUR", "1200 EUR"),
        (CODE, "AB12", "AB12"),
        (Definition("a", FieldKind.REFERENCE, reference_type="company"), "cmp_1", "cmp_1"),
    ],
)
def test_a_value_has_one_form_in_which_it_is_stored(definition: Definition, given: Any, stored: Any) -> None:
    assert read(definition, given) == stored
    assert read(definition, stored) == stored
    assert not contradiction(definition, stored)


@pytest.mark.parametrize(
    ("definition", "given", "reason"),
    [
        (SEATS, "many", "WRONG_TYPE"),
        (SEATS, 0, "OUT_OF_RANGE"),
        (SEATS, 501, "OUT_OF_RANGE"),
        (PLAN, "por", "UNKNOWN_VALUE"),
        (Definition("a", FieldKind.CHOICES, choices=("x",)), "x", "WRONG_TYPE"),
        (Definition("a", FieldKind.CHOICES, choices=("x",)), ["y"], "UNKNOWN_VALUE"),
        (Definition("a", FieldKind.PHONE), "12345", "INVALID_PHONE"),
        (Definition("a", FieldKind.URL), "javascript:alert(1)", "NOT_A_URL"),
        (Definition("a", FieldKind.MONEY), "12", "NOT_MONEY"),
        (Definition("a", FieldKind.STRING, max_characters=3), "abcd", "TOO_LONG"),
        (CODE, "xAB12", "PATTERN_MISMATCH"),
        (OLD, "x", "FIELD_ARCHIVED"),
        (Definition("a", FieldKind.REFERENCE, reference_type="company"), "somebody", "NOT_A_REFERENCE"),
        (Definition("a", FieldKind.STRING), {"x": 1}, "WRONG_TYPE"),
    ],
)
def test_what_does_not_fit_is_refused(definition: Definition, given: Any, reason: str) -> None:
    with pytest.raises(BadValue) as refused:
        read(definition, given)
    assert refused.value.reason == reason


@given(st.sampled_from(list(FieldKind)), st.none() | st.text(max_size=40) | st.integers() | st.floats() | st.booleans())
def test_a_reader_answers_with_a_stored_form_or_with_a_reason(kind: FieldKind, value: Any) -> None:
    definition = Definition("a", kind, choices=("x",) if kind in ("choice", "choices") else ())
    with suppress(BadValue):
        assert not contradiction(definition, read(definition, value))


@pytest.mark.parametrize(
    ("definition", "wrong"),
    [
        (Definition("Plan", FieldKind.STRING), {"field.name"}),
        (Definition("a", FieldKind.BOOLEAN, unique=True), {"field.unique"}),
        (Definition("a", FieldKind.CHOICE), {"field.choices"}),
        (Definition("a", FieldKind.CHOICE, choices=("x", "x")), {"field.choices"}),
        (Definition("a", FieldKind.CHOICE, choices=("x", " ")), {"field.choices[1]"}),
        (Definition("a", FieldKind.STRING, choices=("x",), minimum=1), {"field.choices", "field.minimum"}),
        (Definition("a", FieldKind.INTEGER, minimum=2, maximum=1, pattern="x"), {"field.maximum", "field.pattern"}),
        (Definition("a", FieldKind.REFERENCE, reference_type="compnay"), {"field.reference_type"}),
        (
            Definition("a", FieldKind.STRING, pattern="(", max_characters=9000),
            {"field.pattern", "field.max_characters"},
        ),
        (Definition("a", FieldKind.STRING, pattern="((a{1,50}){1,50}){1,50}"), {"field.pattern"}),
        (Definition("a", FieldKind.STRING, pattern="(?=a)b"), {"field.pattern"}),
        (SEATS, set()),
        (CODE, set()),
    ],
)
def test_everything_wrong_with_a_definition_is_told_at_once(definition: Definition, wrong: set[str]) -> None:
    assert {one.field for one in problems(definition, SCHEMA.types)} == wrong


def test_own_fields_are_checked_with_all_others() -> None:
    given = {"employees": "x", "custom": {"plan": "por", "seats": "7", "free": "anything", "old": "x"}}
    accepted, violations = validate_fields("contact", given, schema=SCHEMA)
    assert accepted == {"custom.seats": 7, "custom.free": "anything"}
    assert [(one.field, one.reason) for one in violations] == [
        ("fields.custom.old", "FIELD_ARCHIVED"),
        ("fields.custom.plan", "UNKNOWN_VALUE"),
        ("fields.employees", "WRONG_TYPE"),
    ]
    assert "Did you mean pro?" in violations[1].hint


def test_a_new_record_must_have_what_is_required() -> None:
    assert [one.field for one in missing_fields("contact", {"email": "a@b.example"}, schema=SCHEMA)] == [
        "fields.custom.plan"
    ]
    _, wrong = fit_custom("contact", {"custom.plan": None}, "fields", SCHEMA)
    assert [(one.field, one.reason) for one in wrong] == [("fields.custom.plan", "REQUIRED")]
    _, wrong = fit_custom("contact", {"custom": None}, "", SCHEMA)
    assert [one.field for one in wrong] == ["custom.plan"]


def test_an_own_type_takes_only_what_is_defined() -> None:
    assert check_path("subscription", "custom.code", "x", SCHEMA) is None
    unknown = check_path("subscription", "custom.cdoe", "x", SCHEMA)
    assert unknown is not None
    assert "custom.code" in unknown.hint
    inside = check_path("contact", "custom.plan.x", "x", SCHEMA)
    assert inside is not None
    assert inside.reason == "WRONG_TYPE"


def test_a_title_is_what_people_call_a_record() -> None:
    contact, own = SCHEMA.of("contact"), SCHEMA.of("subscription")
    assert contact.title({"first_name": "Ada", "last_name": "King", "email": "a@b.example"}) == "Ada King"
    assert contact.title({"email": "a@b.example", "phone": "1"}) == "a@b.example"
    assert own.title({"name": "x", "custom": {"code": "AB1"}}) == "AB1"
    assert SCHEMA.of("note").title({"text": "word " * 100}).endswith("…")

"""The catalogue and the bodies made from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.domain.errors import Invalid
from core.domain.webhooks import event_types

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
texts = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


def test_every_type_has_a_dotted_name_of_its_own_and_a_valid_schema():
    names = [event_type.name for event_type in event_types.EVENT_TYPES]
    assert len(names) == len(set(names)) == len(event_types.CATALOGUE)
    for event_type in event_types.EVENT_TYPES:
        assert event_types.is_event_type_name(event_type.name)
        assert event_type.description.endswith(".")
        Draft202012Validator.check_schema(event_type.schema)


@pytest.mark.parametrize("text", ["deal.won", "a.b", "lead.tier_changed", "x1.y2.z3"])
def test_a_dotted_lower_case_name_can_be_an_event_type(text):
    assert event_types.is_event_type_name(text)


@pytest.mark.parametrize(
    "text", ["", "deal", "Deal.won", ".won", "deal.", "deal..won", "deal won.x", "a.b" * 60, "é.b"]
)
def test_other_names_cannot(text):
    assert not event_types.is_event_type_name(text)


def test_a_body_is_canonical_json():
    body = event_types.payload(
        "deal.won", datetime(2026, 3, 2, 10, 0, tzinfo=timezone(timedelta(hours=1))), {"b": "é", "a": NOW, "c": (1,)}
    )
    assert body == (
        '{"data":{"a":"2026-03-02T09:00:00Z","b":"é","c":[1]},"timestamp":"2026-03-02T09:00:00Z","type":"deal.won"}'
    )


@given(st.dictionaries(texts, json_values))
def test_a_body_reads_back_as_what_was_put_in(data):
    body = event_types.payload("deal.won", NOW, data)
    assert json.loads(body)["data"] == data
    assert body == event_types.payload("deal.won", NOW, dict(reversed(data.items())))


@pytest.mark.parametrize(
    "data", [{"a": float("nan")}, {"a": float("inf")}, {"a": "\ud800"}, {"a": object()}, {"a": {1}}]
)
def test_what_has_no_json_form_is_refused(data):
    with pytest.raises(Invalid) as caught:
        event_types.payload("deal.won", NOW, data)
    assert caught.value.violations[0].reason == "NOT_JSON"


def test_a_body_that_is_too_large_is_refused():
    with pytest.raises(Invalid) as caught:
        event_types.payload("deal.won", NOW, {"text": "é" * 131_072})
    assert caught.value.violations[0].reason == "PAYLOAD_TOO_LARGE"


def test_data_of_a_known_type_is_checked_and_every_violation_told():
    with pytest.raises(Invalid) as caught:
        event_types.payload(
            "lead.qualified", NOW, {"lead_id": "lead_1", "decision": "maybe", "score": "7", "tier": "A"}
        )
    assert {(v.field, v.reason) for v in caught.value.violations} == {
        ("data", "SCHEMA_VIOLATION"),
        ("data.decision", "SCHEMA_VIOLATION"),
        ("data.score", "SCHEMA_VIOLATION"),
    }


def test_unknown_fields_and_instants_fit_a_known_type():
    data = {"approval_id": "apr_1", "title": "Spend", "expires_at": NOW, "later": {"x": 1}}
    assert (
        json.loads(event_types.payload("approval.requested", NOW, data))["data"]["expires_at"] == "2026-03-02T09:00:00Z"
    )

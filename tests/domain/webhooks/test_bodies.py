"""Bodies in every form: canonical, complete, and the same whenever they are made."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import Invalid
from core.domain.webhooks import bodies
from core.domain.webhooks.bodies import Addresses, PayloadFormat

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
texts = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)
forms = st.sampled_from([PayloadFormat.EVENT, PayloadFormat.ARRAY])


def test_a_body_is_canonical_json():
    body = bodies.standard(
        "deal.won", datetime(2026, 3, 2, 10, 0, tzinfo=timezone(timedelta(hours=1))), {"b": "é", "a": NOW, "c": (1,)}
    )
    assert body == (
        '{"data":{"a":"2026-03-02T09:00:00Z","b":"é","c":[1]},"timestamp":"2026-03-02T09:00:00Z","type":"deal.won"}'
    )


@given(st.dictionaries(texts, json_values))
def test_a_body_reads_back_as_what_was_put_in(data):
    body = bodies.standard("deal.won", NOW, data)
    assert bodies.data_in(body) == data
    assert body == bodies.standard("deal.won", NOW, dict(reversed(data.items())))


@pytest.mark.parametrize(
    "data", [{"a": float("nan")}, {"a": float("inf")}, {"a": "\ud800"}, {"a": object()}, {"a": {1}}]
)
def test_what_has_no_json_form_is_refused(data):
    with pytest.raises(Invalid) as caught:
        bodies.standard("deal.won", NOW, data)
    assert caught.value.violations[0].reason == "NOT_JSON"


def test_a_body_that_is_too_large_is_refused():
    with pytest.raises(Invalid) as caught:
        bodies.standard("deal.won", NOW, {"text": "é" * 131_072})
    assert caught.value.violations[0].reason == "PAYLOAD_TOO_LARGE"


def test_data_of_a_known_type_is_checked_and_every_violation_told():
    with pytest.raises(Invalid) as caught:
        bodies.standard("lead.qualified", NOW, {"lead_id": "lead_1", "decision": "maybe", "score": "7", "tier": "A"})
    assert {(v.field, v.reason) for v in caught.value.violations} == {
        ("data", "SCHEMA_VIOLATION"),
        ("data.decision", "SCHEMA_VIOLATION"),
        ("data.score", "SCHEMA_VIOLATION"),
    }


def test_unknown_fields_and_instants_fit_a_known_type():
    data = {"approval_id": "apr_1", "title": "Spend", "expires_at": NOW, "later": {"x": 1}}
    assert bodies.data_in(bodies.standard("approval.requested", NOW, data))["expires_at"] == "2026-03-02T09:00:00Z"


def test_the_standard_form_is_the_messages_own():
    assert bodies.in_form(PayloadFormat.STANDARD, "org_1", "deal.won", NOW, {"a": 1}) is None


def test_the_event_form_names_event_account_and_instant():
    body = bodies.in_form(PayloadFormat.EVENT, "org_1", "reply.received", NOW, {"contact_id": "cnt_1"})
    assert body == (
        '{"created_at":"2026-03-02T09:00:00Z","data":{"contact_id":"cnt_1"},"event":"reply.received","user_id":"org_1"}'
    )


def test_the_array_form_is_one_object_with_a_variable_each():
    data = {"workflow_id": "wfl_1", "email": "a@example.com", "plan": "pro", "contact_id": "cnt_1", "n": {"x": [1]}}
    at = datetime(2026, 3, 2, 10, 4, 5, 999_999, tzinfo=timezone(timedelta(hours=1)))
    body = bodies.in_form(
        PayloadFormat.ARRAY, "org_1", "nurture.hot", at, data, Addresses("b@example.com", "+380631234567")
    )
    assert json.loads(body) == [
        {
            "automation_id": "wfl_1",
            "title": "nurture.hot",
            "execution_date": "2026-03-02 09:04:05",
            "email": "a@example.com",
            "phone": "+380631234567",
            "variables": [{"contact_id": "cnt_1"}, {"n": {"x": [1]}}, {"plan": "pro"}, {"workflow_id": "wfl_1"}],
        }
    ]


def test_the_array_form_has_empty_texts_for_what_nobody_knows():
    (only,) = json.loads(bodies.in_form(PayloadFormat.ARRAY, "org_1", "deal.won", NOW, {"email": 7}))
    assert only == {
        "automation_id": "",
        "title": "deal.won",
        "execution_date": "2026-03-02 09:00:00",
        "email": "",
        "phone": "",
        "variables": [{"email": 7}],
    }


@given(form=forms, data=st.dictionaries(texts, json_values))
def test_every_form_has_all_of_the_data_and_is_made_the_same_again(form, data):
    body = bodies.in_form(form, "org_1", "deal.won", NOW, data)
    assert body == bodies.in_form(form, "org_1", "deal.won", NOW, dict(reversed(data.items())))
    read = json.loads(body)
    if form is PayloadFormat.EVENT:
        assert read["data"] == data
    else:
        variables = {name: value for one in read[0]["variables"] for name, value in one.items()}
        assert variables == {n: v for n, v in data.items() if n not in ("email", "phone") or read[0][n] != v}


@pytest.mark.parametrize(
    ("data", "contact"),
    [
        ({"contact_id": "cnt_1"}, "cnt_1"),
        ({"record_type": "contact", "record_id": "cnt_2"}, "cnt_2"),
        ({"record_type": "lead", "record_id": "lead_2"}, ""),
        ({"record_type": "lead", "record_id": "lead_2", "contact_id": "cnt_3"}, "cnt_3"),
        ({"contact_id": 7}, ""),
        ({}, ""),
    ],
)
def test_an_event_tells_which_contact_it_is_about(data, contact):
    assert bodies.contact_of(data) == contact

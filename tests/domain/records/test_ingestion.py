"""An event is read before anything of it is stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.domain.records.ingestion import IncomingEvent, ReadEvent, read

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
SEED = IncomingEvent(
    event_type="lead",
    event_name="User signed up",
    source_id="034feb07-0cd7-4d44-bbdb-ae18a8a4132f",
    fields={"email": "test@driftrock.com", "first_name": "First name", "last_name": "Last name"},
)


def test_the_documented_body_is_read() -> None:
    assert read(SEED, NOW) == ReadEvent(
        event_type="lead",
        event_name="User signed up",
        source_id="034feb07-0cd7-4d44-bbdb-ae18a8a4132f",
        fields=SEED.fields or {},
        occurred_at=NOW,
        message_id="",
        contact_fields={"email": "test@driftrock.com", "first_name": "First name", "last_name": "Last name"},
        identifiers=(),
    )


@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"event_type": "leads"}, "event_type", "UNKNOWN_EVENT_TYPE"),
        ({"event_type": ""}, "event_type", "REQUIRED"),
        ({"event_name": " "}, "event_name", "REQUIRED"),
        ({"source_id": ""}, "source_id", "REQUIRED"),
        ({"fields": None}, "fields", "REQUIRED"),
        ({"fields": {"email": "nobody"}}, "fields.email", "INVALID_EMAIL"),
        ({"created_at": "yesterday"}, "created_at", "NOT_AN_INSTANT"),
        ({"created_at": "2026-03-03T09:00:01Z"}, "created_at", "OCCURRED_IN_FUTURE"),
        ({"person_id": "x" * 201}, "person_id", "TOO_LONG"),
    ],
)
def test_a_bad_event_is_refused_by_field(changed: dict[str, object], field: str, reason: str) -> None:
    found = read(replace(SEED, **changed), NOW)  # type: ignore[arg-type]
    assert isinstance(found, list)
    assert [(violation.field, violation.reason) for violation in found] == [(field, reason)]


def test_late_events_and_clocks_an_hour_ahead_are_taken() -> None:
    for created_at in ("2019-12-02T10:00:00.000Z", (NOW + timedelta(hours=1)).isoformat()):
        found = read(replace(SEED, created_at=created_at), NOW)
        assert isinstance(found, ReadEvent)
        assert found.occurred_at == datetime.fromisoformat(created_at)


def test_junk_ids_identify_nobody() -> None:
    found = read(replace(SEED, person_id="undefined", event_id="0", ga_client_id="GA1.2.3"), NOW)
    assert isinstance(found, ReadEvent)
    assert found.identifiers == (("ga_client_id", "GA1.2.3"),)


def test_what_a_form_calls_by_a_contact_fields_name_stays_with_the_event() -> None:
    found = read(replace(SEED, fields={"employees": "50-100", "question_1": "x", "unsubscribed": True}), NOW)
    assert isinstance(found, ReadEvent)
    assert (found.contact_fields, found.left_out) == ({}, ("employees",))

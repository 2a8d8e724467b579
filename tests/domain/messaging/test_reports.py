"""Reports of bounces, complaints and unsubscribes are read from whatever an event carries, and never break."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.messaging.reports import EVENTS, Report, read

ADA = "ada@example.com"


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("message.bounced", {"email": ADA}, Report("bounced", True, "", "email", ADA, "")),
        ("message.bounced", {"email": ADA, "kind": "Hard"}, Report("bounced", True, "", "email", ADA, "")),
        ("message.bounced", {"email": ADA, "kind": "soft"}, Report("bounced", False, "", "email", ADA, "")),
        ("message.bounced", {"email": ADA, "kind": "undetermined"}, Report("bounced", False, "", "email", ADA, "")),
        ("message.complained", {"message_id": "msg_1"}, Report("complained", True, "msg_1", "email", "", "")),
        (
            "message.unsubscribed",
            {"message_id": "<msg_1@acme.example>", "purpose": "news"},
            Report("unsubscribed", True, "msg_1", "email", "", "news"),
        ),
        ("message.bounced", {"message_id": "SM123"}, Report("bounced", True, "SM123", "email", "", "")),
        ("message.bounced", {"phone": "+44 20"}, Report("bounced", True, "", "sms", "+44 20", "")),
        (
            "message.bounced",
            {"address": "@ada", "channel": "dm", "email": ADA},
            Report("bounced", True, "", "dm", "@ada", ""),
        ),
        ("message.bounced", {"email": 7, "message_id": None}, None),
        ("message.bounced", {}, None),
        ("message.sent", {"email": ADA}, None),
    ],
)
def test_a_report_is_read(name: str, fields: dict[str, Any], expected: Report | None) -> None:
    assert read(name, fields) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=600),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["email", "phone", "address", "message_id", "kind", "channel", "purpose"])


@given(st.sampled_from(sorted(EVENTS)), st.dictionaries(KEYS, JSON))
def test_no_report_breaks_what_reads_it(name: str, fields: dict[str, Any]) -> None:
    found = read(name, fields)
    if found is not None:
        assert (found.address + found.message_id).isprintable()
        assert len(found.address) <= 400

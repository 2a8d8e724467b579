"""The catalogue."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from core.domain.webhooks import event_types


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

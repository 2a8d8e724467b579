"""Limits of keys: what they let through, and that nobody grants more than they have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.control import key_limits
from core.domain.control.key_limits import LISTS, UNLIMITED, KeyLimits

FIELDS = ("contact.*", "contact.tier", "contact.email", "contact.custom", "contact.custom.plan", "lead.custom.plan.a")
limits = st.builds(
    KeyLimits,
    methods=st.frozensets(st.sampled_from(["A.B", "A.C"])),
    record_types=st.frozensets(st.sampled_from(["contact", "lead"])),
    writable_fields=st.frozensets(st.sampled_from(FIELDS), max_size=3),
    hidden_fields=st.frozensets(st.sampled_from(FIELDS), max_size=3),
    workflow_ids=st.frozensets(st.sampled_from(["one", "two"])),
    project_ids=st.frozensets(st.sampled_from(["p", "q"])),
)
PATHS = ("tier", "email", "custom", "custom.plan", "custom.plan.a", "custom.other")


@given(limits, limits)
def test_what_may_be_granted_never_does_more(own: KeyLimits, wanted: KeyLimits) -> None:
    if key_limits.beyond(wanted, own):
        return
    for method in ("A.B", "A.C", "A.D"):
        assert own.allow_method(method) or not wanted.allow_method(method)
    for record_type in ("contact", "lead", "company"):
        assert own.allow_type(record_type) or not wanted.allow_type(record_type)
        for path in PATHS:
            assert own.allow_writing(record_type, path) or not wanted.allow_writing(record_type, path)
            assert not own.hide(record_type, path) or wanted.hide(record_type, path)
    for workflow, project in (("one", "p"), ("two", "q"), ("one", None), ("three", "r")):
        assert own.allow_workflow(workflow, project) or not wanted.allow_workflow(workflow, project)


@given(limits)
def test_a_key_may_grant_what_it_is_itself_and_limits_are_stored_whole(own: KeyLimits) -> None:
    assert key_limits.beyond(own, own) == []
    assert key_limits.beyond(own, UNLIMITED) == []
    assert key_limits.from_json(key_limits.to_json(own)) == own


def test_without_limits_everything_is_let_through() -> None:
    assert UNLIMITED.allow_method("A.B")
    assert UNLIMITED.allow_writing("contact", "custom.plan")
    assert UNLIMITED.allow_workflow("one", None)
    assert not UNLIMITED.hide("contact", "email")
    assert key_limits.from_json(None) == UNLIMITED


@pytest.mark.parametrize(
    ("writable", "hidden", "path", "allowed"),
    [
        ({"contact.tier"}, set(), "tier", True),
        ({"contact.tier"}, set(), "email", False),
        ({"contact.*"}, set(), "custom.plan", True),
        ({"lead.*"}, set(), "tier", False),
        ({"contact.custom"}, set(), "custom.plan.a", True),
        ({"contact.custom.plan"}, set(), "custom", False),
        (set(), {"contact.custom.plan"}, "custom", False),
        (set(), {"contact.custom.plan"}, "custom.plan", False),
        (set(), {"contact.custom.plan"}, "custom.other", True),
        ({"contact.*"}, {"contact.email"}, "email", False),
    ],
)
def test_a_field_is_written_where_it_is_named_and_not_hidden(
    writable: set[str], hidden: set[str], path: str, allowed: bool
) -> None:
    made = KeyLimits(writable_fields=frozenset(writable), hidden_fields=frozenset(hidden))
    assert made.allow_writing("contact", path) is allowed


def test_names_that_name_nothing_are_refused_with_the_nearest() -> None:
    given_lists: dict[str, list[str]] = {name: [] for name in LISTS}
    given_lists |= {
        "methods": ["RecordService.UpdateRecords"],
        "record_types": ["contacts"],
        "writable_fields": ["contact.tier", "tier", "contcat.tier", "contact.custom.*"],
        "hidden_fields": ["contact.*"],
    }
    found = key_limits.check(given_lists, {"RecordService.UpdateRecord"}, {"contact", "lead"})
    assert [(one.field, one.reason) for one in found] == [
        ("limits.methods[0]", "UNKNOWN_NAME"),
        ("limits.record_types[0]", "UNKNOWN_NAME"),
        ("limits.writable_fields[1]", "BAD_FIELD"),
        ("limits.writable_fields[2]", "UNKNOWN_NAME"),
        ("limits.writable_fields[3]", "BAD_FIELD"),
    ]
    assert found[0].hint == "Did you mean RecordService.UpdateRecord?"

"""What the kept record gains, as rules alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.messaging.consent import Answer
from core.domain.records import changes
from core.domain.records.identity import Identifier
from core.domain.records.merging import Held, Known, fill, may_join, pair_of, sort, stricter

FILLINGS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({}, {"city": "Rome"}, {"city": "Rome"}, ()),
    ({"city": "Rome"}, {"city": "Rome"}, {}, ()),
    ({"city": "Rome"}, {"city": "Paris"}, {}, ("city",)),
    ({"city": ""}, {"city": "Paris"}, {"city": "Paris"}, ()),
    ({"employees": 0}, {"employees": 5}, {}, ("employees",)),
    ({"unsubscribed": False}, {"unsubscribed": True}, {"unsubscribed": True}, ()),
    ({"unsubscribed": True}, {"unsubscribed": False}, {}, ()),
    ({}, {"unsubscribed": False}, {}, ()),
    ({"custom": {"a": 1}}, {"custom": {"a": True, "b": 2}}, {"custom.b": 2}, ("custom.a",)),
    ({"custom": {"a": 1}}, {"custom": {"a": {"b": 2}}}, {}, ("custom.a.b",)),
    ({"custom": {"a": {"b": 2}}}, {"custom": {"a": 1}}, {}, ("custom.a",)),
]


@pytest.mark.parametrize(("kept", "merged", "patch", "differing"), FILLINGS)
def test_fields_that_the_kept_record_lacks_are_filled(
    kept: dict[str, Any], merged: dict[str, Any], patch: dict[str, Any], differing: tuple[str, ...]
) -> None:
    found = fill("contact", kept, merged)
    assert (dict(found.patch), found.differing) == (patch, differing)


LEAVES = st.one_of(st.integers(0, 3), st.booleans(), st.sampled_from(["", "a", "b"]))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "city": st.sampled_from(["Rome", "Paris", ""]),
        "unsubscribed": st.booleans(),
        "custom": st.recursive(
            LEAVES, lambda inner: st.dictionaries(st.sampled_from("xyz"), inner), max_leaves=5
        ).filter(lambda value: isinstance(value, dict)),
    },
)


@given(FIELDS, FIELDS)
def test_filling_loses_nothing_and_a_second_time_fills_nothing(kept: dict[str, Any], merged: dict[str, Any]) -> None:
    patch = fill("contact", kept, merged).patch
    made = changes.diff(kept, patch)
    after = changes.apply(kept, made)
    assert not fill("contact", after, merged).patch
    for path in ("city", "custom"):
        if kept.get(path):
            assert path in after
    assert dict(_leaves(changes.as_of(after, reversed(made)))) == dict(_leaves(kept))


def _leaves(fields: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def test_enrollments_move_by_workflow_and_key() -> None:
    kept = [Held("k1", "nurture", "", False), Held("k2", "orders", "1", True)]
    merged = [
        Held("m1", "nurture", "", False),
        Held("m2", "orders", "1", True),
        Held("m3", "orders", "2", False),
        Held("m4", "care", "", True),
    ]
    sorting = sort(kept, merged)
    assert (sorting.moving, sorting.ending) == (("m3", "m4"), ("m1",))


AT = datetime(2026, 3, 2, tzinfo=UTC)
ANSWERS = st.lists(
    st.builds(
        Answer, st.sampled_from(["email", "sms", "*"]), st.sampled_from(["news", "*"]), st.booleans(), st.just(AT)
    ),
    unique_by=lambda one: (one.channel, one.purpose),
    max_size=5,
)


@given(ANSWERS, ANSWERS)
def test_what_either_refused_stays_refused(kept: list[Answer], merged: list[Answer]) -> None:
    found = stricter(kept, merged)
    said = {(one.channel, one.purpose): one.granted for one in [*kept, *found.moving, *found.restated]}
    said |= dict.fromkeys(((one.channel, one.purpose) for one in found.refusing), False)
    for one in [*kept, *merged]:
        if not one.granted:
            assert said[one.channel, one.purpose] is False
    if any(not one.granted for one in kept):
        assert not [one for one in found.moving if one.granted]


E, P = ("email", "ada@example.com"), ("person_id", "P1")


@pytest.mark.parametrize(
    ("found", "pair"),
    [
        ({E: "A", P: "B"}, ("A", "B")),
        ({E: "A", P: "A"}, None),
        ({E: "A"}, None),
        ({E: "A", P: "B", ("ext:crm", "1"): "C"}, None),
        ({E: "A", P: "B", ("event_id", "1"): "B"}, ("A", "B")),
        ({E: "A", P: "B", ("phone", "+441"): "C"}, ("A", "B")),
    ],
)
def test_an_event_speaks_of_a_pair_only_if_nobody_else_is_named(
    found: dict[Identifier, str], pair: tuple[str, str] | None
) -> None:
    assert pair_of(found) == pair


@pytest.mark.parametrize(
    ("by_email", "email", "by_person_id", "safe"),
    [
        ({E}, None, {P}, True),
        ({E, ("ext:crm", "1")}, None, {P, ("ext:shop", "1")}, True),
        ({E, ("ext:crm", "1")}, None, {P, ("ext:crm", "2")}, False),
        ({E, ("person_id", "P2")}, None, {P}, False),
        ({E}, "bob@example.com", {P}, False),
        ({E}, None, {P, ("email", "bob@example.com")}, False),
    ],
)
def test_two_are_joined_unasked_only_if_nothing_tells_them_apart(
    by_email: set[Identifier], email: str | None, by_person_id: set[Identifier], safe: bool
) -> None:
    assert may_join(Known("A", "ada@example.com", by_email), Known("B", email, by_person_id)) is safe

"""Ids sort by time and say what they name; keys betray a typing mistake without a query."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ids
from core.domain import names

instants = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(instants, instants, st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_id_order_is_time_order(one: datetime, other: datetime, a: int, b: int) -> None:
    if other - one >= timedelta(milliseconds=1):
        assert names.compose("enr", one, a) < names.compose("enr", other, b)


@given(instants, st.integers(0, 2**80 - 1))
def test_an_id_tells_when_it_was_made(at: datetime, entropy: int) -> None:
    assert abs(names.minted_at(names.compose("evt", at, entropy)) - at) <= timedelta(milliseconds=1)
    number = (int(at.timestamp() * 1000) << 80) | (entropy & ((1 << 80) - 1))
    digits = "".join(names.ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
    assert names.compose("evt", at, entropy) == f"evt_{digits}"


@given(instants, st.text(), st.integers())
def test_a_derived_id_is_the_same_every_time_and_differs_by_its_parts(at: datetime, part: str, number: int) -> None:
    assert names.derive("msg", at, part, number) == names.derive("msg", at, part, number)
    assert names.derive("msg", at, part, number) != names.derive("msg", at, part, number + 1)


@pytest.mark.parametrize("text", ["", "enr", "enr_short", "enr_!!!!!!!!!!!!!!!!!!!!!!!!!!"])
def test_what_is_not_an_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        names.minted_at(text)


def test_a_new_key_is_well_formed_and_a_mistyped_one_is_not() -> None:
    key = ids.new_api_key()
    assert ids.api_key_is_well_formed(key)
    for position in range(len(ids.KEY_PREFIX), len(key)):
        other = "A" if key[position] != "A" else "B"
        assert not ids.api_key_is_well_formed(key[:position] + other + key[position + 1 :])


@pytest.mark.parametrize("key", ["", "dripstone_live_", "sk_live_" + "a" * 36, "dripstone_live_" + "é" * 36])
def test_a_foreign_key_is_not_well_formed(key: str) -> None:
    assert not ids.api_key_is_well_formed(key)

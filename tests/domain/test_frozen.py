"""Frozen values: equal, hashed and shown by their fields, as a dataclass is."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import pytest

from core.domain.frozen import copied, frozen


@frozen
class Key:
    name: str
    secret: str = field(default="", repr=False)
    seen: int = field(default=0, compare=False)


@frozen
class Alone:
    amount: float


@frozen
class Nothing:
    pass


@frozen
class Loose:
    """Says itself what it equals, and how it is shown."""

    name: str
    times: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<{self.name}>"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (Key("a", "s"), Key("a", "s", 9), True),
        (Key("a", "s"), Key("a", "t"), False),
        (Key("a"), ("a", "", 0), False),
        (Alone(1.0), Alone(1), True),
        (Alone(1.0), 1.0, False),
        (Nothing(), Nothing(), True),
        (Nothing(), Alone(0), False),
        (Loose("a", 1), Loose("a", 2), True),
    ],
)
def test_values_are_equal_where_their_compared_fields_are(one: Any, other: Any, equal: bool) -> None:
    assert (one == other) is equal
    assert (one != other) is not equal
    assert not equal or hash(one) == hash(other)


def test_what_is_not_for_show_is_not_shown() -> None:
    assert repr(Key("a", "s", 2)) == "Key(name='a', seen=2)"
    assert (repr(Nothing()), repr(Loose("a", 1))) == ("Nothing()", "<a>")


def test_a_copy_differs_in_what_was_changed() -> None:
    assert copied(Loose("a", 1), name="b") == Loose("b", 1)

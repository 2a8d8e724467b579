"""Frozen values: equal, hashed and shown by their fields, as a dataclass is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

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
class Lock:
    opens: Key = Key("master")
    tried: list[str] = field(default_factory=list)


@frozen
class Word:
    """Works out a field by itself."""

    text: str
    size: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("a word has letters")
        own: Any = self
        own.size = len(self.text)


class Shape:
    """Gives methods and constants to those who extend it."""

    __slots__ = ()

    sides: ClassVar[int] = 0

    def told(self) -> str:
        return f"{self.sides} sides"


@frozen
class Square(Shape):
    sides: ClassVar[int] = 4

    width: float


@frozen
class Numbered(Mapping[str, int]):
    """Is told apart by its field, though it is empty as a mapping."""

    number: int

    def __getitem__(self, name: str) -> int:
        return self.number

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


_T = TypeVar("_T")


@frozen
class Box(Generic[_T]):
    inside: _T


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
        (Word("abc"), Word("abc"), True),
        (Square(1), Square(2), False),
        (Numbered(1), Numbered(1), True),
        (Numbered(1), Numbered(2), False),
        (Numbered(1), {}, False),
        (Box(Alone(1)), Box(Alone(1)), True),
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
    assert copied(Word("abc"), text="ab").size == 2


def test_a_copy_has_no_fields_of_its_own() -> None:
    with pytest.raises(TypeError, match="times_more"):
        copied(Loose("a", 1), times_more=2)


def test_it_is_a_dataclass_to_others() -> None:
    assert is_dataclass(Key)
    assert [one.name for one in fields(Key)] == ["name", "secret", "seen"]
    assert replace(Key("a", seen=2), name="b") == Key("b")
    assert asdict(Lock(tried=["x"])) == {"opens": {"name": "master", "secret": "", "seen": 0}, "tried": ["x"]}


def test_values_are_taken_apart_by_place_and_by_name() -> None:
    match Key("a", "s", 3):
        case Key(name, secret, seen=seen):
            assert (name, secret, seen) == ("a", "s", 3)


@pytest.mark.parametrize("made", [lambda: Key(), lambda: Key("a", "s", 1, 2), lambda: Key("a", color="red")])
def test_what_does_not_fit_the_fields_is_refused(made: Callable[[], Key]) -> None:
    with pytest.raises(TypeError):
        made()


def test_what_is_made_by_default_is_made_each_time_and_what_stands_there_is_shared() -> None:
    assert Lock().tried is not Lock().tried
    assert Lock().opens is Lock().opens


def test_a_value_may_check_itself_and_work_out_a_field() -> None:
    assert (Word("abc").size, repr(Word("abc"))) == (3, "Word(text='abc')")
    with pytest.raises(ValueError, match="letters"):
        Word("")


def test_bases_give_methods_and_constants() -> None:
    assert (Square(2).told(), repr(Square(2))) == ("4 sides", "Square(width=2)")
    assert isinstance(Numbered(3), Mapping)
    assert Numbered(3)["any"] == 3
    assert Box[int](1) == Box(1)


@pytest.mark.parametrize("value", [Key("a", "s", 3), Lock(), Word("abc"), Square(2), Numbered(1), Box("b"), Nothing()])
def test_values_are_small_and_travel(value: Any) -> None:
    assert not hasattr(value, "__dict__")
    for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert (other, repr(other)) == (value, repr(value))


def test_what_holds_what_changes_is_not_hashed() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Lock())


def test_a_frozen_class_has_no_heirs() -> None:
    class Heir(Alone):
        more: int = 0

    with pytest.raises(TypeError, match="Heir extends a frozen class"):
        frozen(Heir)

"""The dataclass of what never changes: frozen to whoever reads and checks the code, quick to make and quick to load.

`dataclass(frozen=True)` gives each field its value through `object.__setattr__`; a value of ten fields then takes six
times as long to make, and every enrollment that moves makes some fifty of them. So here nothing stands in the way of an
assignment at run time: the type checker refuses it before. It also writes and compiles six methods for each class,
which for some hundred classes takes longer than loading their modules; here it writes `__init__`, and the others
read the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[_T]) -> type[_T]:
    """Make a class a slotted dataclass that nobody may change, equal where its fields are."""
    own = cls.__dict__
    made: Any = dataclass(slots=True, eq=False, repr=False)(cls)
    if "__repr__" not in own:
        made.__repr__ = _shown
    compared = [one.name for one in fields(made) if one.compare]
    if len(compared) == 1:
        compared *= 2  # what reads one field alone gives its value, not a tuple
    equal, hashed = _by(attrgetter(*compared) if compared else lambda _: ())
    if "__eq__" not in own:
        made.__eq__ = equal
    if own.get("__hash__") is None:
        made.__hash__ = hashed
    kind: type[_T] = made
    return kind


def _by(compared: Callable[[Any], Any]) -> tuple[Callable[[Any, object], Any], Callable[[Any], int]]:
    """Return what compares two values of a class by some of their fields, as a tuple, and what hashes one by them."""

    def equal(self: Any, other: object) -> Any:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(compared(self))

    return equal, hashed


@recursive_repr()
def _shown(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({shown})"


def copied(value: _T, **changes: Any) -> _T:
    """Return a copy of a frozen value with some fields changed: `dataclasses.replace` in less than half its time."""
    kind: Any = type(value)
    made: _T = kind(*_all_of(kind)(value))
    for name, changed in changes.items():
        setattr(made, name, changed)
    return made


@cache
def _all_of(kind: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads every field of a class that has two at least."""
    return attrgetter(*(one.name for one in fields(kind)))

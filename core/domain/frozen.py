"""The dataclass of what never changes: frozen to whoever reads and checks the code, quick to make and quick to load.

An enrollment that moves makes some thirty such values. So a frozen class is a `msgspec.Struct` beneath: C code fills in
its fields, compares and copies them, in a third of the time that methods written in Python take, and no such method is
written and compiled at a start, which for some hundred classes took longer than loading their modules. To `dataclasses`
and to the type checker it is a dataclass like any other.

Nothing stands in the way of an assignment at run time: the type checker refuses it before. What a frozen class extends
gives it methods and constants, never fields, and has `__slots__ = ()`, so that values stay small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, Protocol, TypeVar, cast, dataclass_transform

import msgspec
from msgspec import Struct, StructMeta

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[_T]) -> type[_T]:
    """Make a class one whose values nobody may change, equal where their fields are."""
    if issubclass(cls, Struct):
        raise TypeError(f"{cls.__name__} extends a frozen class, and those have no heirs")
    # Tells others of the fields, and writes no method.
    described: Any = dataclass(init=False, repr=False, eq=False)(cls)
    declared = fields(described)
    body = {name: value for name, value in described.__dict__.items() if name not in ("__dict__", "__weakref__")}
    for one in declared:
        if one.default_factory is not MISSING:
            body[one.name] = msgspec.field(default_factory=one.default_factory)
        elif isinstance(one.default, Struct):  # which msgspec takes only from a function
            body[one.name] = msgspec.field(default_factory=_giving(one.default))
        elif not one.init:
            body[one.name] = None  # until `__post_init__` gives it a value
    compared = [one.name for one in declared if one.compare]
    if len(compared) == 1:
        compared *= 2  # what reads one field alone gives its value, not a tuple
    equal, hashed = _by(attrgetter(*compared) if compared else lambda _: ())
    if not all(one.compare for one in declared):
        body.setdefault("__eq__", equal)
    if body.get("__hash__") is None:
        body["__hash__"] = hashed
    body.setdefault("__repr__", _shown)
    body["__qualname__"] = cls.__qualname__
    bases = (one for one in cls.__bases__ if one is not object)
    kind: type[_T] = _metaclass(type(cls))(cls.__name__, (Struct, *bases), body)
    return kind


def _metaclass(own: type[Any]) -> Any:
    """Return what makes a struct, and what else the class is: one that extends `Mapping` is made by `ABCMeta`."""
    return StructMeta if own is type else type(own.__name__, (own, StructMeta), {})


def _giving(value: Any) -> Callable[[], Any]:
    return lambda: value


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


class _Copied(Protocol):
    def __call__(self, value: _T, /, **changes: Any) -> _T:
        """Return a copy of a frozen value with some fields changed: `dataclasses.replace` in a tenth of its time."""


copied = cast("_Copied", msgspec.structs.replace)

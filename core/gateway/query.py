"""Query parameters: text that fills the fields which neither the path nor the body carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from core.domain.errors import invalid
from core.domain.frozen import frozen
from core.gateway.problems import Problems
from core.gateway.values import REFUSED, WELL_KNOWN, Convert, Fill, from_text, is_map

_MOST = 200
_TEXTUAL = ("google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask")


@frozen
class Parameter:
    """One field that a query can fill."""

    path: tuple[str, ...]
    """Names from the request down to the field."""
    field: FieldDescriptor
    convert: Convert | None
    fill: Fill | None

    @property
    def name(self) -> str:
        """Return the name in the query, such as `endpoint.url`."""
        return ".".join(self.path)

    def set(self, request: Message, texts: list[str], problems: Problems) -> None:
        """Put the values into the request."""
        target: Any = request
        for name in self.path[:-1]:
            target = getattr(target, name)
        last = self.path[-1]
        if len(texts) > 1 and not self.field.is_repeated:
            problems.add(self.name, "GIVEN_TWICE", "is given twice", "Give it once.")
            return
        for index, text in enumerate(texts):
            if self.fill is not None:
                self.fill(getattr(target, last), text, self.name, problems)
            elif self.convert is not None:
                place = f"{self.name}[{index}]" if self.field.is_repeated else self.name
                value = self.convert(text, place, problems)
                if value is not REFUSED and self.field.is_repeated:
                    getattr(target, last).append(value)
                elif value is not REFUSED:
                    setattr(target, last, value)


@cache  # every core of a process has the same contract
def parameters(descriptor: Descriptor, without: frozenset[str]) -> Mapping[str, Parameter]:
    """Return what a query can fill by every accepted name, leaving out the fields at the paths `without`."""
    known: dict[str, Parameter] = {}
    for parameter in _walk(descriptor, (), without):
        known[parameter.name] = parameter
        camel = ".".join(_camel(name) for name in parameter.path)
        known.setdefault(camel, parameter)
    return known


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _walk(descriptor: Descriptor, above: tuple[str, ...], without: frozenset[str]) -> Iterable[Parameter]:
    for field in descriptor.fields:
        path = (*above, field.name)
        if ".".join(path) in without or is_map(field):
            continue
        kind = field.message_type
        if kind is None:
            yield Parameter(path, field, from_text(field), None)
        elif kind.full_name in _TEXTUAL and not field.is_repeated:
            yield Parameter(path, field, None, WELL_KNOWN[kind.full_name])
        elif not kind.full_name.startswith("google.") and not field.is_repeated:
            yield from _walk(kind, path, without)


def pairs(query: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a query string. Raises Invalid."""
    try:
        # Percent escapes are ASCII; anything else in a query string is a client that did not escape.
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST)
    except UnicodeDecodeError:
        raise invalid("query", "NOT_UTF8", "is not UTF-8", "Percent-encode it as UTF-8.") from None
    except ValueError:
        raise invalid("query", "TOO_MANY_ITEMS", f"has more than {_MOST} parameters") from None


def fill(request: Message, query: bytes, known: Mapping[str, Parameter], elsewhere: str, problems: Problems) -> None:
    """Set the fields that a query names. `elsewhere` tells where the other fields of the request belong."""
    given: dict[str, tuple[Parameter, list[str]]] = {}
    for name, text in pairs(query):
        parameter = known.get(name)
        if parameter is None:
            own = {each.name for each in known.values()}
            problems.unknown(name[:200], name, own, "a query parameter of this route", elsewhere)
        else:
            given.setdefault(parameter.name, (parameter, []))[1].append(text)
    for parameter, texts in given.values():
        parameter.set(request, texts, problems)

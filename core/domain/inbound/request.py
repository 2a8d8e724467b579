"""A request as it came to an inbound URL, before anybody believes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field

from core.domain.frozen import frozen
from core.domain.workflow.storable import storable_text

LARGEST_BODY = 1024 * 1024
"""In bytes."""
LARGEST_HEADERS = 16 * 1024
"""Bytes of all names and values together."""
MOST_HEADERS = 100
LONGEST_QUERY = 8 * 1024

_SECRET = re.compile(r"authorization|cookie|token|secret|password|api-?_?key")


@frozen
class Arrived:
    """One request."""

    body: bytes = field(repr=False)
    """Every byte as it came: what signatures are made over."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By lower-case name; several of one name are joined by a comma."""
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def content_type(self) -> str:
        """Return the media type alone, in lower case; empty where none is told."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by lower-case name; several of one name count as one, joined by a comma."""
    found: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def without_secrets(named: Mapping[str, str]) -> dict[str, str]:
    """Return headers or query parameters without those that carry secrets: what mappings see and what is kept."""
    return {
        storable_text(name): storable_text(value) for name, value in named.items() if not _SECRET.search(name.lower())
    }

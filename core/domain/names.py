"""Ids: time-ordered, with a prefix that says what they name."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache

from core.domain.records.standard import ID_PREFIXES, OBJECT_PREFIX

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: sorts like the number and reads aloud."""

PREFIXES = {
    "org": "organization",
    "mem": "member",
    "key": "api key",
    "prj": "project",
    **{prefix: record_type for record_type, prefix in ID_PREFIXES.items()},
    OBJECT_PREFIX: "object of an organization's own type",
    "chg": "record change",
    "src": "source",
    "evt": "event",
    "wfl": "workflow",
    "enr": "enrollment",
    "agt": "agent",
    "exe": "execution",
    "apr": "approval",
    "pln": "plan",
    "ep": "endpoint",
    "msg": "message",
    "dlv": "delivery",
    "tsk": "agent task",
    "dl": "dead letter",
    "ask": "question of a step",
    "lsc": "list change",
    "out": "count of outcomes",
    "sup": "suppression",
    "cch": "change of consent",
    "rpl": "replay",
    "con": "connection",
    "syn": "sync",
    "sit": "sync item",
    "lse": "lease",
    "req": "call",
    "mrg": "merge",
    "idc": "identity conflict",
    "qtn": "quarantined event",
    "imp": "import",
    "dup": "pair of duplicates",
    "era": "erasure",
    "asg": "assignment",
}
"""Every prefix and the noun it stands for."""

RECORD_PREFIXES = ID_PREFIXES
"""Standard record type to id prefix."""

BUCKETS = 1024
"""Number of buckets that organizations are spread over; the unit of moving data between databases."""

_ENTROPY, _LOW, _TIME = (1 << 80) - 1, (1 << 40) - 1, (1 << 50) - 1
_PAIRS = tuple(one + other for one in ALPHABET for other in ALPHABET)
"""Two characters for each ten bits: an id is made of thirteen of them instead of twenty-six."""

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")


def compose(prefix: str, at: datetime, entropy: int) -> str:
    """Return `<prefix>_` + 26 characters: 48 bits of milliseconds, then the 80 lowest bits of `entropy`."""
    entropy &= _ENTROPY
    high, low = entropy >> 40, entropy & _LOW
    return (
        f"{prefix}_{_time_of(at)}"
        f"{_PAIRS[high >> 30]}{_PAIRS[high >> 20 & 1023]}{_PAIRS[high >> 10 & 1023]}{_PAIRS[high & 1023]}"
        f"{_PAIRS[low >> 30]}{_PAIRS[low >> 20 & 1023]}{_PAIRS[low >> 10 & 1023]}{_PAIRS[low & 1023]}"
    )


@lru_cache(maxsize=256)  # what a batch makes is of one instant
def _time_of(at: datetime) -> str:
    """Return the ten characters that an instant's milliseconds are."""
    milliseconds = int(at.timestamp() * 1000) & _TIME
    return "".join(ALPHABET[(milliseconds >> shift) & 31] for shift in range(45, -1, -5))


def derive(prefix: str, at: datetime, *parts: object) -> str:
    """Return the id that these parts always have: what a repeated decision produces carries the same id."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return compose(prefix, at, int.from_bytes(digest[:10]))


def event_of_step(at: datetime, index: int, *parts: object) -> str:
    """Return the id of an event that a step records: of those of one decision, a later step's sorts after."""
    return compose("evt", at, 1 << 79 | index << 64 | entropy_of(derive("evt", at, *parts)) & (1 << 64) - 1)


def minted_at(name: str) -> datetime:
    """Return the instant in an id, to the millisecond.

    Raises ValueError when it is not an id of ours.
    """
    text = name.rpartition("_")[2]
    if len(text) != 26:
        raise ValueError(f"not an id: {name!r}")
    number = 0
    for character in text:
        number = (number << 5) | ALPHABET.index(character)
    return datetime.fromtimestamp((number >> 80) / 1000, UTC)


def minted_prefix(text: str) -> str:
    """Return what comes before the underscore where a text looks like an id of ours, such as `key`; empty else."""
    prefix, _, rest = text.rpartition("_")
    return prefix if prefix in PREFIXES and len(rest) == 26 else ""


def entropy_of(name: str) -> int:
    """Return the 80 bits of an id that `compose` was given.

    Raises ValueError when it is not an id of ours.
    """
    text = name.rpartition("_")[2]
    if len(text) != 26:
        raise ValueError(f"not an id: {name!r}")
    number = 0
    for character in text[10:]:
        number = (number << 5) | ALPHABET.index(character)
    return number


def bucket(org_id: str) -> int:
    """Return the bucket of an organization, 0 to 1,023."""
    return int.from_bytes(hashlib.sha256(org_id.encode()).digest()[:2]) % BUCKETS


def record_prefix(record_type: str) -> str:
    """Return the first part of the ids of a type's records."""
    return RECORD_PREFIXES.get(record_type, OBJECT_PREFIX)


def is_slug(text: str) -> bool:
    """Tell whether a text can be a chosen id: lower-case letters, digits, hyphens and underscores, at most 63."""
    return _SLUG.fullmatch(text) is not None

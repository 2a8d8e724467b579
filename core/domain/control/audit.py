"""The audit log as a chain: every entry holds the hash of the one before it, so nothing in between can be changed.

An entry's hash is over its line, canonical JSON, without the hash itself. Who keeps one sequence and hash elsewhere,
the head, can tell later whether anything up to it was changed, removed, put in or reordered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from core.domain.control.digest import canonical, digest
from core.domain.frozen import frozen

LONGEST_LINE = 65_536
"""Bytes of a line; no entry comes near it."""

MOST_FAULTS = 100
"""Past so many nobody reads on."""

KINDS = ("member", "service", "agent", "system")
SURFACES = ("grpc", "http", "mcp", "system")

_PLAIN = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_LONGEST_REASON = 500
_ADDRESS = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+")
_NUMBER = re.compile(r"\+?\d(?:[\s().-]{0,2}\d){6,}")
_SEAL = re.compile(r"(\d{1,18}):(sha256:[0-9a-f]{64})")


@frozen
class Entry:
    """What was done, by whom; not in the chain yet. It holds ids and digests: nobody's data."""

    organization_id: str
    id: str
    principal_id: str
    principal_kind: str
    """One of `KINDS`."""
    on_behalf_of: str
    method: str
    surface: str
    """One of `SURFACES`."""
    request_id: str
    subject_id: str
    summary: str
    reason: str
    request_digest: str
    before_digest: str
    after_digest: str
    created_at: datetime


@frozen
class Seal:
    """A place in the chain: the sequence of an entry and its hash. Written `12:sha256:…`."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


BEGINNING = Seal(0, "")
"""What comes before the first entry."""


def parse_seal(text: str) -> Seal:
    """Return the seal that a text such as `12:sha256:…` says. Raises ValueError for another text."""
    match = _SEAL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:100]!r} is not a sequence and a hash such as 12:sha256:…, as GetAuditHead tells them")
    return Seal(int(match[1]), match[2])


def content(entry: Entry, sequence: int, previous_hash: str) -> dict[str, Any]:
    """Return what the hash of an entry is over."""
    return {
        "organization_id": entry.organization_id,
        "id": entry.id,
        "sequence": sequence,
        "principal_id": entry.principal_id,
        "principal_kind": entry.principal_kind,
        "on_behalf_of": entry.on_behalf_of,
        "method": entry.method,
        "surface": entry.surface,
        "request_id": entry.request_id,
        "subject_id": entry.subject_id,
        "summary": entry.summary,
        "reason": entry.reason,
        "request_digest": entry.request_digest,
        "before_digest": entry.before_digest,
        "after_digest": entry.after_digest,
        "previous_hash": previous_hash,
        "create_time": entry.created_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }


def seal(entry: Entry, after: Seal) -> Seal:
    """Return the place that an entry has after another one."""
    sequence = after.sequence + 1
    return Seal(sequence, digest(content(entry, sequence, after.hash)))


def line(entry: Entry, sequence: int, previous_hash: str, own_hash: str) -> str:
    """Return an entry as its line of an export, without the line break."""
    return canonical({**content(entry, sequence, previous_hash), "hash": own_hash})


def as_id(text: str) -> str:
    """Return what a caller calls somebody or something: as it is where it is a plain id, else its digest.

    Entries stay for ever, so an e-mail address or a name must not get into one.
    """
    text = text.strip()
    return text if not text or _PLAIN.fullmatch(text) else digest(text)


def told_reason(text: str) -> str:
    """Return a reason in one line, shortened, with addresses and long numbers left out."""
    plain = " ".join(text.split())
    return _NUMBER.sub("[number]", _ADDRESS.sub("[address]", plain))[:_LONGEST_REASON]


@frozen
class Fault:
    """Something wrong with an export."""

    line: int
    """From 1; 0 for what the end of the file tells."""
    sequence: int
    """The entry it is about; 0 where nobody can tell."""
    kind: str
    """`unreadable`, `changed`, `missing`, `out_of_order`, `not_linked`, `other_organization`, `cut_off` or
    `not_the_head`."""
    message: str


_NAMES = frozenset(
    {
        *("organization_id", "id", "sequence", "principal_id", "principal_kind", "on_behalf_of", "method", "surface"),
        *("request_id", "subject_id", "summary", "reason", "request_digest", "before_digest", "after_digest"),
        *("previous_hash", "create_time", "hash"),
    }
)


@dataclass(slots=True)
class Checker:
    """Checks an export line by line; give it every line with its line break, then `finish`."""

    after: Seal | None = None
    """What the first line must follow; None to believe the first line where it is not the first entry."""
    head: Seal | None = None
    """An entry that must be there, with this hash."""
    faults: list[Fault] = field(default_factory=list)
    count: int = 0
    """Lines seen."""
    last: Seal | None = None
    """Where the chain goes on from."""
    believed: Seal | None = None
    """What the first line says it follows, where nobody else says so."""
    _organization: str = ""
    _head_seen: bool = False

    def take(self, raw: bytes) -> None:
        """Check one line."""
        self.count += 1
        try:
            said = _read(raw)
        except ValueError as error:
            self._fault(0, "unreadable", str(error))
            return
        sequence, own = said["sequence"], said.pop("hash")
        self._check_organization(sequence, said["organization_id"])
        if digest(said) != own:
            self._fault(sequence, "changed", f"entry {sequence} is not what its hash was made of")
        self._check_place(sequence, said["previous_hash"])
        self._check_head(sequence, own)
        if self.last is None or sequence > self.last.sequence:
            self.last = Seal(sequence, own)

    def finish(self) -> None:
        """Check what only the end can tell."""
        if self.head is None or self._head_seen or self.head == BEGINNING:
            return
        begin = self.after or self.believed or BEGINNING
        if self.head == begin:
            return
        if self.head.sequence <= begin.sequence:
            message = f"the head, entry {self.head.sequence}, lies before what was exported, after {begin.sequence}"
            self._fault(self.head.sequence, "not_the_head", message, at=0)
            return
        last = self.last.sequence if self.last else begin.sequence
        if self.head.sequence > last:
            message = f"it ends with entry {last}; the head is entry {self.head.sequence}: the end is missing"
            self._fault(last, "cut_off", message, at=0)

    def _check_organization(self, sequence: int, organization: str) -> None:
        self._organization = self._organization or organization
        if organization != self._organization:
            self._fault(sequence, "other_organization", f"entry {sequence} is of another organization's log")

    def _check_place(self, sequence: int, previous: str) -> None:
        before = self.last
        if before is None:
            before = self.after
            if before is None:
                before = BEGINNING if sequence <= 1 else Seal(sequence - 1, previous)
                self.believed = before
        expected = before.sequence + 1
        if sequence < expected:
            message = f"entry {sequence} comes after entry {before.sequence}: it was put in, repeated or moved"
            self._fault(sequence, "out_of_order", message)
        elif sequence > expected:
            missing = (
                f"entry {expected} is" if sequence == expected + 1 else f"entries {expected} to {sequence - 1} are"
            )
            self._fault(sequence, "missing", f"{missing} missing before entry {sequence}")
        elif previous != before.hash:
            message = f"entry {sequence} does not follow the entry before it: one of the two was replaced"
            self._fault(sequence, "not_linked", message)

    def _check_head(self, sequence: int, own: str) -> None:
        if self.head is not None and sequence == self.head.sequence:
            self._head_seen = True
            if own != self.head.hash:
                message = f"entry {sequence} has another hash than the head that you kept: the log was written anew"
                self._fault(sequence, "not_the_head", message)

    def _fault(self, sequence: int, kind: str, message: str, *, at: int | None = None) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(self.count if at is None else at, sequence, kind, message))


def _read(raw: bytes) -> dict[str, Any]:
    """Return what a line says. Raises ValueError unless it is written exactly as an export writes it."""
    if len(raw) > LONGEST_LINE:
        raise ValueError(f"the line is longer than {LONGEST_LINE} bytes")
    if not raw.endswith(b"\n"):
        raise ValueError("the line does not end in a line break: the file was cut off")
    try:
        text = raw[:-1].decode()
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the line is not JSON in UTF-8") from None
    if not isinstance(said, Mapping) or set(said) != _NAMES:
        raise ValueError("the line is not an entry of an audit log")
    texts = (value for name, value in said.items() if name != "sequence")
    if type(said["sequence"]) is not int or said["sequence"] < 1 or not all(isinstance(one, str) for one in texts):
        raise ValueError("the line has a value of another kind than entries have")
    if canonical(said) != text:
        raise ValueError("the line is not written as an export writes it")
    return dict(said)

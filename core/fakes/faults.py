"""Faults that a stand-in plays on purpose, in the order they were asked for.

A fault is written `kind`, `kind@path` or `kind@path*times`: `timeout-after-commit@batch/upsert`, `502*3`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

KINDS = {
    "timeout-after-commit": "Does what it is asked and closes the connection without an answer.",
    "timeout": "Closes the connection and does nothing.",
    "502": "Answers 502 and does nothing.",
    "502-after-commit": "Does what it is asked and answers 502.",
    "429": "Answers that the limit is reached.",
    "401": "Takes the token for expired.",
}
"""Every kind, and what it does."""

_WRITTEN = re.compile(r"(?P<kind>[a-z0-9-]+)(?:@(?P<path>[^*]+))?(?:\*(?P<times>\d{1,4}))?")


class BadFault(ValueError):
    """A text is no fault."""


@dataclass(slots=True)
class Fault:
    """A fault that is still to be played."""

    kind: str
    path: str = ""
    """Only for requests whose path has this in it."""
    times: int = 1


def read(text: str) -> Fault:
    """Return the fault that a text asks for. Raises BadFault."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or found["kind"] not in KINDS:
        raise BadFault(f"{text!r} is no fault; there are {', '.join(KINDS)}, such as timeout-after-commit@upsert*2")
    return Fault(found["kind"], found["path"] or "", int(found["times"] or 1))


@dataclass(slots=True)
class Faults:
    """The faults that are still to come."""

    coming: list[Fault] = field(default_factory=list)

    def add(self, *texts: str) -> None:
        """Ask for faults. Raises BadFault."""
        self.coming += [read(text) for text in texts]

    def take(self, path: str, *kinds: str) -> str:
        """Return the first fault of these kinds for a path, which is played now; empty for none."""
        for fault in self.coming:
            if fault.path in path and (not kinds or fault.kind in kinds):
                fault.times -= 1
                if fault.times <= 0:
                    self.coming.remove(fault)
                return fault.kind
        return ""

"""What publishing a file would write over: somebody's newer version, or a draft that nobody has published yet.

`dripstone workflow get` writes into the first line of a file what it was taken from. A file without that line is
believed to be made of the newest version where the same key published that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.domain.frozen import frozen

_LINE = re.compile(
    r"\A# dripstone: (?P<id>[a-z0-9_-]+), (?:version (?P<version>[0-9]{1,9})|draft of (?P<time>[0-9T:.+-]+Z?))[ \t]*\n"
)


@frozen
class Base:
    """What a file was taken from: a published version, or the draft that was written at an instant."""

    workflow_id: str
    version: int = 0
    draft_time: str = ""

    def __str__(self) -> str:
        """Return it as the first line of the file says it."""
        return f"{self.workflow_id}, " + (f"version {self.version}" if self.version else f"draft of {self.draft_time}")


@frozen
class Written:
    """A document on the server, with who put it there and when."""

    document: Mapping[str, Any]
    author: str
    time: str
    """As the contract writes instants, exact."""
    at: datetime


@frozen
class There:
    """What stands on the server when somebody publishes."""

    version: int
    """The newest; 0 for none."""
    published: Written | None
    draft: Written
    draft_unpublished: bool


def base_of(text: str) -> Base | None:
    """Return what a file says it was taken from; None where it does not say."""
    found = _LINE.match(text)
    return Base(found["id"], int(found["version"] or 0), found["time"] or "") if found else None


def bare(text: str) -> str:
    """Return a text without the line that says what it was taken from: that is about the file, not the workflow."""
    return _LINE.sub("", text, count=1)


def with_base(text: str, base: Base) -> str:
    """Return a text that says what it was taken from; JSON has no room for it."""
    text = bare(text.removeprefix("\ufeff"))
    return text if text.lstrip().startswith("{") else f"# dripstone: {base}\n{text}"


def lost(there: There, base: Base | None, document: Mapping[str, Any], me: str) -> tuple[bool, bool]:
    """Tell whether publishing writes over a version, and over a draft, that whoever wrote the file may not know."""
    if base is not None and base.draft_time == there.draft.time:
        return False, False  # made of the draft: what was published before that, its author knew
    newest = there.published
    known = base.version == there.version if base is not None else newest is not None and newest.author == me
    version = newest is not None and newest.document != document and not known
    kept = (document, newest and newest.document)  # what says the same elsewhere is not lost
    return version, there.draft_unpublished and there.draft.document not in kept

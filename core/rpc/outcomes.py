"""Calls whose preview shows what they would do item by item, as an etag by which the call that follows does just that.

What a preview shows is known only once it is done, in a transaction that is given up. The call that goes by it is
carried out the same way, and given up too where something else came of it: `2.9f86d081884c7d65`, so many and which.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from core.domain.control.digest import digest
from core.domain.errors import PreviewStale


class Request(Protocol):
    """A request that may go by a preview."""

    validate_only: bool
    preview_etag: str


def settle(request: Request, done: Collection[str], what: str) -> str:
    """Return the etag of what a preview would do; empty for a call that did it. Raises PreviewStale.

    `what` names the items of `done` in the sentence of the error.
    """
    etag = f"{len(done)}.{digest(sorted(done)).removeprefix('sha256:')[:16]}"
    if request.preview_etag not in ("", etag):
        shown = request.preview_etag.partition(".")[0]
        other = shown if shown.isdecimal() and shown != str(len(done)) else "others"
        raise PreviewStale(why=f"of {what} there are {len(done)} by now, and the preview showed {other[:10]}")
    return etag if request.validate_only else ""

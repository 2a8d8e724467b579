"""Ids: no two are the same, not in two threads, not in a process and its fork."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from core import ids

_AT = datetime(2026, 3, 1, tzinfo=UTC)


def _some() -> list[str]:
    return [ids.mint("evt", _AT) for _ in range(2_000)]


def test_no_two_threads_mint_the_same() -> None:
    with ThreadPoolExecutor(4) as threads:
        minted = [one for some in threads.map(lambda _: _some(), range(8)) for one in some]
    assert len(set(minted)) == len(minted)


def test_a_fork_goes_its_own_way() -> None:
    ids.mint("evt", _AT)  # more are drawn by now than were asked for
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = pool.apply(_some)
    assert not set(theirs) & set(_some())

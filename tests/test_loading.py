"""What is loaded after the start is loaded however the rest of it fares."""

from __future__ import annotations

import asyncio
import sys

import pytest

from core import loading


@pytest.mark.anyio
async def test_a_module_that_cannot_be_loaded_is_logged_and_stops_no_other(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr(loading, "LATE", ("core.is_not_there", "this"))
    await loading.load_late(asyncio.Event())
    assert "this" in sys.modules
    assert "core.is_not_there" in "".join(capsys.readouterr())

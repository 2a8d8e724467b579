"""What is loaded after the start is loaded however the rest of it fares."""

from __future__ import annotations

import asyncio
import sys

import pytest
from structlog.testing import capture_logs

from core import loading


@pytest.mark.anyio
async def test_a_module_that_cannot_be_loaded_is_logged_and_stops_no_other(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    monkeypatch.setattr(loading, "LATE", ("core.is_not_there", "colorsys"))
    with capture_logs() as logged:
        await loading.load_late(asyncio.Event())
    assert "colorsys" in sys.modules
    assert [one["module"] for one in logged] == ["core.is_not_there"]

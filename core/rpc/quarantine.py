"""Handlers of EventService for what came in and did not fit."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def list_quarantined(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def get_quarantined(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def redrive_quarantined(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def discard_quarantined(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

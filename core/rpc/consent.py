"""Handlers of RecordService for consent and suppressions."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def get_consent(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def set_consent(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def list_suppressions(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def lift_suppression(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

"""Handlers of EventService for inbound sources."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def get_source(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def update_source(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def rotate_inbound_url(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def try_mapping(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

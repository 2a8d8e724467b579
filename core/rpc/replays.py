"""Handlers of WebhookService for replays: durable jobs that send deliveries again."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def create_replay(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def get_replay(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def list_replays(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def control_replay(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

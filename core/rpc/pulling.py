"""Handlers of WebhookService for pull endpoints: messages handed out and acknowledged."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def stream_messages(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def ack_messages(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

"""Handlers of WebhookService for the catalogue of event types."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def create_event_type(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def export_event_types(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

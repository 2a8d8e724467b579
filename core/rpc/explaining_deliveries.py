"""Handlers of WebhookService that tell why: filters tried, deliveries explained."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def try_filter(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def explain_delivery(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

"""Handler of WebhookService that proves endpoints."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def verify_endpoint(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

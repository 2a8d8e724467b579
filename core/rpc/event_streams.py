"""Handler of EventService that takes events as they come."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def stream_events(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

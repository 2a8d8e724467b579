"""Handlers of ConnectionService."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def create_connection(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def get_connection(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def list_connections(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def update_connection(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def delete_connection(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def test_connection(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

"""Handlers of RecordService for merges and conflicts of identity."""

from __future__ import annotations

from typing import Any

from core.rpc.call import Call


async def merge_records(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def undo_merge(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def list_merges(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def list_identity_conflicts(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError


async def resolve_identity_conflict(request: Any, call: Call) -> Any:
    """Say that it is not there yet."""
    raise NotImplementedError

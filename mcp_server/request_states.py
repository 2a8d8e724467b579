"""What a client carries from one round of a call to the next: sealed, its owner's alone, and good for one effect."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity

from mcp_server.callers import visit_of

_opened: ContextVar[str] = ContextVar("opened_state", default="")


class _Codec(AESGCMRequestStateCodec):
    """Remembers which state a request brought: no two that were sealed are the same, whatever they hold."""

    def unseal(self, token: str) -> bytes:
        opened = super().unseal(token)
        _opened.set(hashlib.sha256(token.encode()).hexdigest()[:32])
        return opened


def security(keys: Sequence[bytes]) -> RequestStateSecurity:
    """Return how states are sealed; without keys, by one that only this process has."""
    return RequestStateSecurity(codec=_Codec(keys or [os.urandom(32)]), bind_principal=_principal)


def key_of_state(tool: str, params: Mapping[str, Any]) -> str:
    """Return the idempotency key of a call that goes on after a question; empty for one that was asked nothing.

    Whoever sends the same round again gets the first answer.
    """
    opened = _state(params)
    return f"{tool}-{opened}" if opened else ""


def key_of_answer(params: Mapping[str, Any]) -> str:
    """Return what stands for the question that a call answers; empty for one that was asked nothing between calls."""
    opened = _state(params)
    return f"answer-{opened}" if opened else ""


def _state(params: Mapping[str, Any]) -> str:
    return _opened.get() if params.get("requestState") is not None else ""


def _principal(ctx: ServerRequestContext[Any, Any]) -> str | None:
    """Return whose a sealed state is: nobody else continues the call, whatever key or token they hold."""
    visit = visit_of(ctx.request)
    return None if visit is None else f"{visit.caller.organization_id}/{visit.caller.principal_id}"

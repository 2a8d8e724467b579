"""Who calls: the key that a request carries, the client that forwards it, and what the key may do."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dripstone.v1 import organization_pb2
from dripstone.v1.client import Client

CALLER_SECONDS = 30.0
"""How long an answer to "who is this" is believed; a revoked key dies as fast in the core."""

KEPT = 256
"""Callers and clients remembered at once."""

_Kept = TypeVar("_Kept")

METADATA = (("x-dripstone-surface", "mcp"),)
"""Goes with every call, so that the core's audit log tells what came by MCP."""

Connect = Callable[[str | None], Client]
"""Returns the client that speaks for a key; None is the key the process was started with."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What the core says about a key."""

    principal_id: str
    organization: str
    scopes: frozenset[str]


def presented_key(request: Any) -> str | None:
    """Return the bearer key of an HTTP request; None when there is no request (stdio, in memory) or no key."""
    headers: Mapping[str, str] = getattr(request, "headers", None) or {}
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


class Callers:
    """Remembers, for a short while and for few keys, the client and the rights of each key."""

    def __init__(self, connect: Connect, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connect = connect
        self._monotonic = monotonic
        self._clients: OrderedDict[str | None, Client] = OrderedDict()
        self._known: OrderedDict[str | None, tuple[float, Caller]] = OrderedDict()

    def client(self, api_key: str | None) -> Client:
        """Return the client that forwards this key."""
        client = self._clients.pop(api_key, None) or self._connect(api_key)
        _keep(self._clients, api_key, client)
        return client

    async def caller(self, api_key: str | None) -> Caller:
        """Return what the core says about a key. Raises the core's error, UNAUTHENTICATED for a bad key."""
        believed = self._known.get(api_key)
        if believed is not None and self._monotonic() < believed[0]:
            return believed[1]
        self._known.pop(api_key, None)
        answer = await self.client(api_key).organization.GetCaller(organization_pb2.GetCallerRequest())
        caller = Caller(answer.principal_id, answer.organization_name, frozenset(answer.scopes))
        _keep(self._known, api_key, (self._monotonic() + CALLER_SECONDS, caller))
        return caller


def _keep(memory: OrderedDict[str | None, _Kept], key: str | None, value: _Kept) -> None:
    memory[key] = value
    while len(memory) > KEPT:
        memory.popitem(last=False)

"""Who calls: the key that a request carries, the client that forwards it, and what the key may do."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dripstone.v1 import organization_pb2
from dripstone.v1.client import Client
from mcp_server.views import View

CALLER_SECONDS = 30.0
"""How long an answer to "who is this" is believed; a revoked key dies as fast in the core."""

KEPT = 256
"""Callers and clients remembered at once."""

VISIT = "dripstone.visit"
"""Where the ASGI scope of an admitted request says who came, and to which view."""

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
    organization_id: str = ""
    methods: frozenset[str] = frozenset()
    """The only methods that the key may call, as `RecordService.GetRecord`; empty for all within its scopes."""

    def lacks(self, scopes: Collection[str]) -> list[str]:
        """Return the scopes among these that the key does not have, sorted."""
        return [] if self.scopes.issuperset(scopes) else sorted(set(scopes) - self.scopes)

    def kept_from(self, methods: Collection[str]) -> list[str]:
        """Return the methods among these that limits of the key leave out, sorted."""
        return sorted(set(methods) - self.methods) if self.methods else []


@dataclass(frozen=True, slots=True)
class Visit:
    """One admitted request over HTTP."""

    caller: Caller
    view: View
    api_key: str | None = field(repr=False)
    """The key that it brought, or its token."""


def visit_of(request: Any) -> Visit | None:
    """Return who came with an HTTP request, and to which view; None where there is none (stdio, in memory)."""
    visit: Visit | None = request.scope.get(VISIT) if request is not None else None
    return visit


def presented_key(request: Any) -> str | None:
    """Return the bearer key of an HTTP request; None when there is no request (stdio, in memory) or no key."""
    headers: Mapping[str, str] = getattr(request, "headers", None) or {}
    return bearer_key(headers.get("authorization"))


def bearer_key(authorization: str | None) -> str | None:
    """Return the key in an `Authorization` header; None when there is none."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


class Callers:
    """Remembers, for a short while and for few keys, the client and the rights of each key."""

    def __init__(
        self, connect: Connect, *, read_only: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """With `read_only` every client refuses what does not read, whoever asks."""
        self._connect = connect
        self._read_only = read_only
        self._monotonic = monotonic
        self._clients: OrderedDict[tuple[str | None, bool], Client] = OrderedDict()
        self._known: OrderedDict[str | None, tuple[float, Caller]] = OrderedDict()

    def for_request(self, request: Any) -> Client:
        """Return the client that forwards a request's key, within the view that it came to."""
        visit = visit_of(request)
        if visit is None:
            return self.client(presented_key(request))
        return self.client(visit.api_key, read_only=visit.view.read_only)

    def client(self, api_key: str | None, *, read_only: bool = False) -> Client:
        """Return the client that forwards this key."""
        reads = read_only or self._read_only
        client = self._clients.pop((api_key, reads), None)
        if client is None:
            client = self._connect(api_key)
            client = client.reading() if reads else client
        _keep(self._clients, (api_key, reads), client)
        return client

    async def who(self, request: Any) -> Caller:
        """Return who a request speaks for. Raises the core's error, UNAUTHENTICATED for a bad key."""
        visit = visit_of(request)
        return visit.caller if visit is not None else await self.caller(presented_key(request))

    async def caller(self, api_key: str | None, *, anew: bool = False) -> Caller:
        """Return what the core says about a key, or said just now unless it is to be asked `anew`.

        Raises the core's error, UNAUTHENTICATED for a bad key.
        """
        believed = None if anew else self._known.get(api_key)
        if believed is not None and self._monotonic() < believed[0]:
            self._known.move_to_end(api_key)  # of many keys, those in use are remembered
            return believed[1]
        self._known.pop(api_key, None)
        answer = await self.client(api_key).organization.GetCaller(organization_pb2.GetCallerRequest())
        caller = Caller(
            principal_id=answer.principal_id,
            organization=answer.organization_name,
            scopes=frozenset(answer.scopes),
            organization_id=answer.organization_id,
            methods=frozenset(answer.limits.methods),
        )
        _keep(self._known, api_key, (self._monotonic() + CALLER_SECONDS, caller))
        return caller


def _keep(memory: OrderedDict[Any, _Kept], key: Any, value: _Kept) -> None:
    memory[key] = value
    while len(memory) > KEPT:
        memory.popitem(last=False)

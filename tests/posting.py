"""Another system that posts to an inbound URL of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2

from core.domain.webhooks import signing
from dripstone.v1 import event_pb2 as pb
from dripstone.v1.client import Client
from tests.running import NO_ROOTS, RunningCore

SECRET = signing.secret_from(bytes(range(32)))


@dataclass
class Poster:
    """A source of ours, and the system on its other side."""

    core: RunningCore
    client: Client
    http: httpx2.AsyncClient
    path: str = ""
    source_id: str = ""
    sent: int = field(default=0)

    async def begin(self, source_id: str = "shop", **settings: Any) -> pb.Source:
        """Make an inbound source; verified by Standard Webhooks unless told otherwise."""
        verifier = settings.pop("verifier", pb.Verifier(kind=pb.VERIFIER_KIND_STANDARD_WEBHOOKS, secrets=[SECRET]))
        request = pb.CreateSourceRequest(
            source_id=source_id, display_name="Shop", kind=pb.SOURCE_KIND_INBOUND, verifier=verifier, **settings
        )
        source = await self.client.events.CreateSource(request)
        self.path, self.source_id = source.inbound_path, source.id
        return source

    async def send(self, body: Any, message_id: str = "", *, path: str = "", secret: str = SECRET) -> httpx2.Response:
        """Post a signed message; a new one unless its id is given."""
        self.sent += 1
        self.core.clock.advance(timedelta(milliseconds=1))  # so that ids are in order
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        message_id = message_id or f"msg_{self.sent}"
        headers = signing.headers([secret], message_id, self.core.clock.now(), raw)
        return await self.post(raw, {"content-type": "application/json", **headers}, path=path)

    async def post(self, raw: bytes, headers: dict[str, str], *, path: str = "") -> httpx2.Response:
        """Post bytes as they are."""
        return await self.http.post(path or self.path, content=raw, headers=headers)

    async def events(self) -> list[pb.Event]:
        """Return the events of the organization, oldest first."""
        return list(reversed((await self.client.events.ListEvents(pb.ListEventsRequest())).events))

    async def quarantined(self) -> list[pb.QuarantinedEvent]:
        """Return what is quarantined, oldest first."""
        answer = await self.client.events.ListQuarantined(pb.ListQuarantinedRequest())
        return list(reversed(answer.quarantined))

    async def update(self, *paths: str, **settings: Any) -> pb.Source:
        """Change the source."""
        request = pb.UpdateSourceRequest(source=pb.Source(id=self.source_id, **settings))
        request.update_mask.paths.extend(paths)
        return await self.client.events.UpdateSource(request)

    async def redrive(self, *ids: str, source_id: str = "") -> pb.RedriveQuarantinedResponse:
        """Redrive these, or all of a source."""
        return await self.client.events.RedriveQuarantined(
            pb.RedriveQuarantinedRequest(quarantined_ids=ids, source_id=source_id)
        )


@asynccontextmanager
async def posting(core: RunningCore) -> AsyncIterator[Poster]:
    """Open what a poster needs."""
    async with core.client() as client, httpx2.AsyncClient(base_url=core.http_url, timeout=10, verify=NO_ROOTS) as http:
        yield Poster(core, client, http)

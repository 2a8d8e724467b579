"""What tests of ingestion send: events, a source for them, and counts of what is stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from core.store.events import events
from dripstone.v1 import event_pb2 as pb
from dripstone.v1.client import Client
from tests.running import RunningCore


def event(name: str = "page.viewed", **given: Any) -> pb.EventInput:
    """Return an event of the source `form`; what the contract does not name are its fields."""
    known = {field.name for field in pb.EventInput.DESCRIPTOR.fields}
    about = {"event_type": "action", "source_id": "form", "event_name": name}
    about |= {key: given.pop(key) for key in sorted(known & set(given))}
    return pb.EventInput(**{"fields": given, **about})  # type: ignore[arg-type]


async def add_source(client: Client, source_id: str = "form", kind: str = "WEBHOOK", **more: Any) -> None:
    """Create a source."""
    number = pb.SourceKind.Value(f"SOURCE_KIND_{kind}")
    await client.events.CreateSource(
        pb.CreateSourceRequest(source_id=source_id, display_name=source_id, kind=number, **more)
    )


async def stored(core: RunningCore) -> int:
    """Return how many events there are."""
    async with core.core.database.read(core.organization.org_id) as tx:
        row = await tx.first(select(func.count(events.events.c.id).label("events")).select_from(events.events))
    return int(row.events) if row else 0


def status(result: pb.IngestResult) -> str:
    """Return a result's status as it stands in a sentence."""
    return pb.IngestStatus.Name(result.status).removeprefix("INGEST_STATUS_").lower()

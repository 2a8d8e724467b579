"""Handler of EventService that tries a mapping: what would come of a body, without storing anything."""

from __future__ import annotations

from core.domain.errors import Invalid, NotFound, Violation
from core.domain.inbound import bodies, fitting, mapping, settings
from core.domain.inbound.request import Arrived, joined
from core.domain.records import ingestion
from core.domain.records.ingestion import IncomingEvent
from core.rpc.call import Call
from core.rpc.convert import to_struct
from core.rpc.events.sources import rules_from
from core.store.events import sources
from core.store.events.inbound import told
from dripstone.v1 import event_pb2 as pb


async def try_mapping(request: pb.TryMappingRequest, call: Call) -> pb.TryMappingResponse:
    """Say which event the first message of a body would be."""
    row = await sources.get(call.tx, request.source_id)
    if row is None:
        raise NotFound(kind="source", id=request.source_id)
    rules = settings.rules_of(row.mapping)
    if request.HasField("mapping"):
        rules = rules_from(request.mapping)
        if wrong := mapping.problems(rules):
            raise Invalid(*wrong)
    arrived = Arrived(request.body.encode(), joined(request.headers.items()))
    messages = bodies.read(arrived)
    answer = pb.TryMappingResponse()
    if not messages:
        answer.left_out = True
        return answer
    mapped = mapping.apply(rules, settings.verifier_of(row.verifier).kind, messages[0], row.id)
    answer.left_out = mapped.left_out
    if mapped.left_out:
        return answer
    wrong_with_it = mapped.fault
    if mapped.event is not None:
        answer.event.CopyFrom(_event(mapped.event))
        found = ingestion.read(mapped.event, call.now)
        fields = mapped.event.fields or {}
        wrong_with_it = found[0] if isinstance(found, list) else fitting.misfit(row.schema, fields)
    answer.result.CopyFrom(_result(wrong_with_it))
    return answer


def _event(event: IncomingEvent) -> pb.EventInput:
    return pb.EventInput(
        event_type=event.event_type,
        event_name=event.event_name,
        source_id=event.source_id,
        fields=to_struct(event.fields or {}),
        person_id=event.person_id,
        created_at=event.created_at,
        message_id=event.message_id,
    )


def _result(fault: Violation | None) -> pb.IngestResult:
    if fault is None:
        return pb.IngestResult(status=pb.INGEST_STATUS_ACCEPTED)
    return pb.IngestResult(
        status=pb.INGEST_STATUS_QUARANTINED, reason=fault.reason, field=fault.field, message=told(fault)
    )

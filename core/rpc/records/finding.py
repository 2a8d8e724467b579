"""Handlers of RecordService that find records by words."""

from __future__ import annotations

from sqlalchemy import and_, select

from core.domain.errors import Invalid, Violation, invalid
from core.domain.records import words
from core.rpc.call import Call
from core.rpc.records.records import known_type, messages
from core.store.records import record_schema, record_search
from core.store.records.record_rows import records, to_record
from dripstone.v1 import record_pb2 as pb

_USUAL, _MOST = 20, 100


async def find_records(request: pb.FindRecordsRequest, call: Call) -> pb.FindRecordsResponse:
    """Return the records that have every word, those with the most in their names first, the newest of equals.

    Raises Invalid for a question without a word, and for types that there are not.
    """
    asked = words.asked(request.query)
    if not asked:
        raise invalid("query", "NO_WORDS", "has no letters and no digits", "Send a name, an e-mail or a phone number.")
    types = await _types(request, call)
    found = record_search.ranked(call.caller.org_id, asked)
    both = records.join(found, and_(records.c.org_id == found.c.org_id, records.c.id == found.c.record_id))
    statement = select(records).select_from(both).where(records.c.deleted_at.is_(None))
    if types:
        statement = statement.where(records.c.type.in_(types))
    best = statement.order_by(found.c.score.desc(), records.c.created_at.desc(), records.c.id.desc())
    limit = min(request.limit, _MOST) if request.limit > 0 else _USUAL
    rows = [to_record(row) for row in await call.tx.all(best.limit(limit))]
    fields = await record_search.matched_fields(call.tx, asked, [record.id for record in rows])
    return pb.FindRecordsResponse(
        results=[
            pb.FoundRecord(record=message, title=message.title, matched_fields=fields.get(message.id, []))
            for message in await messages(call.tx, rows)
        ]
    )


async def _types(request: pb.FindRecordsRequest, call: Call) -> list[str]:
    if not request.types:
        return []
    schema = await record_schema.of(call.tx)
    wrong: list[Violation] = []
    for number, name in enumerate(request.types):
        try:
            known_type(schema, name, f"types[{number}]")
        except Invalid as unknown:
            wrong += unknown.violations
    if wrong:
        raise Invalid(*wrong)
    return list(request.types)

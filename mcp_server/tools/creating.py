"""What update-record does without a record's id: it makes one, or finds the one that the fields name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dripstone.v1 import record_pb2
from dripstone.v1.client import Client
from mcp_server.tool import settled
from mcp_server.tools.records import Update, cause_of, changes_of, undo_of
from mcp_server.values import commit_of, etag_of, invocation, to_struct, version_of

NOT_YET = "0"
"""The version of a record that there is not: a commit that goes by it makes one, or is refused."""


async def upserted(
    client: Client, type_: str, fields: Mapping[str, Any], if_version: str, reason: str, *, preview: bool, key: str
) -> Update:
    """Create a record of a type, or change the one that has the same e-mail."""
    request = record_pb2.UpsertRecordRequest(
        type=type_,
        fields=to_struct(fields),
        etag=etag_of(if_version),
        reason=reason,
        request_id=key,
        validate_only=preview,
    )
    answer, replayed = await settled(client.records.UpsertRecord(request))
    record_id, version = answer.record.id, version_of(answer.record.etag)
    following = invocation("get-record", record_id=record_id, history=5)
    if preview:
        following = ""
        sent = {"fields": fields, "reason": reason}
        if answer.created:  # what a preview would create does not exist: its id would lead nowhere
            record_id, version = "", NOT_YET
            following = commit_of("update-record", type=type_, if_version=version, **sent)
        elif answer.changes:
            there = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=record_id))
            version = version_of(there.etag)
            following = commit_of("update-record", record_id=record_id, if_version=version, **sent)
    return Update(
        mode="preview" if preview else "commit",
        replayed=replayed,
        record_id=record_id,
        type=type_,
        created=answer.created,
        changes=changes_of(answer.changes),
        version=version,
        idempotency_key=key,
        # Single changes leave a record that was made; with all that its call did, it goes.
        undo="" if preview else cause_of(answer.changes) if answer.created else undo_of(answer.changes),
        next=following,
    )

"""Systems of record, between the contract's messages and the domain; credentials go in and never come out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row

from core.domain.connections.call import Call
from core.domain.systems.comparison import FieldMapping
from core.domain.systems.operations import Operation
from core.domain.systems.settings import SystemSettings, Triggers, TypeMapping
from core.rpc.connections.connection_messages import etag, state_value
from core.rpc.convert import to_duration, to_timestamp, to_value
from core.store.systems import connections
from dripstone.v1 import connection_pb2 as pb
from dripstone.v1 import system_pb2, transfer_pb2

DIRECTIONS = {
    system_pb2.SYNC_DIRECTION_UNSPECIFIED: "both",
    system_pb2.SYNC_DIRECTION_BOTH: "both",
    system_pb2.SYNC_DIRECTION_PULL: "pull",
    system_pb2.SYNC_DIRECTION_PUSH: "push",
}
DIRECTION_VALUES = {text: value for value, text in DIRECTIONS.items()}
_RULES = {
    system_pb2.CONFLICT_RULE_UNSPECIFIED: "system_of_record",
    system_pb2.CONFLICT_RULE_SYSTEM_OF_RECORD: "system_of_record",
    system_pb2.CONFLICT_RULE_OURS: "ours",
    system_pb2.CONFLICT_RULE_NEWEST: "newest",
}
_RULE_VALUES = {text: value for value, text in _RULES.items()}
_TRIGGERS: dict[int, Triggers] = {
    transfer_pb2.TRIGGER_BEHAVIOUR_UNSPECIFIED: "none",
    transfer_pb2.TRIGGER_BEHAVIOUR_NONE: "none",
    transfer_pb2.TRIGGER_BEHAVIOUR_NEW: "new",
    transfer_pb2.TRIGGER_BEHAVIOUR_ALL: "all",
}
_TRIGGER_VALUES = {text: value for value, text in _TRIGGERS.items()}


def settings_in(given: pb.SystemSettings) -> SystemSettings:
    """Return what a message says, as it stands."""
    return SystemSettings(
        system=given.system,
        base_url=given.base_url,
        mappings=tuple(_mapping(one) for one in given.mappings),
        pull_seconds=int(given.pull_every.seconds),
        push_changes=given.push_changes,
        operations=tuple(_operation(one) for one in given.operations),
        triggers=_TRIGGERS[given.trigger_behaviour],
        deletions=DIRECTIONS[given.deletions] if given.deletions else "",
        deletion_conflict=_RULES[given.deletion_conflict],
    )


def message_of(row: Row[Any], signed: Collection[str]) -> pb.Connection:
    """Return a connection to a system of record; `signed` are those that have credentials."""
    settings = connections.system(row)
    return pb.Connection(
        id=row.id,
        display_name=row.display_name,
        kind=row.kind,
        system=_settings_out(settings),
        state=state_value(row),
        etag=etag(row),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        has_credentials=row.id in signed,
        last_sync_time=to_timestamp(row.synced_at),
    )


def sync_message(row: Row[Any]) -> system_pb2.Sync:
    """Return a sync."""
    waits = row.state == "waiting"
    return system_pb2.Sync(
        id=row.id,
        connection_id=row.connection_id,
        direction=DIRECTION_VALUES[row.direction],
        state=system_pb2.SyncState.Value(f"SYNC_STATE_{row.state.upper()}"),
        preview=row.preview,
        done_count=row.done_count,
        pulled_count=row.pulled_count,
        pushed_count=row.pushed_count,
        conflict_count=row.conflict_count,
        failed_count=row.failed_count,
        wait_reason=row.wait_reason,
        resume_time=to_timestamp(row.next_at) if waits else None,
        error=row.error,
        actor=row.actor,
        create_time=to_timestamp(row.created_at),
        end_time=to_timestamp(row.ended_at),
    )


def item_message(row: Row[Any]) -> system_pb2.SyncItem:
    """Return what became of a record."""
    return system_pb2.SyncItem(
        record_id=row.record_id,
        external_id=row.external_id,
        type=row.type,
        outcome=row.outcome,
        conflicts=[
            system_pb2.SyncConflict(
                field=one["field"],
                our_value=to_value(one["ours"]),
                their_value=to_value(one["theirs"]),
                winner=one["winner"],
            )
            for one in row.conflicts
        ],
        error=row.error,
        hint=row.hint,
        create_time=to_timestamp(row.created_at),
    )


def _settings_out(settings: SystemSettings) -> pb.SystemSettings:
    return pb.SystemSettings(
        system=settings.system,
        base_url=settings.base_url,
        mappings=[
            system_pb2.TypeMapping(
                type=one.type,
                object=one.object,
                unique_property=one.unique_property,
                fields=[
                    system_pb2.FieldMapping(
                        field=field.field,
                        property=field.property,
                        direction=DIRECTION_VALUES[field.direction],
                        conflict=_RULE_VALUES[field.conflict],
                    )
                    for field in one.fields
                ],
            )
            for one in settings.mappings
        ],
        pull_every=to_duration(settings.pull_seconds) if settings.pull_seconds else None,
        push_changes=settings.push_changes,
        operations=[
            pb.HttpOperation(
                name=one.name,
                type=one.type,
                call=pb.HttpCall(
                    method=one.call.method,
                    url=one.call.url,
                    headers=one.call.headers,
                    body=one.call.body,
                    content_type=one.call.content_type,
                ),
                records_path=one.records_path,
                cursor_path=one.cursor_path,
                id_path=one.id_path,
            )
            for one in settings.operations
        ],
        trigger_behaviour=_TRIGGER_VALUES[settings.triggers],  # type: ignore[arg-type]
        deletions=DIRECTION_VALUES[settings.deletions] if settings.deletions else None,  # type: ignore[arg-type]
        deletion_conflict=_RULE_VALUES[settings.deletion_conflict],
    )


def _mapping(given: system_pb2.TypeMapping) -> TypeMapping:
    fields = tuple(
        FieldMapping(one.field, one.property, DIRECTIONS[one.direction], _RULES[one.conflict]) for one in given.fields
    )
    return TypeMapping(given.type, given.object, given.unique_property, fields)


def _operation(given: pb.HttpOperation) -> Operation:
    call = given.call
    return Operation(
        given.name,
        given.type,
        Call(call.method, call.url, dict(call.headers), call.body, call.content_type),
        given.records_path,
        given.cursor_path,
        given.id_path,
    )

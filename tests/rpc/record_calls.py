"""Calls of RecordService handlers as the pipeline makes them, in short."""

from __future__ import annotations

from typing import Any

from core.rpc.convert import from_struct, to_struct
from core.rpc.records import deleting, finding, pipelines, record_types, records, reverting
from dripstone.v1 import record_pb2 as pb
from dripstone.v1 import record_type_pb2 as types
from tests.rpc.qualifying_calls import Service


class Records(Service):
    """An organization whose records are looked at."""

    async def upsert(self, record_type: str, **fields: Any) -> pb.Record:
        by = fields.pop("by", "key_agent")
        request = pb.UpsertRecordRequest(type=record_type, fields=to_struct(fields))
        answer: pb.UpsertRecordResponse = await self(records.upsert_record, request, by=by)
        return answer.record

    async def update(self, record_id: str, fields: dict[str, Any], **more: Any) -> pb.UpdateRecordResponse:
        by = more.pop("by", "key_agent")
        request = pb.UpdateRecordRequest(record_id=record_id, fields=to_struct(fields), **more)
        answer: pb.UpdateRecordResponse = await self(records.update_record, request, by=by)
        return answer

    async def get(self, record_id: str) -> dict[str, Any]:
        record = await self(records.get_record, pb.GetRecordRequest(record_id=record_id))
        return from_struct(record.fields)

    async def listed(self, record_type: str, **asked: Any) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            request = pb.ListRecordsRequest(type=record_type, page_token=token, **asked)
            page: pb.ListRecordsResponse = await self(records.list_records, request)
            found += [record.title for record in page.records]
            token = page.next_page_token
            if not token:
                return found

    async def find(self, query: str, *kinds: str) -> list[str]:
        answer = await self(finding.find_records, pb.FindRecordsRequest(query=query, types=kinds))
        return [one.title for one in answer.results]

    async def field(self, record_type: str, name: str, kind: str, **more: Any) -> types.FieldDefinition:
        number = types.FieldKind.Value(f"FIELD_KIND_{kind}")
        request = types.DefineFieldRequest(type=record_type, field={"name": name, "kind": number, **more})
        answer: types.FieldDefinition = await self(record_types.define_field, request)
        return answer

    async def pipeline(self, pipeline_id: str, **stages: float) -> types.Pipeline:
        kinds = {"won": types.STAGE_KIND_WON, "lost": types.STAGE_KIND_LOST}
        made = [
            types.PipelineStage(id=name, display_name=name, probability=chance, kind=kinds.get(name))
            for name, chance in stages.items()
        ]
        request = types.PutPipelineRequest(pipeline={"id": pipeline_id, "display_name": pipeline_id, "stages": made})
        answer: types.Pipeline = await self(pipelines.put_pipeline, request)
        return answer

    async def delete(self, record_id: str, **more: Any) -> pb.Record:
        answer: pb.Record = await self(deleting.delete_record, pb.DeleteRecordRequest(record_id=record_id, **more))
        return answer

    async def restore(self, record_id: str) -> pb.Record:
        answer: pb.Record = await self(deleting.restore_record, pb.RestoreRecordRequest(record_id=record_id))
        return answer

    async def history(self, record_id: str) -> list[pb.RecordChange]:
        asked = pb.ListRecordChangesRequest(record_id=record_id)
        return list((await self(records.list_record_changes, asked)).changes)

    async def events(self, token: str = "", **asked: Any) -> tuple[list[str], str]:
        request = pb.ListChangeEventsRequest(page_token=token, **asked)
        page: pb.ListChangeEventsResponse = await self(reverting.list_change_events, request)
        return [f"{one.record_type}.{one.field}" for one in page.changes], page.next_page_token

    async def revert(self, *change_ids: str, **asked: Any) -> pb.RevertChangesResponse:
        request = pb.RevertChangesRequest(change_ids=change_ids, **asked)
        answer: pb.RevertChangesResponse = await self(reverting.revert_changes, request)
        return answer

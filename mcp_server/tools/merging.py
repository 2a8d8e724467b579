"""The tool that shows records that are probably one and the same, and makes them one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from dripstone.v1 import duplicate_pb2, record_pb2
from dripstone.v1.client import Client
from mcp_server.refusals import Refusal, Refused
from mcp_server.tool import IdempotencyKey, Mode, Previewed, Reason, WriteAnswer, committing, lines, settled
from mcp_server.tools.operate import OPERATE
from mcp_server.tools.records import RecordSummary, headline
from mcp_server.values import clip, commit_of, compact, etag_of, invocation, version_of

SHOWN = 10


class Pair(BaseModel):
    """Two records that are probably one."""

    duplicate_id: str
    record_ids: list[str]
    likeness: float
    why: list[str] = Field(default_factory=list)


class Merged(WriteAnswer):
    """What a merge does, or the pairs that could be merged."""

    duplicates: list[Pair] = Field(default_factory=list, description="likeliest first, where no records were named")
    records: list[RecordSummary] = Field(default_factory=list, description="both, before: the first one stays")
    filled_fields: list[str] = Field(default_factory=list, description="taken over by the record that stays")
    differing_fields: list[str] = Field(default_factory=list, description="the record that stays keeps its value")
    moved: dict[str, int] = Field(default_factory=dict)
    version: str = Field(default="", description="of a preview, for if_version: that of each record")
    listed_in_part: bool = Field(default=False, description="there are more pairs")

    def text(self) -> str:
        """Return the pairs, or what the merge does."""
        if not self.records:
            pairs = [
                f"{p.duplicate_id} {' and '.join(p.record_ids)} {p.likeness:.2f}: {'; '.join(p.why)}"
                for p in self.duplicates
            ]
            more = "… there are more: narrow by record_id" if self.listed_in_part else ""
            head = f"{len(pairs)} pairs of probable duplicates"
            return lines(head, *pairs, more) if pairs else "No duplicates are known."
        stays, goes = (record.record_id for record in self.records)
        both = [f"- before: {record.record_id} {compact(record.fields)}" for record in self.records]
        told = (("takes over", self.filled_fields), ("keeps its own of", self.differing_fields))
        fields = [f"- {stays} {what} {', '.join(names)}" for what, names in told if names]
        moved = f"- moved {compact(self.moved)}" if self.moved else ""
        return lines(
            self.heading(f"would merge {goes} into {stays}", f"merged {goes} into {stays}"), *both, *fields, moved
        )


@OPERATE.tool(
    "merge-records",
    "Merge duplicates",
    "RecordService.MergeRecords",
    "RecordService.ListDuplicates",
    "RecordService.GetRecord",
    destructive=True,
    idempotent=True,
)
async def merge_records(
    client: Client,
    type: Annotated[Literal["contact", "company"], Field(description="of the duplicates to list")] = "contact",
    record_id: Annotated[str, Field(description="only its duplicates")] = "",
    kept_id: Annotated[str, Field(description="the record that stays")] = "",
    merged_id: Annotated[str, Field(description="goes into it")] = "",
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Merged:
    """List probable duplicates (twins, the same twice), or combine two records into one. Show the person both first."""
    if not (kept_id and merged_id):
        if mode == "commit" or kept_id or merged_id:
            message = "kept_id and merged_id are required to merge."
            following = invocation("merge-records", type=type, record_id=record_id or kept_id or merged_id)
            raise Refused(Refusal("INVALID_ARGUMENT", message, "merged_id" if kept_id else "kept_id", next=following))
        return await _duplicates(client, type, record_id)
    preview = mode == "preview"
    both = [RecordSummary(record_id=record_id, fields={}) for record_id in (kept_id, merged_id)]
    if preview:
        read = await _both(client, kept_id, merged_id)
        both = [RecordSummary(record_id=record.id, fields=headline(record)) for record in read]
        if_version = if_version or "/".join(version_of(record.etag) for record in read)
    kept_version, merged_version = _of_each(if_version, kept_id, merged_id)
    key = committing(mode, idempotency_key)
    merge, replayed = await settled(
        client.records.MergeRecords(
            record_pb2.MergeRecordsRequest(
                kept_id=kept_id,
                merged_id=merged_id,
                kept_etag=etag_of(kept_version),
                merged_etag=etag_of(merged_version),
                request_id=key,
                validate_only=preview,
            )
        )
    )
    following = invocation("get-record", record_id=kept_id)
    if preview:
        following = commit_of(
            "merge-records", kept_id=kept_id, merged_id=merged_id, if_version=if_version, reason=reason
        )
    return Merged(
        mode=mode,
        replayed=replayed,
        idempotency_key=key,
        records=both,
        filled_fields=list(merge.filled_fields),
        differing_fields=list(merge.differing_fields),
        moved={name: count for name, count in merge.moved_counts.items() if count},
        version=if_version if preview else "",
        undo="" if preview else merge.id,
        next=following,
    )


async def _duplicates(client: Client, record_type: str, record_id: str) -> Merged:
    request = duplicate_pb2.ListDuplicatesRequest(type=record_type, record_id=record_id, page_size=SHOWN)
    answer = await client.records.ListDuplicates(request)
    found = [
        Pair(
            duplicate_id=pair.id,
            record_ids=[pair.first_id, pair.second_id],
            likeness=round(pair.likeness, 2),
            why=[
                clip(f"{reason.field}: {compact(reason.first_value)} and {compact(reason.second_value)}", 120)
                for reason in pair.reasons[:3]
            ],
        )
        for pair in answer.duplicates
    ]
    following = ""
    if found:
        kept, merged = found[0].record_ids
        following = invocation("merge-records", kept_id=kept, merged_id=merged, mode="preview")
    cut = bool(answer.next_page_token)
    return Merged(mode="preview", duplicates=found, listed_in_part=cut, next=following)


async def _both(client: Client, *record_ids: str) -> list[record_pb2.Record]:
    return await asyncio.gather(
        *(client.records.GetRecord(record_pb2.GetRecordRequest(record_id=one)) for one in record_ids)
    )


def _of_each(versions: str, kept_id: str, merged_id: str) -> tuple[str, str]:
    """Return the versions of both records, which stand as `3/7`. Raises Refused."""
    kept, _, merged = versions.partition("/")
    if versions and not (kept and merged):
        following = invocation("merge-records", kept_id=kept_id, merged_id=merged_id, mode="preview")
        message = "if_version is that of both records, as a preview gives it."
        raise Refused(Refusal("INVALID_ARGUMENT", message, "if_version", next=following))
    return kept, merged

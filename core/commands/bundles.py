"""What an export has beside records, taken in: definitions before the records, lists and consent after them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dripstone.v1.client import Client

PARTS = ("definitions", "lists", "consents")
_AT_ONCE = 500
_EVERY = "*"


def read(content: bytes) -> dict[str, Any]:
    """Return an export as it stands in a file. Raises ClickException for anything else."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise click.ClickException(f"--with needs an export in JSON, and this file is none: {error}.") from None
    if not isinstance(document, dict) or "version" not in document:
        raise click.ClickException("--with needs an export in JSON: this file has no version.")
    return document


async def define(client: Client, document: Mapping[str, Any]) -> Counter[str]:
    """Define what is in a bundle and not here yet; what is here stays as it is. Return how much of each was defined."""
    from dripstone.v1 import record_type_pb2 as pb

    given = document.get("definitions") or {}
    listed = await client.records.ListRecordTypes(pb.ListRecordTypesRequest(page_size=_AT_ONCE))
    known = {one.type: {field.name for field in one.fields if field.custom} for one in listed.record_types}
    made: Counter[str] = Counter()
    new = [one for one in given.get("record_types") or () if one["type"] not in known]
    for one in new:  # its fields are defined before one of them can name its records
        await client.records.DefineRecordType(_type(one, ""))
        made["types"] += 1
    for one in given.get("record_types") or ():
        for field in one.get("fields") or ():
            if field["name"] not in known.get(one["type"], ()):
                request = pb.DefineFieldRequest(type=one["type"])
                _fill(request.field, field)
                await client.records.DefineField(request)
                made["fields"] += 1
    for one in new:
        if one.get("title_field", "name") != "name":
            await client.records.DefineRecordType(_type(one, one["title_field"]))
    pipelines = await client.records.ListPipelines(pb.ListPipelinesRequest(page_size=_AT_ONCE))
    there = {one.id for one in pipelines.pipelines}
    for one in given.get("pipelines") or ():
        if one["id"] not in there:
            put = pb.PutPipelineRequest()
            _fill(put.pipeline, one)
            await client.records.PutPipeline(put)
            made["pipelines"] += 1
    return made


async def attach(client: Client, document: Mapping[str, Any], import_id: str, parts: tuple[str, ...]) -> Counter[str]:
    """Put contacts of an import on their lists and write down their consent; return how much of each that was."""
    from dripstone.v1 import record_pb2 as pb

    made: Counter[str] = Counter()
    contacts = [taken async for taken in _taken(client, document, import_id)]
    lists: dict[str, list[str]] = {}
    for record_id, _, one in contacts if "lists" in parts else ():
        for name in one.get("lists") or ():
            lists.setdefault(name, []).append(record_id)
    for name, members in lists.items():
        for start in range(0, len(members), _AT_ONCE):
            some = pb.ChangeListMembersRequest(list=name, add_contact_ids=members[start : start + _AT_ONCE])
            made["memberships"] += (await client.records.ChangeListMembers(some)).added_count
    for record_id, is_new, one in contacts if "consents" in parts else ():
        for said in one.get("consents") or ():
            if said["granted"] and not is_new:
                continue  # whoever was here already may have said no since
            await client.records.SetConsent(
                pb.SetConsentRequest(
                    contact_id=record_id,
                    channel=said["channel"].replace(_EVERY, ""),
                    purpose=said["purpose"].replace(_EVERY, ""),
                    granted=said["granted"],
                    reason=said.get("reason") or f"taken in with the import {import_id}",
                )
            )
            made["consents"] += 1
    return made


async def _taken(
    client: Client, document: Mapping[str, Any], import_id: str
) -> AsyncIterator[tuple[str, bool, Mapping[str, Any]]]:
    """Yield the contacts of a bundle that were taken in: the id here, whether it is new, and what the bundle says."""
    from dripstone.v1 import transfer_pb2 as pb

    numbers = dict(_contacts(document))
    request = pb.ListImportRowsRequest(import_id=import_id, page_size=_AT_ONCE)
    while True:
        page = await client.records.ListImportRows(request)
        for row in page.rows:
            if row.record_id and row.row in numbers and row.outcome not in ("bad", "erased"):
                yield row.record_id, row.outcome == "created", numbers[row.row]
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _contacts(document: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the contacts of a bundle by the number of their row."""
    from core.domain.records.import_files import read_json

    by_id = {one["id"]: one for one in document.get("contacts") or () if isinstance(one, dict) and "id" in one}
    for row in read_json(json.dumps(document).encode(), "").rows:
        if row.record_type == "contact" and row.record_id in by_id:
            yield row.number, by_id[row.record_id]


def _type(given: Mapping[str, Any], title_field: str) -> Any:
    from dripstone.v1 import record_type_pb2 as pb

    return pb.DefineRecordTypeRequest(
        type=given["type"],
        display_name=given.get("display_name") or given["type"],
        plural_name=given.get("plural_name", ""),
        description=given.get("description", ""),
        title_field=title_field,
    )


def _fill(message: Any, given: Mapping[str, Any]) -> None:
    """Fill a message from JSON as HTTP takes it."""
    from core.gateway.body import fill
    from core.gateway.problems import Problems

    problems = Problems()
    fill(message, dict(given), "", problems)
    problems.refuse()

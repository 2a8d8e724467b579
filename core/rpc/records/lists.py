"""Handlers of RecordService: lists of contacts."""

from __future__ import annotations

from collections.abc import Iterator

from core.domain import names
from core.domain.errors import Invalid, RecordMerged, Violation
from core.rpc.call import Call
from core.store.merging import merges
from core.store.records import lists, records
from core.store.records.lists import ListChange
from core.store.transaction import Transaction
from dripstone.v1 import record_pb2 as pb


async def change_list_members(request: pb.ChangeListMembersRequest, call: Call) -> pb.ChangeListMembersResponse:
    """Put contacts on a list or take them off. Raises Invalid for a contact there is none of; nothing changes then."""
    wrong = [*_shape(request), *await _contacts(request, call.tx)]
    if wrong:
        raise Invalid(*wrong)
    who = call.caller.principal_id
    org = call.caller.org_id
    added = await lists.change(
        call.tx, [ListChange(org, request.list, one, True, who) for one in request.add_contact_ids]
    )
    removed = await lists.change(
        call.tx, [ListChange(org, request.list, one, False, who) for one in request.remove_contact_ids]
    )
    count = await lists.count(call.tx, request.list)
    return pb.ChangeListMembersResponse(added_count=added, removed_count=removed, member_count=count)


def _shape(request: pb.ChangeListMembersRequest) -> Iterator[Violation]:
    if not names.is_slug(request.list):
        hint = "Use lower-case letters, digits, hyphens and underscores, at most 63."
        yield Violation("list", "BAD_ID", f"{request.list[:63]} cannot name a list", hint)
    if not (request.add_contact_ids or request.remove_contact_ids):
        hint = "Send contact ids in add_contact_ids or remove_contact_ids."
        yield Violation("add_contact_ids", "REQUIRED", "nobody is to be added or removed", hint)
    both = sorted({*request.add_contact_ids} & {*request.remove_contact_ids})
    if both:
        message = f"{both[0][:63]} is to be added and removed"
        yield Violation("remove_contact_ids", "CONFLICT", message, "Say one of them.")


async def _contacts(request: pb.ChangeListMembersRequest, tx: Transaction) -> list[Violation]:
    """Return what is wrong with the contacts that are named, each at its place."""
    named = {*request.add_contact_ids, *request.remove_contact_ids}
    found = await records.get_many(tx, named)
    unknown = named - {record.id for record in found.values() if record.type == "contact"}
    merged = {one: await merges.kept_by(tx, one) for one in await merges.standing_of(tx, unknown)}
    return [
        _unknown(f"{field}[{index}]", one, merged.get(one))
        for field in ("add_contact_ids", "remove_contact_ids")
        for index, one in enumerate(getattr(request, field))
        if one in unknown
    ]


def _unknown(field: str, contact_id: str, merged: RecordMerged | None) -> Violation:
    if merged is not None:
        return Violation(field, merged.reason, merged.message, merged.way_out)
    message = f"there is no contact {contact_id[:63]}"
    return Violation(field, "UNKNOWN_CONTACT", message, "Find it by ListRecords.")


async def list_lists(request: pb.ListListsRequest, call: Call) -> pb.ListListsResponse:
    """Return the lists that somebody is on, by name."""
    found = await lists.names(call.tx)
    return pb.ListListsResponse(lists=[pb.ContactList(list=name, member_count=count) for name, count in found.items()])


async def list_list_members(request: pb.ListListMembersRequest, call: Call) -> pb.ListListMembersResponse:
    """Return a page of the contacts on a list, newest contact first."""
    rows, token = await lists.members(call.tx, request.list, request.page_size, request.page_token)
    return pb.ListListMembersResponse(contact_ids=[row.contact_id for row in rows], next_page_token=token)

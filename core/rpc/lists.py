"""Handlers of RecordService: lists of contacts."""

from __future__ import annotations

from core.domain import names
from core.domain.errors import Invalid, Violation, invalid
from core.rpc.call import Call
from core.store import lists, records
from core.store.lists import ListChange
from dripstone.v1 import record_pb2 as pb


async def change_list_members(request: pb.ChangeListMembersRequest, call: Call) -> pb.ChangeListMembersResponse:
    """Put contacts on a list or take them off. Raises Invalid for a contact there is none of; nothing changes then."""
    if not names.is_slug(request.list):
        hint = "Use lower-case letters, digits, hyphens and underscores, at most 63."
        raise invalid("list", "BAD_ID", f"{request.list[:63]} cannot name a list", hint)
    if not (request.add_contact_ids or request.remove_contact_ids):
        hint = "Send contact ids in add_contact_ids or remove_contact_ids."
        raise invalid("add_contact_ids", "REQUIRED", "nobody is to be added or removed", hint)
    both = sorted({*request.add_contact_ids} & {*request.remove_contact_ids})
    if both:
        raise invalid("remove_contact_ids", "CONFLICT", f"{both[0]} is to be added and removed", "Say one of them.")
    found = await records.get_many(call.tx, [*request.add_contact_ids, *request.remove_contact_ids])
    known = {record.id for record in found.values() if record.type == "contact"}
    wrong = [
        Violation(f"{field}[{index}]", "UNKNOWN_CONTACT", f"there is no contact {one[:63]}", "Find it by ListRecords.")
        for field, given in (
            ("add_contact_ids", request.add_contact_ids),
            ("remove_contact_ids", request.remove_contact_ids),
        )
        for index, one in enumerate(given)
        if one not in known
    ]
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


async def list_lists(request: pb.ListListsRequest, call: Call) -> pb.ListListsResponse:
    """Return the lists that somebody is on, by name."""
    found = await lists.names(call.tx)
    return pb.ListListsResponse(lists=[pb.ContactList(list=name, member_count=count) for name, count in found.items()])


async def list_list_members(request: pb.ListListMembersRequest, call: Call) -> pb.ListListMembersResponse:
    """Return a page of the contacts on a list, newest contact first."""
    rows, token = await lists.members(call.tx, request.list, request.page_size, request.page_token)
    return pb.ListListMembersResponse(contact_ids=[row.contact_id for row in rows], next_page_token=token)

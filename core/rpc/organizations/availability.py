"""Handlers of OrganizationService for availability: when and how much a person can take on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from core.domain.errors import Invalid, NotFound
from core.domain.routing.availability import Absence, Availability, Hours, problems
from core.rpc.call import Call
from core.rpc.convert import from_timestamp, to_timestamp
from core.store.organizations import members
from core.store.qualification import availability, routing_sight
from dripstone.v1 import organization_pb2 as pb


async def set_member_availability(request: pb.SetMemberAvailabilityRequest, call: Call) -> pb.MemberAvailability:
    """Replace a member's availability. Raises NotFound, and Invalid with everything that is wrong."""
    member = await _member(call, request.member_id)
    given = _read(request.availability)
    if wrong := problems(given):
        raise Invalid(*wrong)
    await availability.put(call.tx, member.id, given)
    return await _message(call, member, given)


async def get_member_availability(request: pb.GetMemberAvailabilityRequest, call: Call) -> pb.MemberAvailability:
    """Return a member's availability, and what is taken. Raises NotFound."""
    member = await _member(call, request.member_id)
    said = await availability.of(call.tx, [member.id])
    return await _message(call, member, said[member.id])


async def _member(call: Call, member_id: str) -> Row[Any]:
    member = await members.get_active(call.tx, member_id)
    if member is None:
        raise NotFound(kind="member", id=member_id)
    return member


def _read(given: pb.MemberAvailability) -> Availability:
    return Availability(
        hours=tuple(Hours(one.day.strip().lower(), one.start, one.end) for one in given.working_hours),
        absences=tuple(
            Absence(from_timestamp(one.start_time), from_timestamp(one.end_time), one.reason) for one in given.absences
        ),
        timezone=given.timezone,
        daily_capacity=given.daily_capacity,
        open_capacity=given.open_capacity,
        territories=tuple(word.strip() for word in given.territories),
        skills=tuple(word.strip() for word in given.skills),
        calendar=given.calendar,
    )


async def _message(call: Call, member: Row[Any], said: Availability) -> pb.MemberAvailability:
    (person,), _ = await routing_sight.describe(call.tx, [member])
    return pb.MemberAvailability(
        working_hours=[pb.WorkingHours(day=one.day, start=one.start, end=one.end) for one in said.hours],
        absences=[
            pb.Absence(start_time=to_timestamp(one.start), end_time=to_timestamp(one.end), reason=one.reason)
            for one in said.absences
        ],
        timezone=said.timezone,
        daily_capacity=said.daily_capacity,
        open_capacity=said.open_capacity,
        territories=said.territories,
        skills=said.skills,
        assigned_today=person.today,
        open_leads=person.open,
        calendar=said.calendar,
    )

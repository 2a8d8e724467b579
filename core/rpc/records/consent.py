"""Handlers of RecordService: what contacts may be sent, and which addresses get nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from core.domain import filters
from core.domain.errors import Invalid, NotFound, Violation, WrongState, invalid
from core.domain.filters import Kind
from core.domain.messaging.consent import EVERY
from core.domain.nearest import did_you_mean
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.events import refusing
from core.store.events.refusing import Said
from core.store.merging import merges
from core.store.messages import consent, suppressions
from core.store.records import records
from core.store.records.records import Record
from core.store.transaction import Transaction
from dripstone.v1 import record_pb2 as pb

_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FILTERED: dict[str, Kind] = {name: "string" for name in ("address", "channel", "purpose", "reason")}
_CHANNELS = ("email", "dm", "sms")
_PURPOSES = ("marketing", "transactional")


async def get_consent(request: pb.GetConsentRequest, call: Call) -> pb.Consent:
    """Return the stored answers of a contact and what stands against its addresses."""
    return await _message(call.tx, await _contact(call.tx, request.contact_id))


async def set_consent(request: pb.SetConsentRequest, call: Call) -> pb.Consent:
    """Store an answer for a contact; messages on their way that it refuses are stopped at once.

    Raises Invalid for a grant without a reason where the contact themself had refused.
    """
    channel, purpose = _words(request)
    await records.hold(call.tx, [(call.caller.org_id, request.contact_id)])
    contact = await _contact(call.tx, request.contact_id)
    said = Said(
        actor=call.caller.principal_id,
        cause=call.cause,
        contact_id=contact.id,
        channel=channel,
        purpose=purpose,
        reason=request.reason,
    )
    if request.granted:
        await _check_override(call.tx, contact, channel, purpose, request.reason)
        await refusing.grant(call.tx, contact, channel, purpose, said)
    else:
        await refusing.withdraw(call.tx, contact, channel, purpose, said)
    return await _message(call.tx, contact)


async def list_consent_changes(request: pb.ListConsentChangesRequest, call: Call) -> pb.ListConsentChangesResponse:
    """Return a page of everything that was ever said of a contact, newest first."""
    contact = await _contact(call.tx, request.contact_id)
    whose = await merges.parts_of(call.tx, contact.id)
    rows, token = await consent.changes_page(call.tx, whose, request.page_size, request.page_token)
    return pb.ListConsentChangesResponse(changes=[_change(row) for row in rows], next_page_token=token)


async def list_suppressions(request: pb.ListSuppressionsRequest, call: Call) -> pb.ListSuppressionsResponse:
    """Return a page of the addresses that get nothing, newest first."""
    rows, token = await suppressions.page(
        call.tx,
        request.page_size,
        request.page_token,
        filter_text=request.filter,
        where=filters.parse(request.filter, _FILTERED),
    )
    return pb.ListSuppressionsResponse(suppressions=[_suppression(row) for row in rows], next_page_token=token)


async def lift_suppression(request: pb.LiftSuppressionRequest, call: Call) -> pb.Suppression:
    """Let an address get messages again. Raises NotFound and WrongState."""
    if not request.reason.strip():
        raise invalid("reason", "REQUIRED", "is required and missing", "Say why, for the record.")
    row = await suppressions.get(call.tx, request.suppression_id, lock=True)
    if row is None:
        raise NotFound(kind="suppression", id=request.suppression_id)
    if row.lifted_at is not None:
        raise WrongState(kind="suppression", id=row.id, state="lifted", action="lifting it again")
    await suppressions.lift(call.tx, [row.id], actor=call.caller.principal_id, reason=request.reason)
    lifted = await suppressions.get(call.tx, row.id)
    assert lifted is not None
    return _suppression(lifted)


async def _contact(tx: Transaction, contact_id: str) -> Record:
    record = await records.get(tx, contact_id)
    if record is None or record.type != "contact":
        raise await merges.kept_by(tx, contact_id) or NotFound(kind="contact", id=contact_id)
    return record


def _words(request: pb.SetConsentRequest) -> tuple[str, str]:
    """Return channel and purpose as they are stored. Raises Invalid."""
    violations = []
    for name, known in (("channel", _CHANNELS), ("purpose", _PURPOSES)):
        given = getattr(request, name)
        if given not in ("", EVERY) and not _WORD.fullmatch(given):
            hint = did_you_mean(given.lower(), known, f"Send one such as {known[0]}, or leave it out for every one.")
            violations.append(Violation(name, "BAD_NAME", f"`{given[:40]}` is not a word in lower case", hint))
    if violations:
        raise Invalid(*violations)
    return request.channel or EVERY, request.purpose or EVERY


async def _check_override(tx: Transaction, contact: Record, channel: str, purpose: str, reason: str) -> None:
    """Refuse a grant that overrides what the contact themself said and does not tell why. Raises Invalid."""
    key = contact.org_id, contact.id
    refused = (await refusing.own_refusals(tx, [key], channel, purpose)).get(key)
    if refused is not None and not reason.strip():
        message = f"is required: the contact refused {refused.purpose} by {refused.channel} ({refused.actor})"
        raise invalid("reason", "REQUIRED", message, "Say where and how the contact agreed since.")


async def _message(tx: Transaction, contact: Record) -> pb.Consent:
    keys = consent.keys_of((contact.org_id, contact.id), contact.fields)
    standing = await suppressions.standing(tx, contact.id, keys)
    return pb.Consent(
        contact_id=contact.id,
        entries=_entries(await consent.answers_of(tx, contact.id)),
        suppressions=[_suppression(row) for row in standing],
    )


def _entries(rows: Sequence[Row[Any]]) -> list[pb.ConsentEntry]:
    return [
        pb.ConsentEntry(
            channel=row.channel,
            purpose=row.purpose,
            granted=row.granted,
            actor=row.actor,
            reason=row.reason,
            update_time=to_timestamp(row.updated_at),
        )
        for row in rows
    ]


def _change(row: Row[Any]) -> pb.ConsentChange:
    return pb.ConsentChange(
        id=row.id,
        contact_id=row.contact_id,
        channel=row.channel,
        purpose=row.purpose,
        granted=row.granted,
        actor=row.actor,
        reason=row.reason,
        cause=row.cause,
        create_time=to_timestamp(row.created_at),
    )


def _suppression(row: Row[Any]) -> pb.Suppression:
    return pb.Suppression(
        id=row.id,
        channel=row.channel,
        address=row.address,
        purpose=row.purpose,
        reason=row.reason,
        cause=row.cause,
        create_time=to_timestamp(row.created_at),
        lift_time=to_timestamp(row.lifted_at),
    )

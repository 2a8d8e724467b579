"""Who may call what: every method of the contract, by every role, about what is one's own and what is not.

Expectations are made from the contract, calls go over gRPC to a running core, ids are those of a whole story.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from core import ids as minting
from core import provisioning
from core.clock import ManualClock
from core.domain.control.scopes import role_scopes
from core.rpc.methods import ANY_KEY, Access, Method
from core.store.metadata import metadata
from core.store.organizations.members import members
from core.store.transaction import EVERY_ORGANIZATION
from dripstone.v1.errors import ApiError
from dripstone.v1.exchange import Exchange
from tests.contract.filling import filled
from tests.databases import Databases
from tests.receiver import Receiver
from tests.running import RunningCore, running
from tests.story import tell

pytestmark = pytest.mark.anyio

ROLES = ("admin", "editor", "viewer", "approver")
MAY_CHANGE = {"api_keys", "members"}
"""Tables that time itself touches: when a key was used and a member was seen."""

CHOSEN = {"model_id"}
"""Ids of the story that every organization has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call."""

    code: str = "OK"
    reason: str = ""
    told: str = ""


@pytest.fixture
def url(tmp_path: Path, databases: Databases) -> str:
    return databases.on_sqlite(tmp_path / "dripstone.db", "migrated")


@pytest.fixture
async def core(url: str, tmp_path: Path, clock: ManualClock, anyio_backend: str) -> AsyncIterator[RunningCore]:
    async with running(url, tmp_path, clock, requests_per_second=100_000) as started:
        yield started


async def key_of(core: RunningCore, org_id: str, role: str) -> str:
    """Add a member with a role and return a key of theirs."""
    database = core.core.database
    async with database.write(org_id) as tx:
        member_id = minting.mint("mem", tx.now)
        row = {"id": member_id, "email": f"{role}@members.example", "display_name": role, "role": role}
        await tx.insert(members, [{**row, "created_at": tx.now}])
    return await provisioning.mint_key(database, org_id, role, "member", member_id, role_scopes(role))


async def rows(core: RunningCore, org_id: str) -> dict[str, list[tuple[Any, ...]]]:
    async with core.core.database.read(EVERY_ORGANIZATION) as tx:
        return {
            name: [tuple(row) for row in await tx.all(select(table).where(table.c.org_id == org_id))]
            for name, table in metadata.tables.items()
            if name not in MAY_CHANGE
        }


async def ask(channel: grpc.aio.Channel, method: Method, request: Any, key: str) -> Outcome:
    """Call a method and tell what came of it; of a stream, its first answer."""
    metadata_ = (("authorization", f"Bearer {key}"),)
    serializers = {
        "request_serializer": method.request_class.SerializeToString,
        "response_deserializer": method.response_class.FromString,
    }
    try:
        if method.client_streaming:
            begun = channel.stream_stream(method.full_name, **serializers)(iter([request]), metadata=metadata_)
            call: Any = Exchange(begun)  # as our client: else a write that came too late hides the server's word
            await call.read()
            call.cancel()
        elif method.streaming:
            call = channel.unary_stream(method.full_name, **serializers)(request, metadata=metadata_, timeout=10)
            await call.read()
            call.cancel()
        else:
            await channel.unary_unary(method.full_name, **serializers)(request, metadata=metadata_)
    except grpc.aio.AioRpcError as error:
        told = ApiError.of(error)
        said = [told.message, *(f"{one.field} {one.reason} {one.message}" for one in told.violations)]
        return Outcome(told.code, told.reason, " | ".join(said))
    return Outcome()


def unknown(known: str) -> str:
    """Return an id of the same form that nothing has."""
    prefix, separator, rest = known.rpartition("_")
    return f"{prefix}_{'0' * 26}" if separator and len(rest) == 26 else "nothing-of-ours"


def dry(method: Method, request: Any) -> Any:
    """Return the request as one that changes nothing, where the method knows that."""
    if "validate_only" in method.descriptor.input_type.fields_by_name:
        request.validate_only = True
    return request


async def test_a_role_calls_what_its_scopes_say_and_nothing_is_looked_up_before(
    core: RunningCore, receiver: Receiver
) -> None:
    ids = asdict(await tell(core, receiver.url, "zebra"))
    nothing = {name: unknown(value) for name, value in ids.items()}
    org_id = core.organization.org_id
    keys = {role: await key_of(core, org_id, role) for role in ROLES}
    before = await rows(core, org_id)
    async with grpc.aio.insecure_channel(core.grpc_target) as channel:
        for method in core.core.outward.methods:
            for role, key in keys.items():
                if method.scope != ANY_KEY and method.scope not in role_scopes(role):
                    own = await ask(channel, method, filled(method, ids), key)
                    assert (own.code, own.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING"), f"{role} {method.name}"
                    assert method.scope in own.told
                    for other in (method.request_class(), filled(method, nothing)):
                        assert await ask(channel, method, other, key) == own, f"{role} {method.name}"
                elif not method.streaming and (
                    method.access is Access.READ or "validate_only" in method.descriptor.input_type.fields_by_name
                ):
                    got = await ask(channel, method, dry(method, method.request_class()), key)
                    assert got.reason != "SCOPE_MISSING", f"{role} {method.name}"
                    assert got.code not in ("UNIMPLEMENTED", "INTERNAL", "UNKNOWN"), f"{method.name} {got}"
    assert await rows(core, org_id) == before


async def test_what_is_anothers_is_told_of_like_what_is_not_there(core: RunningCore, receiver: Receiver) -> None:
    ids = asdict(await tell(core, receiver.url, "zebra"))
    nothing = {name: value if name in CHOSEN else unknown(value) for name, value in ids.items()}
    others = [await provisioning.create_organization(core.core.database, "Other") for _ in range(2)]
    curious, control = [await key_of(core, other.org_id, "admin") for other in others]
    before = await rows(core, core.organization.org_id)
    reached = 0
    async with grpc.aio.insecure_channel(core.grpc_target) as channel:
        # Reads first, and writes tried only: what both make of their own must not tell them apart.
        for method in sorted(core.core.outward.methods, key=lambda one: one.access is not Access.READ):
            foreign = await ask(channel, method, dry(method, filled(method, ids)), curious)
            absent = await ask(channel, method, dry(method, filled(method, nothing)), control)
            assert _without(foreign, ids, others[0].org_id) == _without(absent, nothing, others[1].org_id), method.name
            reached += foreign.reason == "NOT_FOUND"
    assert reached > len(core.core.outward.methods) // 4, "many of the requests must reach what they name"
    assert await rows(core, core.organization.org_id) == before


def _without(outcome: Outcome, ids: Mapping[str, str], org_id: str) -> Outcome:
    """Return an outcome without the ids that the caller named, and without those that a call mints."""
    told = outcome.told.replace(org_id, "<org>")
    for value in sorted(set(ids.values()), key=len, reverse=True):
        told = told.replace(value, "<id>")
    return Outcome(outcome.code, outcome.reason, re.sub(r"\b[a-z]{2,5}_[0-9a-z]{26}\b", "<id>", told))

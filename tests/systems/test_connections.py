"""Connections to systems of record through the API: their life, their credentials, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from core.store.systems.master_keys import VARIABLE
from dripstone.v1 import connection_pb2 as pb
from dripstone.v1 import system_pb2
from tests.running import RunningCore
from tests.systems.fixtures import HUBSPOT_FIELDS, PULL, linked_to_hubspot, mapping

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


@contextmanager
def refused(reason: str, *more: str) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as error:
        yield
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]  # type: ignore[attr-defined]
    for text in (reason, *more):
        assert text.encode() in details


def update(connection_id: str, *paths: str, **changes: Any) -> pb.UpdateConnectionRequest:
    return pb.UpdateConnectionRequest(
        connection=pb.Connection(id=connection_id, **changes), update_mask={"paths": paths}
    )


async def test_a_connection_to_a_system_lives_beside_those_of_channels(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with linked_to_hubspot(core) as linked:
        made, client = linked.connection, linked.client.connections
        assert (made.kind, made.system.system, made.has_credentials, made.etag) == ("system", "hubspot", True, '"2"')
        listed = await client.ListConnections(pb.ListConnectionsRequest())
        assert list(listed.connections) == [made]
        assert await client.GetConnection(pb.GetConnectionRequest(connection_id=made.id)) == made
        changed = await client.UpdateConnection(update(made.id, "display_name", display_name="Ours"))
        assert (changed.display_name, changed.has_credentials) == ("Ours", True)
        with refused("FIXED"):
            await client.UpdateConnection(update(made.id, kind="channel"))
        with refused("WRONG_CONNECTION_KIND"):
            await client.TestConnection(pb.TestConnectionRequest(connection_id=made.id))
        with refused("UNKNOWN_KIND", "Did you mean system?"):
            given = pb.Connection(kind="sistem")
            await client.CreateConnection(pb.CreateConnectionRequest(connection=given))
        monkeypatch.setenv(VARIABLE, "no key")
        with refused("MASTER_KEY_MISSING"):
            another = system_pb2.Credentials(token="another")
            await client.SetCredentials(system_pb2.SetCredentialsRequest(connection_id=made.id, credentials=another))
        await client.DeleteConnection(pb.DeleteConnectionRequest(connection_id=made.id))
        async with core.core.database.read(core.organization.org_id) as tx:
            for table in ("credentials", "sync_links", "syncs", "connections"):
                assert (await tx.fetch(f"SELECT count(*) FROM {table}"))[0][0] == 0


async def test_credentials_are_not_taken_along_to_another_place(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        moved = pb.SystemSettings(
            system="hubspot",
            base_url="https://crm.example.com",
            mappings=[mapping(HUBSPOT_FIELDS, "contacts", "email")],
        )
        changed = await linked.client.connections.UpdateConnection(update(linked.connection.id, "system", system=moved))
        assert not changed.has_credentials
        with refused("NO_CREDENTIALS"):
            await linked.begin(PULL)


@pytest.mark.parametrize(
    ("credentials", "field"),
    [
        ({"token": "with space"}, "credentials.token"),
        ({"token": "pat", "client_id": "too"}, "credentials.client_id"),
        ({"client_id": "one"}, "credentials.client_secret"),
        ({"client_id": "one", "client_secret": "two"}, "credentials.refresh_token"),
        ({"token": "pat\n"}, "credentials.token"),
        (
            {"client_id": "a", "client_secret": "b", "refresh_token": "c", "token_url": "http://10.0.0.1/token"},
            "credentials.token_url",
        ),
    ],
)
async def test_credentials_that_cannot_be_right_are_refused_and_not_told_again(
    core: RunningCore, credentials: dict[str, str], field: str
) -> None:
    async with linked_to_hubspot(core) as linked:
        with refused(field):
            await linked.client.connections.SetCredentials(
                system_pb2.SetCredentialsRequest(
                    connection_id=linked.connection.id,
                    credentials=system_pb2.Credentials(**credentials),  # type: ignore[arg-type]
                )
            )


async def test_a_connection_has_one_sync_under_way_and_it_can_be_stopped(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        begun = await linked.begin(PULL)
        with refused("SYNC_UNDER_WAY", begun.id):
            await linked.begin(PULL)
        cancelled = await linked.client.connections.CancelSync(system_pb2.CancelSyncRequest(sync_id=begun.id))
        assert cancelled.state == system_pb2.SYNC_STATE_CANCELLED
        with refused("WRONG_STATE"):
            await linked.client.connections.CancelSync(system_pb2.CancelSyncRequest(sync_id=begun.id))
        await core.settle()
        assert (await linked.get(begun.id)).done_count == 0
        with refused("direction"):
            await linked.begin(0)
        with refused("types[0]", "Did you mean contact?"):
            await linked.begin(PULL, types=["contacts"])
        with refused("outcome"):
            request = system_pb2.ListSyncItemsRequest(sync_id=begun.id, outcome="fail")
            await linked.client.connections.ListSyncItems(request)

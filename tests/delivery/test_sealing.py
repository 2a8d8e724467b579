"""What is secret of endpoints and connections is stored sealed, opened where it is used, and lost without a leak."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from core.delivery.dispatcher import Dispatcher
from core.domain.errors import MasterKeyMissing
from core.domain.webhooks import signing
from core.domain.webhooks.faults import LOCKED_FOR
from core.rpc.connections import connections
from core.rpc.webhooks import endpoints
from core.store.systems import sealing
from core.store.systems.connections import connections as connections_table
from core.store.systems.master_keys import MasterKeys, NoMasterKeys
from core.store.systems.vault import Vault
from core.store.webhooks.endpoints import endpoints as endpoints_table
from dripstone.v1 import connection_pb2, webhook_pb2
from tests.delivery.conftest import Outbox
from tests.delivery.service import Service
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio
TOKEN = "a-token-of-theirs"
TABLES = ("endpoints", "connections")
EXTRA = (webhook_pb2.ExtraSignature(format=webhook_pb2.SIGNATURE_FORMAT_V1A),)


async def stored(outbox: Outbox) -> str:
    """Return all that the database has of endpoints and connections."""
    async with outbox.database.system() as tx:
        rows = [[tuple(row) for row in await tx.fetch(f"SELECT * FROM {name}")] for name in TABLES]
    return str(rows)


async def _seen_wherever_it_stands(outbox: Outbox, file: Path, endpoint_id: str) -> None:
    """Move what is sealed about, and leave everything as it was."""
    async with outbox.database.system() as tx:
        (old,) = MasterKeys(file).all()
        assert await sealing.sealed_under(tx, but=[old.id]) == set()
        row = await outbox.endpoint_row(endpoint_id)
        nothing: dict[str, Any] = {"secrets": [], "signing_seed": "", "auth": {}}
        await tx.run(update(endpoints_table).values(nothing))
        assert await sealing.sealed_under(tx) == {old.id}, "the connection's"
        await tx.run(update(connections_table).values(auth={}))
        for name in nothing:
            await tx.run(update(endpoints_table).values({**nothing, name: getattr(row, name)}))
            assert await sealing.sealed_under(tx) == {old.id}, name
        decoy = {"scheme": "basic", "username": "sealed:1:mk_x:YQ==:YQ==", "password": "p"}
        await tx.run(update(endpoints_table).values({**nothing, "auth": decoy}))
        assert await sealing.sealed_under(tx) == set(), "a name is not secret"
        raise ZeroDivisionError


async def renewed(outbox: Outbox, vault: Vault) -> int:
    """Wrap everything anew and return how many rows that took."""
    async with outbox.database.system() as tx:
        each = [await renew(tx, vault, ("", "")) for renew in (sealing.renew_endpoints, sealing.renew_connections)]
    return sum(one.count for one in each)


def opened(service: Service, vault: Vault) -> Dispatcher:
    """Let a process with this vault answer calls, and return its dispatcher."""
    service.parts = replace(service.parts, vault=vault)
    return Dispatcher(service.outbox.database, service.sender, service.outbox.clock, vault=vault)


async def sent(outbox: Outbox, dispatcher: Dispatcher, receiver: Receiver) -> Any:
    """Emit an event, have it sent, and return what the receiver got."""
    await outbox.emit()
    await dispatcher.drain()
    await dispatcher.stop(0)
    return receiver.received[-1]


async def test_secrets_are_stored_sealed_and_every_request_is_signed_as_before(
    outbox: Outbox, sender: Any, receiver: Receiver, tmp_path: Path
) -> None:
    service, file = Service(outbox, sender), tmp_path / "master.key"
    dispatcher = opened(service, Vault(MasterKeys(file)))
    auth = webhook_pb2.EndpointAuth(bearer=webhook_pb2.BearerAuth(token=TOKEN))
    made = await service.create(receiver.url, auth=auth, extra_signatures=EXTRA)
    call = connection_pb2.HttpCall(url="https://sms.example.com/send", body='{"to": "{{ message.to }}"}', auth=auth)
    given = connection_pb2.Connection(channel="sms", call=call)
    connection = await service(connections.create_connection, connection_pb2.CreateConnectionRequest(connection=given))
    written = await stored(outbox)
    assert (TOKEN in written, made.secret in written, written.count("sealed:1:mk_")) == (False, False, 4)

    got = await sent(outbox, dispatcher, receiver)
    signing.verify(made.secret, got.headers, got.body, outbox.clock.now())
    signing.verify(made.endpoint.public_key, got.headers, got.body, outbox.clock.now())
    assert got.headers["authorization"] == f"Bearer {TOKEN}"

    # What is read can be written back, and keeps its secret; a new key signs beside the old one.
    made.endpoint.ClearField("state")
    made.endpoint.ClearField("etag")
    await service.update(made.endpoint)
    connection.display_name = "SMS"
    await service(connections.update_connection, connection_pb2.UpdateConnectionRequest(connection=connection))
    rotated = await service(endpoints.rotate_secret, webhook_pb2.RotateSecretRequest(endpoint_id=made.endpoint.id))
    keys = MasterKeys(file)
    keys.rotate()
    assert (await renewed(outbox, Vault(keys)), await renewed(outbox, Vault(keys))) == (2, 0)
    keys.keep_first()
    got = await sent(outbox, opened(service, Vault(MasterKeys(file))), receiver)
    for secret in (made.secret, rotated.secret, made.endpoint.public_key):
        signing.verify(secret, got.headers, got.body, outbox.clock.now())
    assert got.headers["authorization"] == f"Bearer {TOKEN}"
    written = await stored(outbox)
    assert not any(secret in written for secret in (TOKEN, made.secret, rotated.secret))


async def test_without_its_key_nothing_is_sent_and_the_way_out_is_told(
    outbox: Outbox, sender: Any, receiver: Receiver, tmp_path: Path
) -> None:
    service = Service(outbox, sender)
    opened(service, Vault(MasterKeys(tmp_path / "one.key")))
    auth = webhook_pb2.EndpointAuth(bearer=webhook_pb2.BearerAuth(token=TOKEN))
    made = await service.create(receiver.url, auth=auth)
    other = opened(service, Vault(MasterKeys(tmp_path / "other.key")))
    await outbox.emit()
    await other.drain()
    await other.stop(0)
    held = await outbox.only()
    (attempt,) = await outbox.attempts(held.id)
    assert receiver.received == []
    assert "cannot be sealed or opened with the master keys of this process" in attempt.error
    assert (held.state, held.due_at) == ("pending", outbox.clock.now() + LOCKED_FOR)
    assert held.attempts_before == held.attempt_count == 1, "it does not count on the schedule"
    assert (await outbox.endpoint_row(made.endpoint.id)).failures == 0, "it is not the receiver's fault"
    async with outbox.database.system() as tx:
        lost = MasterKeys(tmp_path / "lost.key")
        assert await sealing.missing_keys(tx, lost) == {key.id for key in MasterKeys(tmp_path / "one.key").all()}
        assert await sealing.missing_keys(tx, MasterKeys(tmp_path / "one.key")) == set()
    with pytest.raises(NoMasterKeys):  # a new one would be another one
        lost.all()
    with pytest.raises(MasterKeyMissing) as refused:
        Vault(lost).open((await outbox.endpoint_row(made.endpoint.id)).secrets[0]["secret"], "")
    assert str(tmp_path) not in refused.value.message, "where a key was looked for is for the operator alone"
    with pytest.raises(MasterKeyMissing):  # what is to be kept has to be opened
        await service.update(webhook_pb2.Endpoint(id=made.endpoint.id, auth=made.endpoint.auth), "auth")
    right = opened(service, Vault(MasterKeys(tmp_path / "one.key")))
    outbox.clock.advance(timedelta(minutes=10))
    await right.drain()
    await right.stop(0)
    assert len(receiver.received) == 1


async def test_what_can_no_longer_be_opened_is_set_anew(
    outbox: Outbox, sender: Any, receiver: Receiver, tmp_path: Path
) -> None:
    service, file = Service(outbox, sender), tmp_path / "master.key"
    opened(service, Vault(MasterKeys(file)))
    auth = webhook_pb2.EndpointAuth(bearer=webhook_pb2.BearerAuth(token=TOKEN))
    made = await service.create(receiver.url, auth=auth, extra_signatures=EXTRA)
    call = connection_pb2.HttpCall(url="https://sms.example.com/send", body='{"to": "{{ message.to }}"}', auth=auth)
    given = connection_pb2.Connection(channel="sms", call=call)
    connection = await service(connections.create_connection, connection_pb2.CreateConnectionRequest(connection=given))
    with pytest.raises(ZeroDivisionError):
        await _seen_wherever_it_stands(outbox, file, made.endpoint.id)

    file.unlink()
    dispatcher = opened(service, Vault(MasterKeys(file)))
    await service.update(webhook_pb2.Endpoint(id=made.endpoint.id, url=receiver.url, description="x"), "description")
    await service.update(webhook_pb2.Endpoint(id=made.endpoint.id, auth=auth), "auth", "extra_signatures")
    rotated = await service(endpoints.rotate_secret, webhook_pb2.RotateSecretRequest(endpoint_id=made.endpoint.id))
    assert rotated.old_secret_expire_time.ToDatetime(UTC) == outbox.clock.now(), "no old one signs beside it"
    again = connection_pb2.Connection(id=connection.id, call=call)
    await service(connections.update_connection, connection_pb2.UpdateConnectionRequest(connection=again))
    async with outbox.database.system() as tx:
        assert await sealing.sealed_under(tx, but=[key.id for key in MasterKeys(file).all()]) == set()
    got = await sent(outbox, dispatcher, receiver)
    signing.verify(rotated.secret, got.headers, got.body, outbox.clock.now())
    assert got.headers["authorization"] == f"Bearer {TOKEN}"


async def test_what_stood_unsealed_is_sealed_once_there_is_a_key_for_every_process(
    outbox: Outbox, sender: Any, receiver: Receiver, tmp_path: Path
) -> None:
    service, keys = Service(outbox, sender), MasterKeys(tmp_path / "master.key")
    dispatcher = opened(service, Vault(keys, seals=False))
    made = await service.create(receiver.url)
    assert made.secret in await stored(outbox)
    assert await renewed(outbox, Vault(keys)) == 1
    assert made.secret not in await stored(outbox)
    got = await sent(outbox, dispatcher, receiver)
    signing.verify(made.secret, got.headers, got.body, outbox.clock.now())

"""Serving to others takes TLS: both listeners speak it with the operator's certificate."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx2
import pytest

from core.bootstrap import Core
from core.clock import SystemClock
from core.settings import Settings
from dripstone.v1 import organization_pb2
from dripstone.v1.client import Client
from tests.certificates import certificate

pytestmark = pytest.mark.anyio


async def test_both_listeners_speak_tls_and_refuse_plaintext(tmp_path: Path, anyio_backend: str) -> None:
    chain, private = certificate(tmp_path)
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'dripstone.db'}",
        data_dir=tmp_path,
        roles=frozenset({"grpc", "http"}),
        grpc_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        tls_certificate=chain,
        tls_key=private,
    )
    core = await Core.open(settings, SystemClock())
    await core.start()
    try:
        connection = await core.write_connection(tmp_path)
        assert connection.http.startswith("https://")
        async with Client(connection.grpc, connection.api_key, tls=chain.read_bytes()) as client:
            caller = await client.organization.GetCaller(organization_pb2.GetCallerRequest())
        assert caller.organization_name == "Demo"
        trusting = ssl.create_default_context(cafile=str(chain))
        headers = {"Authorization": f"Bearer {connection.api_key}"}
        async with httpx2.AsyncClient(verify=trusting, headers=headers) as http:
            assert (await http.get(f"{connection.http}/api/v1/caller")).status_code == 200
        async with httpx2.AsyncClient(headers=headers) as http:
            with pytest.raises(httpx2.HTTPError):
                await http.get(f"{connection.http.replace('https', 'http')}/api/v1/caller")
    finally:
        await core.stop()


async def test_a_key_that_is_not_the_certificates_ends_the_start(tmp_path: Path, anyio_backend: str) -> None:
    (tmp_path / "another").mkdir()
    chain, _ = certificate(tmp_path)
    _, private = certificate(tmp_path / "another")
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'dripstone.db'}",
        data_dir=tmp_path,
        roles=frozenset({"http"}),  # gRPC would refuse it before
        http_listen="127.0.0.1:0",
        tls_certificate=chain,
        tls_key=private,
    )
    core = await Core.open(settings, SystemClock())
    with pytest.raises(ssl.SSLError):
        async with asyncio.timeout(20):
            await core.start()

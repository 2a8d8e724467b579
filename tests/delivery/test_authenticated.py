"""Requests that authenticate, against real servers: fixed credentials, fetched tokens, client certificates."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from core.delivery.authenticated import send_as
from core.delivery.http import WebhookSender
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.authentication import Basic, Bearer, ClientCertificate, OAuth2
from core.domain.webhooks.classify import Outcome
from tests.databases import START
from tests.domain.webhooks.certificates import certificate_pem, key_pem

pytestmark = pytest.mark.anyio
OWNER = ("org_1", "ep_1")
LOOPBACK = Destinations.of(["127.0.0.0/8"])


async def sent(sender, auth, url, now=START, owner=OWNER, **options):
    return await send_as(sender, owner, auth, url, {"webhook-id": "msg_1"}, b"{}", now, **options)


async def test_fixed_credentials_are_sent_with_every_request(sender, receiver):
    for auth in (Basic("Aladdin", "open sesame"), Bearer("abc"), None):
        assert (await sent(sender, auth, receiver.url)).outcome is Outcome.DELIVERED
    assert [request.headers.get("authorization") for request in receiver.received] == [
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Bearer abc",
        None,
    ]


@dataclass
class Issuer:
    """Gives out numbered tokens, and remembers who asked how."""

    receiver: object
    asked: list = field(default_factory=list)
    lasts: object = 3600
    status: int = 200
    only_in_body: bool = False
    text: str = ""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self):
        self.receiver.answers["/token"] = self
        self.held.set()

    @property
    def auth(self):
        return OAuth2(f"{self.receiver.base}/token", "cl:ient", "s&cret", "read write", "api")

    async def __call__(self, request):
        form = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
        self.asked.append((request.headers.get("authorization", ""), form))
        self.arrived.set()
        await self.held.wait()
        if self.only_in_body and "client_secret" not in form:
            return web.json_response({"error": "invalid_client"}, status=401)
        if self.text or self.status != 200:
            return web.Response(status=self.status, text=self.text)
        answer = {"access_token": f"token-{len(self.asked)}", "token_type": "bearer", "expires_in": self.lasts}
        return web.json_response({name: value for name, value in answer.items() if value is not None})


@pytest.fixture
def issuer(receiver):
    return Issuer(receiver)


def shown(receiver, path="/"):
    return [request.headers.get("authorization") for request in receiver.received if request.path == path]


async def test_a_token_is_fetched_once_and_kept_until_shortly_before_its_end(sender, receiver, issuer):
    for at in (0, 10, 3569, 3571):
        assert (
            await sent(sender, issuer.auth, receiver.url, START + timedelta(seconds=at))
        ).outcome.value == "delivered"
    assert shown(receiver) == ["Bearer token-1"] * 3 + ["Bearer token-2"]
    pair = base64.b64encode(b"cl%3Aient:s%26cret").decode()
    asked = {"grant_type": "client_credentials", "scope": "read write", "audience": "api"}
    assert issuer.asked == [(f"Basic {pair}", asked)] * 2


async def test_an_issuer_that_takes_the_secret_in_the_body_alone_gets_it_there(sender, receiver, issuer):
    issuer.only_in_body = True
    assert (await sent(sender, issuer.auth, receiver.url)).outcome is Outcome.DELIVERED
    authorization, form = issuer.asked[-1]
    assert (authorization, form["client_id"], form["client_secret"]) == ("", "cl:ient", "s&cret")


async def test_a_token_is_the_owners_own_and_of_these_settings(sender, receiver, issuer):
    await sent(sender, issuer.auth, receiver.url)
    await sent(sender, issuer.auth, receiver.url, owner=("org_2", "ep_1"))
    other = OAuth2(issuer.auth.token_url, "another", "secret")
    await sent(sender, other, receiver.url)
    assert shown(receiver) == ["Bearer token-1", "Bearer token-2", "Bearer token-3"]


async def test_many_at_once_fetch_one_token(sender, receiver, issuer):
    issuer.held.clear()
    sending = [asyncio.create_task(sent(sender, issuer.auth, receiver.url)) for _ in range(10)]
    await issuer.arrived.wait()
    issuer.held.set()
    assert {result.outcome for result in await asyncio.gather(*sending)} == {Outcome.DELIVERED}
    assert (len(issuer.asked), set(shown(receiver))) == (1, {"Bearer token-1"})


async def test_a_token_that_is_no_longer_taken_is_fetched_again_once(sender, receiver, issuer):
    async def takes(request):
        return web.Response(status=204 if request.headers["authorization"] == good else 401)

    receiver.answers["/"] = takes
    good = "Bearer token-1"
    assert (await sent(sender, issuer.auth, receiver.url)).status_code == 204
    good = "Bearer token-2"
    assert (await sent(sender, issuer.auth, receiver.url)).status_code == 204
    good = "Bearer none"
    assert (await sent(sender, issuer.auth, receiver.url)).status_code == 401
    assert shown(receiver) == [f"Bearer token-{number}" for number in (1, 1, 2, 2, 3)]


async def test_a_new_token_that_is_refused_is_not_fetched_again(sender, receiver, issuer):
    receiver.answers["/"] = 401
    assert (await sent(sender, issuer.auth, receiver.url)).status_code == 401
    assert len(issuer.asked) == 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"status": 500}, "HTTP 500"),
        ({"status": 403, "text": "s&cret is wrong"}, "HTTP 403"),
        ({"status": 302}, "HTTP 302"),
        ({"text": "no"}, "not JSON"),
        ({"text": "[" * 100_000}, "not JSON"),
        ({"text": "[]"}, "no usable access_token"),
        ({"text": '{"access_token": "a b"}'}, "no usable access_token"),
        ({"text": '{"access_token": "a\\r\\nX: y"}'}, "no usable access_token"),
        ({"text": '{"access_token": "a", "token_type": "mac"}'}, "another type"),
    ],
)
async def test_without_a_token_nothing_is_sent_and_the_reason_tells_no_secret(
    sender, receiver, issuer, settings, error
):
    for name, value in settings.items():
        setattr(issuer, name, value)
    result = await sent(sender, issuer.auth, receiver.url)
    assert (result.outcome, result.ruling.retry, result.status_code) == (Outcome.TOKEN_FAILED, True, 0)
    assert error in result.error
    assert "s&cret" not in result.error + result.response_text
    assert shown(receiver) == []


@pytest.mark.parametrize("said", [None, "soon", -5, 1e400, True, 20])
async def test_an_end_that_is_not_said_or_odd_is_survived(sender, receiver, issuer, said):
    issuer.lasts = None if said == 1e400 else said
    if said == 1e400:
        issuer.text = '{"access_token": "token-1", "expires_in": 1e400}'
    assert (await sent(sender, issuer.auth, receiver.url)).outcome is Outcome.DELIVERED


async def test_a_token_url_is_guarded_like_every_other(sender, receiver, issuer):
    inside = OAuth2("https://10.0.0.1/token", "a", "b")
    result = await sent(sender, inside, receiver.url)
    assert (result.outcome, result.error) == (Outcome.DESTINATION_NOT_ALLOWED, "destination not allowed")
    assert receiver.received == []


async def test_fetching_and_sending_share_one_deadline(receiver, issuer):
    issuer.held.clear()
    slow = WebhookSender(LOOPBACK, deadline_seconds=0.3)
    results = await asyncio.gather(*(sent(slow, issuer.auth, receiver.url) for _ in range(3)))
    issuer.held.set()
    await slow.close()
    assert {result.outcome for result in results} == {Outcome.TOKEN_FAILED}
    assert all(result.duration < timedelta(seconds=0.6) for result in results)
    assert shown(receiver) == []


def certificate(name, signer="authority"):
    return ClientCertificate(certificate_pem(name, signer), key_pem(name))


@asynccontextmanager
async def strict_server(tmp_path):
    """Serve over TLS to those alone whose certificate is the authority's; tell who came, connection by connection."""
    came = []
    pem = tmp_path / "server.pem"
    pem.write_text(certificate_pem("server") + key_pem("server"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate_pem("authority"))

    async def handle(request):
        await request.read()
        shown = request.transport.get_extra_info("peercert")
        came.append((dict(part[0] for part in shown["subject"])["commonName"], id(request.transport)))
        return web.Response(status=204)

    application = web.Application()
    application.router.add_route("*", "/", handle)
    runner = web.AppRunner(application, shutdown_timeout=0, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/", came
    finally:
        await runner.cleanup()


@asynccontextmanager
async def trusting_sender():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificate_pem("authority"))
    sender = WebhookSender(LOOPBACK, deadline_seconds=5, ssl_context=context)
    try:
        yield sender
    finally:
        await sender.close()


async def test_a_client_certificate_is_shown_and_its_connections_are_never_anothers(tmp_path):
    async with strict_server(tmp_path) as (url, came), trusting_sender() as sender:
        for name in ("first", "second", "first", "second", "first"):
            assert (await sent(sender, certificate(name), url)).outcome is Outcome.DELIVERED
    assert [name for name, _ in came] == ["first", "second", "first", "second", "first"]
    connections = {name: {connection for who, connection in came if who == name} for name in ("first", "second")}
    assert len(connections["first"]) == len(connections["second"]) == 1
    assert not connections["first"] & connections["second"]


@pytest.mark.parametrize("auth", [None, certificate("stranger", "stranger"), Bearer("abc")])
async def test_who_shows_no_certificate_that_the_receiver_trusts_is_not_let_in(tmp_path, auth):
    async with strict_server(tmp_path) as (url, came), trusting_sender() as sender:
        result = await sent(sender, auth, url)
    # Under TLS 1.3 a server judges its client after the handshake, and some just hang up.
    assert result.outcome in (Outcome.TLS_FAILED, Outcome.CONNECTION_LOST)
    assert came == []


async def test_a_certificate_that_cannot_be_used_fails_at_tls(tmp_path):
    broken = ClientCertificate(certificate_pem("first"), key_pem("first", b"locked"))
    async with strict_server(tmp_path) as (url, came), trusting_sender() as sender:
        result = await sent(sender, broken, url)
    assert (result.outcome, came) == (Outcome.TLS_FAILED, [])


async def test_a_server_that_is_not_trusted_is_not_shown_anything(tmp_path):
    async with strict_server(tmp_path) as (url, came):
        sender = WebhookSender(LOOPBACK, deadline_seconds=5)
        result = await sent(sender, certificate("first"), url)
        await sender.close()
    assert (result.outcome, came) == (Outcome.TLS_FAILED, [])


async def test_another_method_can_be_sent(sender, receiver):
    async def handle(request):
        return web.Response(status=200, text=json.dumps(request.method))

    receiver.answers["/"] = handle
    result = await sent(sender, None, receiver.url, method="PATCH")
    assert (result.response_text, result.headers["content-length"]) == ('"PATCH"', "7")

"""The connect-time guard: canaries on loopback must never see a connection, however the URL is written."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import ada_url
import pytest
from aiohttp.abc import AbstractResolver
from yarl import URL

from core.delivery.http import WebhookSender
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.classify import Outcome

pytestmark = pytest.mark.anyio

HOSTS = """
127.0.0.1 127.1 127.0.1 127.0.0.1. 127.255.255.254 127.127.127.127 0 0.0.0.0 0.0.0.1 0.1.2.3 00000000 0x0 0x7f.1
0x7f.0.0.1 0x7f000001 0x7F.0x0.0x0.0x1 0x7f.0x1 0X7F000001 2130706433 017700000001 0177.1 0177.0.0.1
0177.0x0.0.1 00177.00.00.01 127.0x1 127.0.0x1 [::1] [0:0:0:0:0:0:0:1] [::] [::127.0.0.1] [::7f00:1]
[::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:7f00:0001] [0:0:0:0:0:ffff:127.0.0.1] [::ffff:0:127.0.0.1]
[::ffff:0.0.0.0] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::] [fe80::1] [fc00::1] [::ffff:0:0]
localhost LOCALHOST localhost. LocalHost.LocalDomain ip6-localhost ip6-loopback localhost.localdomain a.localhost
①②⑦.⓪.⓪.① ①②⑦.0.0.1 ⓛⓞⓒⓐⓛⓗⓞⓢⓣ 127%2e0%2e0%2e1 %31%32%37.0.0.1 127。0。0。1 １２７.0.0.1 ::1
user@127.0.0.1 example.com@127.0.0.1 127.0.0.1:80@127.0.0.1
""".split()  # noqa: RUF001 -- look-alikes, and a table that can be read


class Rebinding(AbstractResolver):
    """Answers with a public address first and with loopback ever after."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in answer
        ]

    async def close(self):
        return


@asynccontextmanager
async def canaries():
    """Listen on 127.0.0.1 and, where there is one, ::1, on one port; yield the port and who connected."""
    seen = []

    async def accepted(_reader, writer):
        seen.append(writer.get_extra_info("sockname"))
        writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    servers = [server]
    with suppress(OSError):  # no IPv6 here
        servers.append(await asyncio.start_server(accepted, "::1", port))
    try:
        yield port, seen
    finally:
        for each in servers:
            each.close()
            await each.wait_closed()


@asynccontextmanager
async def guarded(destinations=Destinations(), **options):  # noqa: B008 -- frozen
    sender = WebhookSender(destinations, deadline_seconds=2, **options)
    try:
        yield sender
    finally:
        await sender.close()


async def test_no_spelling_of_loopback_reaches_a_listener():
    assert len(HOSTS) >= 60
    async with canaries() as (port, seen), guarded() as sender:
        delivered = []
        for host in HOSTS:
            texts = {f"http://{host}:{port}/", f"http://{host.upper()}:{port}/"}
            texts |= {ada_url.normalize_url(text) for text in texts if ada_url.check_url(text)}
            for text in sorted(texts):
                result = await sender.send(text, {}, b"{}")
                if result.outcome not in (Outcome.DESTINATION_NOT_ALLOWED, Outcome.DNS_FAILED, Outcome.CONNECT_FAILED):
                    delivered.append((text, result))
    assert seen == []
    assert delivered == []


async def test_the_canaries_do_hear_what_is_allowed():
    async with canaries() as (port, seen), guarded(Destinations.of(["127.0.0.0/8", "::1/128"])) as sender:
        for host in ("127.0.0.1", "0x7f.1", "2130706433"):
            await sender.send(ada_url.normalize_url(f"http://{host}:{port}/"), {}, b"{}")
    assert len(seen) == 3


async def test_a_name_that_is_rebound_to_loopback_is_not_reached():
    resolver = Rebinding(["192.0.2.1"], ["127.0.0.1"])
    async with canaries() as (port, seen), guarded(resolver=resolver) as sender:
        checked_before = await resolver.resolve("rebind.example.com")
        result = await sender.send(f"http://rebind.example.com:{port}/", {}, b"{}")
    assert checked_before[0]["host"] == "192.0.2.1"
    assert (resolver.asked, seen) == (2, [])
    assert result.outcome is Outcome.DESTINATION_NOT_ALLOWED


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["127.0.0.1", "::1"],
        ["10.0.0.1", "169.254.169.254", "::1", "fe80::1", "127.0.0.1"],
        ["::ffff:127.0.0.1"],
    ],
)
async def test_a_name_with_refused_addresses_is_told_as_one_plain_refusal(addresses):
    async with canaries() as (port, seen), guarded(resolver=Rebinding(addresses)) as sender:
        result = await sender.send(f"http://inside.example.com:{port}/", {}, b"{}")
    assert seen == []
    assert (result.outcome, result.error) == (Outcome.DESTINATION_NOT_ALLOWED, "destination not allowed")


async def test_verdicts_of_requests_at_once_do_not_mix(receiver):
    allowed = Destinations.of(["127.0.0.1/32"])
    port = URL(receiver.base).port
    async with guarded(allowed) as sender:
        urls = [f"http://127.0.0.1:{port}/", f"http://127.0.0.2:{port}/"] * 20
        results = await asyncio.gather(*(sender.send(url, {}, b"{}") for url in urls))
    assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.DESTINATION_NOT_ALLOWED] * 20
    assert len(receiver.received) == 20


@pytest.mark.parametrize("own_host", ["127.0.0.1", "0.0.0.0", "::"])
async def test_our_own_listening_address_is_refused(receiver, own_host):
    port = URL(receiver.base).port
    allowed = Destinations.of(["127.0.0.0/8"])
    async with guarded(allowed, own_addresses=[(own_host, port)]) as sender:
        refused = await sender.send(f"http://127.0.0.1:{port}/", {}, b"{}")
    async with guarded(allowed, own_addresses=[(own_host, port + 1)]) as sender:
        other_port = await sender.send(f"http://127.0.0.1:{port}/", {}, b"{}")
    assert refused.outcome is Outcome.DESTINATION_NOT_ALLOWED
    assert other_port.outcome is Outcome.DELIVERED


async def test_a_name_that_does_not_resolve_is_a_dns_failure():
    class Nowhere(Rebinding):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            raise OSError(None, "DNS lookup failed")

    async with guarded(resolver=Nowhere()) as sender:
        result = await sender.send("https://nowhere.example.com/", {}, b"{}")
    assert (result.outcome, result.error) == (Outcome.DNS_FAILED, "the host name could not be resolved")


async def test_names_whose_dns_never_answers_do_not_hold_up_others(receiver):
    class Stuck(Rebinding):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            await asyncio.sleep(60)

    sender = WebhookSender(Destinations.of(["127.0.0.0/8"]), deadline_seconds=0.5, resolver=Stuck())
    stuck = [asyncio.create_task(sender.send(f"https://s{n}.example.com/", {}, b"")) for n in range(24)]
    await asyncio.sleep(0)
    result = await sender.send(receiver.base + "/", {}, b"{}")
    assert result.outcome is Outcome.DELIVERED
    assert not any(task.done() for task in stuck)
    assert {(await task).outcome for task in stuck} == {Outcome.TIMEOUT}
    await sender.close()

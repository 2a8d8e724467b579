"""The address guard against a name server that lies and URLs that pretend: canaries count who got through to them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from core.delivery.http import WebhookSender
from core.domain.errors import Invalid
from core.domain.webhooks import urls
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.classify import Outcome
from tests.dns_server import answering
from tests.domain.webhooks.test_addresses import DENIED

pytestmark = pytest.mark.anyio
PUBLIC = "127.0.0.2"
"""Plays a public address: the deployments of these tests allow it, and no other of this machine."""
ALLOWED = Destinations.of([f"{PUBLIC}/32"])
REFUSED = (Outcome.DESTINATION_NOT_ALLOWED, "destination not allowed", 0, "")


@dataclass
class Listeners:
    """Plain servers on one port of several addresses, and how often each was connected to."""

    port: int = 0
    heard: list[str] = field(default_factory=list)


@asynccontextmanager
async def listening(*hosts):
    """Listen where the machine has the address, and answer 204 to everybody."""
    listeners = Listeners()

    async def accepted(reader, writer):
        listeners.heard.append(writer.get_extra_info("sockname")[0])
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    async with AsyncExitStack() as stack:
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with suppress(OSError):  # a machine without IPv6
                server = await asyncio.start_server(accepted, host, listeners.port, family=family)
                stack.callback(server.close)
                listeners.port = server.sockets[0].getsockname()[1]
        yield listeners


@asynccontextmanager
async def guarded(dns, destinations=ALLOWED, **options):
    sender = WebhookSender(destinations, **{"deadline_seconds": 5, "resolver": dns.resolver()} | options)
    try:
        yield sender
    finally:
        await sender.close()


def told(result):
    return (result.outcome, result.error, result.status_code, result.response_text)


@asynccontextmanager
async def stage(destinations=ALLOWED, **tables):
    """Set up canaries, the address that plays a public one, a name server and a sender that asks it."""
    async with (
        listening("127.0.0.1", PUBLIC, "::1") as listeners,
        answering(**tables) as dns,
        guarded(dns, destinations) as sender,
    ):
        yield listeners, dns, sender


async def test_the_canaries_hear_whom_a_deployment_lets_through():
    everywhere = Destinations.of(["127.0.0.0/8", "::1/128"])
    names = {"four.example.com": ["127.0.0.1"], "six.example.com": ["::1"], "public.example.com": [PUBLIC]}
    async with stage(everywhere, names=names) as (listeners, _, sender):
        for name in names:
            await sender.send(f"http://{name}:{listeners.port}/", {}, b"{}")
    assert {"127.0.0.1", PUBLIC} <= set(listeners.heard)


async def test_no_name_leads_to_an_address_that_is_denied():
    # A record has no room for a zone, such as %eth0.
    names = {f"n{number}.example.com": [address] for number, address in enumerate(DENIED) if "%" not in address}
    assert len(names) >= 74
    async with stage(names=names) as (listeners, dns, sender):
        ports = (listeners.port, 443)
        results = {
            (names[name][0], port): told(await sender.send(f"http://{name}:{port}/", {}, b"{}"))
            for name in names
            for port in ports
        }
        assert set(dns.asked) == set(names)
    assert {where: result for where, result in results.items() if result != REFUSED} == {}
    assert listeners.heard == []


LIES = {
    "a private address": ["127.0.0.1"],
    "a private address among many": ["127.0.0.1", "10.0.0.1", "::1", "169.254.169.254", "fd00::1"],
    "the other family": ["::1"],
    "a mapped address": ["::ffff:127.0.0.1"],
    "a translated address": ["::ffff:0:127.0.0.1"],
    "an address behind NAT64": ["64:ff9b::127.0.0.1"],
    "an address behind a network's own NAT64": ["64:ff9b:1::127.0.0.1"],
    "an address in 6to4": ["2002:7f00:1::"],
    "an address in Teredo": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "a compatible address": ["::127.0.0.1"],
    "no address at all": ["0.0.0.0", "::"],
    "an alias": ["inside.example.org"],
    "an alias of an alias of an alias": ["one.example.com"],
}
ALIASES = {
    "inside.example.org": ["127.0.0.1"],
    "one.example.com": ["two.example.com"],
    "two.example.com": ["three.example.net"],
    "three.example.net": ["127.0.0.1", "::1"],
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_name_that_leads_inside_is_refused(lie):
    async with stage(names={"hooks.example.com": LIES[lie], **ALIASES}) as (listeners, _, sender):
        result = await sender.send(f"http://hooks.example.com:{listeners.port}/", {}, b"{}")
    assert told(result) == REFUSED
    assert listeners.heard == []


async def test_aliases_in_a_circle_are_a_dns_failure():
    names = {"a.example.com": ["b.example.com"], "b.example.com": ["a.example.com"]}
    async with stage(names=names) as (listeners, _, sender):
        result = await sender.send(f"http://a.example.com:{listeners.port}/", {}, b"{}")
    assert (result.outcome, result.error) == (Outcome.DNS_FAILED, "the host name could not be resolved")


@pytest.mark.parametrize("addresses", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], ["::1", PUBLIC], [PUBLIC, "::1"]])
async def test_of_a_public_and_a_private_address_only_the_public_one_is_reached(addresses):
    async with stage(names={"hooks.example.com": addresses}) as (listeners, _, sender):
        results = [await sender.send(f"http://hooks.example.com:{listeners.port}/", {}, b"{}") for _ in range(4)]
    assert {result.outcome for result in results} == {Outcome.DELIVERED}
    assert listeners.heard == [PUBLIC] * 4


async def test_where_the_public_address_is_dead_the_private_one_is_not_tried():
    names = {"hooks.example.com": [PUBLIC, "127.0.0.1"]}
    async with (
        listening("127.0.0.1", "::1") as listeners,
        answering(names=names) as dns,
        guarded(dns) as sender,
    ):
        result = await sender.send(f"http://hooks.example.com:{listeners.port}/", {}, b"{}")
    assert told(result) == REFUSED
    assert listeners.heard == []


@pytest.mark.parametrize("inside", ["127.0.0.1", "::1"])
async def test_a_name_that_is_rebound_between_two_attempts_is_refused_at_the_second(inside):
    turns = {"hooks.example.com": [[PUBLIC], [inside]]}
    async with listening("127.0.0.1", PUBLIC, "::1") as listeners, answering(turns=turns) as dns:
        url = f"http://hooks.example.com:{listeners.port}/"
        results = []
        for _ in range(3):  # a sender each, because one remembers a name for ten seconds
            async with guarded(dns) as sender:
                results.append(await sender.send(url, {}, b"{}"))
    assert results[0].outcome is Outcome.DELIVERED
    assert [told(result) for result in results[1:]] == [REFUSED] * 2
    assert listeners.heard == [PUBLIC]


async def test_a_name_that_is_rebound_after_it_was_checked_is_refused():
    turns = {"hooks.example.com": [[PUBLIC], ["127.0.0.1"]]}
    async with stage(turns=turns) as (listeners, dns, sender):
        asking = dns.resolver()
        checked = await asking.resolve("hooks.example.com", listeners.port, socket.AF_INET)
        result = await sender.send(f"http://hooks.example.com:{listeners.port}/", {}, b"{}")
        await asking.close()
    assert [answer["host"] for answer in checked] == [PUBLIC]
    assert told(result) == REFUSED
    assert listeners.heard == []


async def test_names_whose_name_server_is_silent_hold_up_no_others():
    silent = {f"s{number}.example.com" for number in range(24)}
    async with (
        listening(PUBLIC) as listeners,
        answering(names={"healthy.example.com": [PUBLIC]}, silent=silent) as dns,
        guarded(dns, resolver=dns.resolver(timeout=60), deadline_seconds=1.5) as sender,
    ):
        attempts = [asyncio.create_task(sender.send(f"http://{name}:{listeners.port}/", {}, b"{}")) for name in silent]
        async with asyncio.timeout(10):
            await dns.heard_of(silent)
        healthy = await sender.send(f"http://healthy.example.com:{listeners.port}/", {}, b"{}")
        assert healthy.outcome is Outcome.DELIVERED
        assert not any(attempt.done() for attempt in attempts)
        assert {(await attempt).outcome for attempt in attempts} == {Outcome.TIMEOUT}


async def test_a_silent_name_server_is_given_up_before_the_deadline():
    async with (
        answering(silent={"s.example.com"}) as dns,
        guarded(dns, resolver=dns.resolver(timeout=0.2), deadline_seconds=20) as sender,
    ):
        result = await sender.send("https://s.example.com/", {}, b"{}")
    assert (result.outcome, result.error) == (Outcome.DNS_FAILED, "the host name could not be resolved")


# Spellings that one parser takes for a public host and another for loopback, beyond those of hosts (test_guard.py).
SPELLINGS = r"""
http://127.0.0.1:{port}/ http:127.0.0.1:{port}/ http:/127.0.0.1:{port}/ http:///127.0.0.1:{port}/
http:\\127.0.0.1:{port}/ http:/\127.0.0.1:{port}/ http://\127.0.0.1:{port}/ http://127.0.0.1:{port}\@example.com/
http://127.0.0.1:{port}\.example.com/ http://example.com\@127.0.0.1:{port}/ http://example.com:80\@127.0.0.1:{port}/
http://127.1.1.1:{port}\@127.0.0.1:{port}/ http://example.com@127.0.0.1:{port}/ http://a:b@127.0.0.1:{port}/
http://a@example.com@127.0.0.1:{port}/ http://a@example.com:80@127.0.0.1:{port}/ http://@127.0.0.1:{port}/
http://127.0.0.1:{port}@127.0.0.1:{port}/ http://127.0.0.1:{port}#@example.com/ http://127.0.0.1:{port}?@example.com/
http://127.0.0.1:{port};@example.com/ http://example.com%40127.0.0.1:{port}/ http://127.0.0.1%00.example.com:{port}/
http://127.0.0.1%2f@example.com:{port}/ http://127.0.0.1%23.example.com:{port}/ http://127.0.0.1%3a{port}/
http://%5b::1%5d:{port}/ http://[::1%25lo]:{port}/ http://[::1%lo]:{port}/ http://[0:0::1]:{port}/
http://[::1]example.com:{port}/ http://[::ffff:127.0.0.1]:{port}/ http://[::FFFF:7F00:1]:{port}/
http://[::ffff:0x7f.1]:{port}/ http://[127.0.0.1]:{port}/ http://[::127.0.0.1]:{port}/ http://[v1.127.0.0.1]:{port}/
http://0x7f000001:{port}/ http://0x7f.1:{port}/ http://0x7F.0.0.0x1:{port}/ http://0x00000000007f000001:{port}/
http://127.0x000001:{port}/ http://0177.0.0.0x1:{port}/ http://00000000177.0.0.1:{port}/ http://2130706433:{port}/
http://02130706433:{port}/ http://017700000001:{port}/ http://4294967296:{port}/ http://6425673729:{port}/
http://127.0.0.257:{port}/ http://127.0.0.1.:{port}/ http://127.0.0.1..:{port}/ http://127..0.1:{port}/
http://127.1:{port}/ http://0:{port}/ http://0.0.0.0:{port}/ http://00:{port}/ http://0x:{port}/ http://[::]:{port}/
http://localhost:{port}/ http://localhost.:{port}/ http://LOCALHOST:{port}/ http://loc%61lhost:{port}/
http://loc\u00adalhost:{port}/ http://\u2460\u2461\u2466.0.0.1:{port}/ http://127\u30020\u30020\u30021:{port}/
http://127\uff0e0\uff0e0\uff0e1:{port}/ http://\uff11\uff12\uff17.0.0.1:{port}/ http://127.0.0.1\u2044@example.com:{port}/
http://127.0.0.\u0661:{port}/ http://\u0967\u0968\u096d.0.0.1:{port}/ http://loca\u217chost:{port}/
HTTP://127.0.0.1:{port}/ hTtP://0X7F.1:{port}/ https://127.0.0.1:{port}/ https://0x7f.1:{port}/ ws://127.0.0.1:{port}/
//127.0.0.1:{port}/ 127.0.0.1:{port} http://127.0.0.1:0{port}/ http://127.0.0.1:+{port}/ http://127.0.0.1:%31/
""".split()
CONTROLS = ["\t", "\n", "\r", "\r\n", "\0", "\x0b", "\x1f", "\x7f", "\xa0", "\u200b", "\u2028", "\ufeff"]


def spellings(port):
    """Return every spelling, and each way to hide a control character in the plain one."""
    for text in SPELLINGS:
        yield text.encode().decode("unicode_escape").format(port=port) if "\\u" in text else text.format(port=port)
    for control in CONTROLS:
        yield f"http://127.0.0.1{control}:{port}/"
        yield f"http://{control}127.0.0.1:{port}/"
        yield f"http://127.0{control}.0.1:{port}/"
        yield f"{control}http://127.0.0.1:{port}/"
        yield f"ht{control}tp://127.0.0.1:{port}/"
        yield f"http://127.0.0.1:{port}{control}@example.com/"


async def test_no_spelling_of_a_url_reaches_the_inside_as_it_is_or_as_it_is_stored():
    names = {"localhost": ["127.0.0.1", "::1"], "example.com": ["127.0.0.1"]}
    async with stage(Destinations(), names=names) as (listeners, _, sender):
        tolerant = Destinations.of([], [listeners.port], plain_http=True)
        outcomes, stored = {}, []
        for text in spellings(listeners.port):
            sent = {text}
            with suppress(Invalid):
                sent.add(urls.parse(text, tolerant))
                stored.append(text)
            for url in sent:
                outcomes[url] = (await sender.send(url, {}, b"{}")).outcome
    assert len(outcomes) > 140
    assert listeners.heard == []
    # An empty host and the like are asked of nobody; the rest is refused as it is dialled.
    refused = {Outcome.DESTINATION_NOT_ALLOWED, Outcome.DNS_FAILED}
    assert {url: outcome for url, outcome in outcomes.items() if outcome not in refused} == {}
    # What is stored names a host of this test, and no address in any spelling.
    assert all("example.com" in text for text in stored), stored


async def test_an_allowed_network_is_let_through_and_nothing_beside_it():
    names = {
        "public.example.com": [PUBLIC],
        "mapped.example.com": [f"::ffff:{PUBLIC}"],
        "neighbour.example.com": ["127.0.0.1"],
        "next.example.com": ["127.0.0.3"],
        "translated.example.com": [f"64:ff9b::{PUBLIC}"],
        "six.example.com": ["::1"],
    }
    async with (
        listening("127.0.0.1", PUBLIC, "127.0.0.3", "::1") as listeners,
        answering(names=names) as dns,
        guarded(dns) as sender,
    ):
        hosts = [*names, PUBLIC, f"[::ffff:{PUBLIC}]", "127.0.0.1", "127.0.0.3", "[::1]", f"[64:ff9b::{PUBLIC}]"]
        results = {host: await sender.send(f"http://{host}:{listeners.port}/", {}, b"{}") for host in hosts}
    through = {"public.example.com", "mapped.example.com", PUBLIC, f"[::ffff:{PUBLIC}]"}
    assert {host for host, result in results.items() if result.outcome is Outcome.DELIVERED} == through
    assert {told(result) for host, result in results.items() if host not in through} == {REFUSED}
    assert {host.removeprefix("::ffff:") for host in listeners.heard} == {PUBLIC}


@pytest.mark.parametrize("own", ["127.0.0.1", "0.0.0.0", "::", "", "localhost", "::ffff:127.0.0.1"])
async def test_no_name_and_no_spelling_leads_to_what_we_listen_on_even_in_an_allowed_network(own):
    everywhere = Destinations.of(["0.0.0.0/0", "::/0"])
    names = {"ours.example.com": ["127.0.0.1"], "any.example.com": ["0.0.0.0"], "six.example.com": ["::"]}
    hosts = [*names, "127.0.0.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"]
    async with stage(everywhere, names=names) as (listeners, _, sender):
        sender.refuse(own, listeners.port)
        results = {host: told(await sender.send(f"http://{host}:{listeners.port}/", {}, b"{}")) for host in hosts}
    assert results == dict.fromkeys(hosts, REFUSED)
    assert listeners.heard == []


async def test_a_redirect_from_an_allowed_receiver_does_not_lead_inside():
    async def redirecting(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        location = f"http://127.0.0.1:{listeners.port}/".encode()
        writer.write(b"HTTP/1.1 307 Moved\r\ncontent-length: 0\r\nlocation: " + location + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async with stage() as (listeners, _, sender):
        server = await asyncio.start_server(redirecting, PUBLIC, 0)
        result = await sender.send(f"http://{PUBLIC}:{server.sockets[0].getsockname()[1]}/", {}, b"{}")
        server.close()
    assert (result.outcome, result.status_code) == (Outcome.REDIRECT, 307)
    assert listeners.heard == []


async def test_a_tenant_is_told_that_it_is_not_allowed_and_never_which_address_it_was(outbox, receiver):
    port = int(receiver.base.rpartition(":")[2])
    names = {"hooks.example.com": ["10.1.2.3", "::1", "127.0.0.1"]}
    async with answering(names=names) as dns, guarded(dns) as sender:
        outbox.dispatcher._attempts.sender = sender
        await outbox.endpoint(f"http://hooks.example.com:{port}/")
        await outbox.emit()
        await outbox.dispatcher.drain()
    row = await outbox.only()
    (attempt,) = await outbox.attempts(row.id)
    assert (attempt.outcome, attempt.error) == ("destination_not_allowed", "destination not allowed")
    assert not any(address in str(dict(attempt._mapping)) for address in ("10.1.2.3", "127.0.0.1", "::1"))
    assert receiver.received == []

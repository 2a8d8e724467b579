"""A name server for tests: real packets over UDP, answers from a table that can change, and silence where told."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import cast

from aiohttp.resolver import AsyncResolver

_A, _CNAME, _AAAA = 1, 5, 28
_IN = 1
_ANSWER, _NO_SUCH_NAME = 0x8580, 0x8583  # a response, authoritative, recursion available; the second with NXDOMAIN


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """Answers A and AAAA questions."""

    names: dict[str, list[str]] = field(default_factory=dict)
    """Name to its addresses of both kinds; a name may stand for another by one entry that is no address."""
    turns: dict[str, list[list[str]]] = field(default_factory=dict)
    """Name to what it is at the first look, the second, and so on; the last stays."""
    silent: set[str] = field(default_factory=set)
    """Names that nobody ever hears of."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often a name was asked for, over both kinds of addresses."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at every question."""
    port: int = 0
    _looks: Counter[tuple[str, int]] = field(default_factory=Counter)
    _transport: asyncio.DatagramTransport | None = None

    def resolver(self, timeout: float = 2.0, tries: int = 1) -> AsyncResolver:
        """Return a resolver that asks this server, of the kind that production uses."""
        return AsyncResolver(nameservers=["127.0.0.1"], udp_port=self.port, timeout=timeout, tries=tries)

    async def heard_of(self, names: set[str]) -> None:
        """Wait until each of the names was asked for."""
        while not names <= set(self.asked):
            self.news.clear()
            await self.news.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, question = _question(data)
        self.asked[name] += 1
        self.news.set()
        if name in self.silent:
            return
        records, known = self._records(name, kind)
        head = data[:2] + struct.pack("!HHHHH", _ANSWER if known else _NO_SUCH_NAME, 1, len(records), 0, 0)
        assert self._transport is not None
        self._transport.sendto(head + question + b"".join(records), addr)

    def _records(self, name: str, kind: int) -> tuple[list[bytes], bool]:
        """Return the records that answer a question, and whether there is such a name."""
        records = []
        for _ in range(10):
            entries = self._entries(name, kind)
            if entries is None:
                return records, bool(records)
            alias = next((entry for entry in entries if not _is_address(entry)), None)
            if alias is None:
                break
            records.append(_record(name, _CNAME, _packed(alias)))
            name = alias
        else:
            return records, True  # aliases in a circle
        addresses = [ip_address(entry) for entry in entries]
        wanted = [address for address in addresses if isinstance(address, IPv4Address) is (kind == _A)]
        records += [_record(name, kind, address.packed) for address in wanted if kind in (_A, _AAAA)]
        return records, True

    def _entries(self, name: str, kind: int) -> list[str] | None:
        turns = self.turns.get(name)
        if turns is None:
            return self.names.get(name)
        look = self._looks[name, kind]
        self._looks[name, kind] += 1
        return turns[min(look, len(turns) - 1)]


def _question(data: bytes) -> tuple[str, int, bytes]:
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    (kind,) = struct.unpack_from("!H", data, at + 1)
    return ".".join(labels).lower(), kind, data[12 : at + 5]


def _packed(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _record(name: str, kind: int, value: bytes) -> bytes:
    """Return a record that nobody may keep."""
    return _packed(name) + struct.pack("!HHIH", kind, _IN, 0, len(value)) + value


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@asynccontextmanager
async def answering(**tables: object) -> AsyncIterator[DnsServer]:
    """Run a name server on the loopback address."""
    server = DnsServer(**tables)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: server, local_addr=("127.0.0.1", 0), family=socket.AF_INET
    )
    try:
        yield server
    finally:
        transport.close()

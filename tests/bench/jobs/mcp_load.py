"""The load of the MCP part, a process of its own: one tool call again and again over kept connections."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import uvloop

_REVISION = "2026-07-28"
_WARM = 10
"""Calls of each lane that are not counted."""


async def load(spec: dict[str, Any]) -> dict[str, float]:
    """Make `calls` calls over `lanes` connections; return calls a second and milliseconds at p50 and p99."""
    request = _request(spec)
    each = spec["calls"] // spec["lanes"]
    took: list[float] = []
    warm = asyncio.Barrier(spec["lanes"])
    address = urlsplit(spec["url"])

    async def lane() -> tuple[float, float]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for _ in range(_WARM):
            await _call(reader, writer, request)
        await warm.wait()
        began = time.perf_counter()
        for _ in range(each):
            start = time.perf_counter()
            await _call(reader, writer, request)
            took.append(time.perf_counter() - start)
        ended = time.perf_counter()
        writer.close()
        return began, ended

    spans = await asyncio.gather(*(lane() for _ in range(spec["lanes"])))
    took.sort()
    wall = max(end for _, end in spans) - min(start for start, _ in spans)
    return {
        "made": len(took) + _WARM * spec["lanes"],
        "per_second": len(took) / wall,
        "p50": took[len(took) // 2] * 1e3,
        "p99": took[len(took) * 99 // 100] * 1e3,
    }


def _request(spec: dict[str, Any]) -> bytes:
    meta = {
        "io.modelcontextprotocol/protocolVersion": _REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": spec["tool"], "arguments": spec["arguments"], "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    address = urlsplit(spec["url"])
    headers = {
        "Host": address.netloc,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": _REVISION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": spec["tool"],
        "Content-Length": str(len(body)),
        **({"Authorization": f"Bearer {spec['key']}"} if spec["key"] else {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {address.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" in head:
        body = await reader.readuntil(b"\r\n0\r\n\r\n")
    else:
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length))
    if b" 200 " not in head[:20] or b'"isError":true' in body or b'"result"' not in body:
        raise RuntimeError(f"the call failed: {(head + body)[:1000]!r}")


if __name__ == "__main__":
    print(json.dumps(uvloop.run(load(json.loads(sys.argv[1])))))

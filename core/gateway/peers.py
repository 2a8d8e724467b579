"""Whom a request came from, as limits count it: nobody gets more by the many addresses of one network of their own."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

_NETWORK_BITS = 64
"""Of an IPv6 address: what providers hand out to one customer, at least."""


def peer_of(request: Request) -> str:
    """Return the address that a request came from, of IPv6 its network; empty where there is none."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host[:100]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{address.packed[: _NETWORK_BITS // 8].hex()}/{_NETWORK_BITS}"
    return str(address)

"""Which addresses a webhook may be sent to: an explicit table, because `ipaddress.is_global` lets too much through.

IPv4 is allowed unless listed; IPv6 is denied outside 2000::/3 and for the exceptions in it. IPv4-mapped and NAT64
forms are judged by the IPv4 address in them. Sources: the IANA special-purpose registries; 168.63.129.16 answers for a
cloud's own services.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from core.domain.frozen import frozen

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DENIED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
GLOBAL_V6 = IPv6Network("2000::/3")
DENIED_V6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
NAT64 = IPv6Network("64:ff9b::/96")


@frozen
class Destinations:
    """What a deployment allows beyond public addresses on the usual ports."""

    networks: tuple[Network, ...] = ()
    """Allowed although the table denies them, on every port and over plain http: 127.0.0.0/8 in a demo."""
    ports: frozenset[int] = field(default=frozenset({80, 443}))
    plain_http: bool = False
    """Allow http to public names, too."""

    @classmethod
    def of(cls, networks: Iterable[str], ports: Iterable[int] = (), *, plain_http: bool = False) -> Destinations:
        """Read networks in CIDR notation, and ports allowed beside 80 and 443.

        Raises ValueError for a text that is not a network.
        """
        return cls(tuple(ip_network(text) for text in networks), frozenset({80, 443, *ports}), plain_http)


def allowed(address: Address | str, extra_networks: Iterable[Network] = ()) -> bool:
    """Tell whether a webhook may be sent to an address; a text that is no address may not."""
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return named(address, extra_networks) or _public(address)


def named(address: Address, networks: Iterable[Network]) -> bool:
    """Tell whether an address lies in one of the networks."""
    return any(address in network for network in networks)


def _public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in DENIED_V4)
    if address in NAT64:
        return _public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in GLOBAL_V6 and not any(address in network for network in DENIED_V6)

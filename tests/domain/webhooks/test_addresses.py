"""The address table, against addresses that such tables commonly miss and their neighbours."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.domain.webhooks.addresses import Destinations, allowed

_DENIED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.1.2.3 127.255.255.255
168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.170 192.0.2.1
192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255
198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0
::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1
64:ff9b:1::8.8.8.8 100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:1::1 2001:2::1 2001:3::1
2001:4:112::1 2001:10::1 2001:20::1 2001:30::1 2001:db8::1 2001:db8:ffff::1 2002::1 2002:7f00:1:: 2002:c0a8:1::1
2620:4f:8000::1 3fff::1 3fff:fff::1 4000::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1
ff02::1 ff0e::1
"""
DENIED = _DENIED.split()

_ALLOWED = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255
192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255
2001:200::1 2001:4860:4860::8888 2003::1 2606:4700:4700::1111 2620:4f:7fff::1 2a00:1450::1 3ffe::1
::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
ALLOWED = _ALLOWED.split()


@pytest.mark.parametrize("address", DENIED)
def test_an_address_of_the_table_is_denied(address):
    assert not allowed(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_is_allowed(address):
    assert allowed(address)
    assert allowed(ip_address(address))


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "0x7f.1", "example.com"])
def test_a_text_that_is_no_address_is_denied(text):
    assert not allowed(text, [ip_network("0.0.0.0/0")])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::ffff:127.0.0.1", True),
        ("::1", False),
        ("10.0.0.1", False),
        ("64:ff9b::127.0.0.1", False),
    ],
)
def test_a_deployment_allows_its_named_networks_and_no_more(address, expected):
    assert allowed(address, Destinations.of(["127.0.0.0/8"]).networks) is expected


def test_a_network_with_host_bits_is_refused():
    with pytest.raises(ValueError, match="host bits"):
        Destinations.of(["127.0.0.1/8"])


# The policy written a second time, as prefixes: the table in the code and this one have to agree.
_NETWORKS_V4 = """
0/8 10/8 100.64/10 127/8 168.63.129.16/32 169.254/16 172.16/12 192.0.0/24 192.0.2/24 192.31.196/24 192.52.193/24
192.88.99/24 192.168/16 192.175.48/24 198.18/15 198.51.100/24 203.0.113/24 224/4 240/4
"""
NETWORKS_V4 = [
    IPv4Network(".".join([*prefix.split("."), "0", "0", "0"][:4]) + "/" + length)
    for prefix, length in (text.split("/") for text in _NETWORKS_V4.split())
]
GLOBAL_V6 = IPv6Network("2000::/3")
NETWORKS_V6 = [
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]
V4 = st.integers(0, 2**32 - 1).map(IPv4Address) | st.builds(
    lambda network, at: network[at % network.num_addresses], st.sampled_from(NETWORKS_V4), st.integers(0, 2**32)
)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address) | st.builds(
    lambda network, at: network[at % network.num_addresses],
    st.sampled_from([GLOBAL_V6, *NETWORKS_V6, IPv6Network("::/90"), IPv6Network("64:ff9b::/32")]),
    st.integers(0, 2**128),
)
# An IPv4 address inside an IPv6 one: where its 32 bits are put, and over what.
EMBEDDED = {
    "compatible": ("::", 0),
    "translated": ("::ffff:0:0:0", 0),
    "local NAT64": ("64:ff9b:1::", 0),
    "6to4": ("2002::", 80),
    "Teredo server": ("2001::", 64),
    "Teredo client": ("2001::", 0),
    "ISATAP, link local": ("fe80::5efe:0:0", 0),
}


def listed(address):
    networks = NETWORKS_V4 if address.version == 4 else NETWORKS_V6
    return any(address in network for network in networks)


@pytest.mark.parametrize("network", NETWORKS_V4, ids=str)
def test_a_network_of_the_table_is_denied_from_its_first_address_to_its_last_and_its_neighbours_are_not(network):
    first, last = int(network[0]), int(network[-1])
    assert not allowed(network[0])
    assert not allowed(network[-1])
    outside = [IPv4Address(at) for at in (first - 1, last + 1) if 0 <= at < 2**32]
    assert [allowed(address) for address in outside] == [not listed(address) for address in outside]


@pytest.mark.parametrize("network", NETWORKS_V6, ids=str)
def test_an_exception_in_what_is_global_is_denied_from_its_first_address_to_its_last(network):
    assert not allowed(network[0])
    assert not allowed(network[-1])
    outside = [network[0] - 1, network[-1] + 1]
    assert [allowed(address) for address in outside] == [at in GLOBAL_V6 and not listed(at) for at in outside]


@given(V4)
def test_an_ipv4_address_is_allowed_unless_a_network_of_the_table_has_it(address):
    assert allowed(address) == allowed(str(address)) == (not listed(address))


@given(V6)
@example(IPv6Address("1fff:ffff::"))
@example(IPv6Address("4000::"))
def test_an_ipv6_address_outside_the_global_ones_is_denied(address):
    if address.ipv4_mapped is None and address not in IPv6Network("64:ff9b::/96"):
        assert allowed(address) == (address in GLOBAL_V6 and not listed(address))


@given(V4)
def test_an_address_is_judged_alike_as_itself_mapped_and_behind_nat64(address):
    assert allowed(IPv6Address(f"::ffff:{address}")) == allowed(address)
    assert allowed(IPv6Address(f"64:ff9b::{address}")) == allowed(address)


@pytest.mark.parametrize("form", EMBEDDED)
@given(address=V4)
@example(address=IPv4Address("8.8.8.8"))
@example(address=IPv4Address("127.0.0.1"))
def test_an_address_in_another_wrapping_is_denied_whatever_it_is(form, address):
    base, shift = EMBEDDED[form]
    wrapped = IPv6Address(int(IPv6Address(base)) | int(address) << shift)
    everything_v4 = Destinations.of(["0.0.0.0/0"]).networks
    assert not allowed(wrapped)
    assert not allowed(wrapped, everything_v4)  # a network of IPv4 says nothing about what hides an address of it


@given(address=V4 | V6, prefix=st.integers(0, 32))
def test_an_allowed_network_lets_itself_through_and_changes_nothing_else(address, prefix):
    network = IPv4Network((int(IPv4Address("172.20.30.40")) >> (32 - prefix) << (32 - prefix), prefix))
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    assert allowed(address, [network]) == (plain in network or allowed(address))

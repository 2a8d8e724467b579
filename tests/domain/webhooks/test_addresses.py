"""The address table, against addresses that such tables commonly miss and their neighbours."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

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

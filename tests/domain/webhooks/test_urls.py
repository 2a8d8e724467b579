"""Endpoint URLs: what is stored, and what is refused with which reason."""
# ruff: noqa: RUF001 -- look-alike characters are what is tested

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import Invalid
from core.domain.webhooks import urls
from core.domain.webhooks.addresses import Destinations

PUBLIC = Destinations()
DEMO = Destinations.of(["127.0.0.0/8", "fd00::/8"])


def reasons(text: str, destinations: Destinations = PUBLIC) -> set[str]:
    with pytest.raises(Invalid) as caught:
        urls.parse(text, destinations, "endpoint.url")
    assert all(v.field == "endpoint.url" and v.message and v.hint for v in caught.value.violations)
    return {violation.reason for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.Example.COM:443/A?b=c d".replace(" ", "%20"), "https://hooks.example.com/A?b=c%20d"),
        ("https://hooks.example.com:80/", "https://hooks.example.com:80/"),
        ("https://hooks.example.com/a/../b/./c", "https://hooks.example.com/b/c"),
        ("https://exämple.com/ü", "https://xn--exmple-cua.com/%C3%BC"),
        ("https://xn--exmple-cua.com/", "https://xn--exmple-cua.com/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:4700:0:0:0:0:1111]/", "https://[2606:4700:4700::1111]/"),
        ("https://hooks.example.com/@user", "https://hooks.example.com/@user"),
    ],
)
def test_a_public_url_is_stored_in_normal_form(text, normal):
    assert urls.parse(text, PUBLIC) == normal
    assert urls.parse(normal, PUBLIC) == normal


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "URL_MALFORMED"),
        ("hooks.example.com", "URL_MALFORMED"),
        ("ftp://hooks.example.com/", "URL_MALFORMED"),
        ("file:///etc/passwd", "URL_MALFORMED"),
        ("javascript:alert(1)", "URL_MALFORMED"),
        ("https:hooks.example.com", "URL_MALFORMED"),
        ("https:///hooks.example.com/", "URL_MALFORMED"),
        ("https://", "URL_MALFORMED"),
        ("https://hooks.example.com:99999/", "URL_MALFORMED"),
        ("https://exa mple.com/", "URL_MALFORMED"),
        ("https://hooks.exam\tple.com/", "URL_MALFORMED"),
        ("https://hooks.example.com/\r\nX: y", "URL_MALFORMED"),
        ("https://hooks.example.com\\@evil.example.org/", "URL_MALFORMED"),
        ("http://127.0.0.1\\@example.com/", "URL_MALFORMED"),
        ("https://hooks.example.com/" + "a" * 2048, "TOO_LONG"),
        ("https://user@hooks.example.com/", "URL_HAS_CREDENTIALS"),
        ("https://user:secret@hooks.example.com/", "URL_HAS_CREDENTIALS"),
        ("https://hooks.example.com/#part", "URL_HAS_FRAGMENT"),
        ("https://hooks.example.com/#", "URL_HAS_FRAGMENT"),
        ("http://hooks.example.com/", "URL_NOT_HTTPS"),
        ("https://hooks.example.com:22/", "URL_PORT_NOT_ALLOWED"),
        ("https://hooks.example.com:8443/", "URL_PORT_NOT_ALLOWED"),
        ("https://localhost/", "DESTINATION_NOT_ALLOWED"),
        ("https://a.localhost/", "DESTINATION_NOT_ALLOWED"),
        ("https://printer.local/", "DESTINATION_NOT_ALLOWED"),
        ("https://metadata.google.internal/", "DESTINATION_NOT_ALLOWED"),
        ("https://router.home.arpa/", "DESTINATION_NOT_ALLOWED"),
        ("https://intranet/", "URL_HOST_NOT_ALLOWED"),
        ("https://hooks.example.com./", "URL_HOST_NOT_ALLOWED"),
        ("https://127.0.0.1/", "DESTINATION_NOT_ALLOWED"),
        ("https://169.254.169.254/latest/", "DESTINATION_NOT_ALLOWED"),
        ("https://[::1]/", "DESTINATION_NOT_ALLOWED"),
        ("https://[::ffff:127.0.0.1]/", "DESTINATION_NOT_ALLOWED"),
        ("https://[fe80::1]/", "DESTINATION_NOT_ALLOWED"),
        ("https://127.1/", "URL_HOST_AMBIGUOUS"),
        ("https://0x7f.1/", "URL_HOST_AMBIGUOUS"),
        ("https://0x7f000001/", "URL_HOST_AMBIGUOUS"),
        ("https://2130706433/", "URL_HOST_AMBIGUOUS"),
        ("https://0177.0.0.1/", "URL_HOST_AMBIGUOUS"),
        ("https://8.8.2056/", "URL_HOST_AMBIGUOUS"),
        ("https://127%2e0%2e0%2e1/", "URL_HOST_AMBIGUOUS"),
        ("https://hooks%2eexample.com/", "URL_HOST_AMBIGUOUS"),
        ("https://①②⑦.⓪.⓪.①/", "URL_HOST_AMBIGUOUS"),
        ("https://１２７.0.0.1/", "URL_HOST_AMBIGUOUS"),
        ("https://hooks.ｅxample.com/", "URL_HOST_AMBIGUOUS"),
        ("https://hooks。example.com/", "URL_HOST_AMBIGUOUS"),
        ("https://127.0.0.1./", "URL_HOST_AMBIGUOUS"),
        ("https://127.0.0.\u0661/", "URL_HOST_AMBIGUOUS"),
    ],
)
def test_a_dubious_url_is_refused_with_its_reason(text, reason):
    assert reason in reasons(text)


def test_everything_wrong_with_a_url_is_told_at_once():
    assert reasons("http://user@localhost:22/#x") == {
        "URL_HAS_CREDENTIALS",
        "URL_HAS_FRAGMENT",
        "DESTINATION_NOT_ALLOWED",
        "URL_NOT_HTTPS",
        "URL_PORT_NOT_ALLOWED",
    }


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("http://127.0.0.1:9099/hook", "http://127.0.0.1:9099/hook"),
        ("http://[fd00::1]:1/", "http://[fd00::1]:1/"),
        ("http://[::ffff:127.0.0.1]:81/", None),
        ("http://10.0.0.1/", None),
        ("http://0x7f.1:9099/", None),
        ("http://localhost:9099/", None),
    ],
)
def test_a_named_network_is_allowed_over_http_on_any_port(text, normal):
    if normal is None:
        reasons(text, DEMO)
    else:
        assert urls.parse(text, DEMO) == normal


def test_a_deployment_can_allow_ports_and_plain_http():
    destinations = Destinations.of([], [8443], plain_http=True)
    assert urls.parse("http://hooks.example.com:8443/", destinations) == "http://hooks.example.com:8443/"


@given(st.text(max_size=80) | st.text(max_size=40).map(lambda tail: "https://" + tail))
def test_any_text_is_refused_or_stored_in_a_form_that_stays(text):
    try:
        normal = urls.parse(text, PUBLIC)
    except Invalid:
        return
    assert urls.parse(normal, PUBLIC) == normal


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://hooks.example.com/in?x=1", "https://hooks.example.com"),
        ("https://hooks.example.com:8443/in", "https://hooks.example.com:8443"),
        ("http://127.0.0.1:80/", "http://127.0.0.1"),
        ("", ""),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, origin):
    assert urls.origin(url) == origin

"""The URL of an endpoint: parsed once by the WHATWG rules, stored in normal form, sent as stored.

Parsers disagree about odd spellings, so a text that another parser could read as another host is refused.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import ip_address

import ada_url

from core.domain.errors import Invalid, Violation
from core.domain.webhooks.addresses import Address, Destinations, allowed, named

MAX_LENGTH = 2048
RESERVED_SUFFIXES = ("localhost", "local", "internal", "localdomain", "home.arpa")
DEFAULT_PORTS = {"http:": 80, "https:": 443}

_SHAPE = re.compile(r"(?i)https?://(?P<authority>[^/?#]+)")
_PORT = re.compile(r":[0-9]*\Z")
_UNCLEAN = re.compile(r"[\x00-\x20\x7f\\]|\s")


def parse(text: str, destinations: Destinations, field: str = "url") -> str:
    """Return a URL in normal form.

    Raises Invalid with everything that is wrong with it.
    """
    violations = _spelling(text, field)
    if violations:
        raise Invalid(*violations)
    try:
        url = ada_url.URL(text)
    except ValueError:
        raise Invalid(_violation(field, "URL_MALFORMED", "this is not a URL", _EXAMPLE)) from None
    violations = [*_parts(url, field), *_host(text, url, destinations, field)]
    if violations:
        raise Invalid(*violations)
    return str(url.href)


_EXAMPLE = "Send a full URL, such as https://hooks.example.com/dripstone."


def _violation(field: str, reason: str, message: str, hint: str) -> Violation:
    return Violation(field, reason, message, hint)


def _spelling(text: str, field: str) -> list[Violation]:
    if len(text) > MAX_LENGTH:
        return [_violation(field, "TOO_LONG", f"a URL has at most {MAX_LENGTH} characters", "Use a shorter path.")]
    if _UNCLEAN.search(text):
        return [
            _violation(
                field,
                "URL_MALFORMED",
                "a URL has no spaces, control characters or backslashes",
                "Percent-encode them in the path, and leave them out of the host.",
            )
        ]
    if _SHAPE.match(text) is None:
        return [_violation(field, "URL_MALFORMED", "a webhook URL starts with https:// and a host", _EXAMPLE)]
    return []


def _parts(url: ada_url.URL, field: str) -> list[Violation]:
    violations = []
    if url.username or url.password:
        message = "a webhook URL carries no user name or password"
        violations.append(_violation(field, "URL_HAS_CREDENTIALS", message, "Verify the signature at the receiver."))
    if "#" in url.href:
        message = "a webhook URL has no fragment"
        violations.append(_violation(field, "URL_HAS_FRAGMENT", message, "Remove the # and what follows it."))
    return violations


def _host(text: str, url: ada_url.URL, destinations: Destinations, field: str) -> list[Violation]:
    shape = _SHAPE.match(text)
    assert shape is not None
    written = _PORT.sub("", shape["authority"].rpartition("@")[2])
    address = _address(url.hostname)
    trusted = address is not None and named(address, destinations.networks)
    violations = []
    if not _means(written, url.hostname, address):
        message = f"the host is read as {url.hostname}, which is not what is written"
        violations.append(_violation(field, "URL_HOST_AMBIGUOUS", message, f"Write the host as {url.hostname}."))
    elif address is None:
        violations += _name(url.hostname, field)
    elif not allowed(address, destinations.networks):
        violations.append(_not_allowed(field))
    if not trusted:
        violations += _transport(url, destinations, field)
    return violations


def _transport(url: ada_url.URL, destinations: Destinations, field: str) -> list[Violation]:
    violations = []
    if url.protocol == "http:" and not destinations.plain_http:
        message = "a webhook URL uses https"
        violations.append(_violation(field, "URL_NOT_HTTPS", message, "Write https:// and serve a valid certificate."))
    port = int(url.port) if url.port else DEFAULT_PORTS[url.protocol]
    if port not in destinations.ports:
        listed = ", ".join(str(number) for number in sorted(destinations.ports))
        message = f"webhooks are not sent to port {port}"
        violations.append(_violation(field, "URL_PORT_NOT_ALLOWED", message, f"Use one of the ports {listed}."))
    return violations


def _not_allowed(field: str) -> Violation:
    message = "destination not allowed"
    hint = "Use a public host, or have the operator allow this network for webhooks."
    return _violation(field, "DESTINATION_NOT_ALLOWED", message, hint)


def _name(host: str, field: str) -> list[Violation]:
    if host.endswith("."):
        message = "a host does not end with a dot"
        return [_violation(field, "URL_HOST_NOT_ALLOWED", message, f"Write {host.rstrip('.')}.")]
    if any(host == suffix or host.endswith("." + suffix) for suffix in RESERVED_SUFFIXES):
        message = f"{host} names a local machine; destination not allowed"
        hint = "Use a public host name, or the address itself where the operator allows its network."
        return [_violation(field, "DESTINATION_NOT_ALLOWED", message, hint)]
    if "." not in host:
        message = f"{host} is not a full host name"
        return [_violation(field, "URL_HOST_NOT_ALLOWED", message, "Write the full name, such as hooks.example.com.")]
    return []


def _address(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _means(written: str, host: str, address: Address | None) -> bool:
    """Tell whether every reader takes the written host for this one; only plain Unicode names may differ."""
    if address is not None:
        return _address(written) == address
    if written.isascii():
        return written.lower() == host
    if written.rpartition(".")[2].isdecimal():  # digits of another script: an address to readers that know them
        return False
    return unicodedata.normalize("NFKC", written) == written and "%" not in written and "xn--" in host


def origin(url: str) -> str:
    """Return scheme, host and port of a URL in normal form; empty for none."""
    return str(ada_url.URL(url).origin) if url else ""

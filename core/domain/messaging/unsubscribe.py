"""Tokens of unsubscribe links: signed, valid for years, and of nothing but ids and the organization's own words."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import astuple

from core.domain.frozen import frozen

PLACE = "%unsubscribe_url%"
"""Stands for the link in the text and the HTML of a message, and is replaced when it is sent."""

_VERSION = b"\x01"
_SEPARATOR = "\x1f"
_SIGNATURE_BYTES = 16
_LONGEST = 800
_FORM = re.compile(r"[A-Za-z0-9_-]+")
_FIELD = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_PURPOSE_OF_KEY = b"dripstone unsubscribe link\x1f"


@frozen
class Link:
    """What a link is about."""

    org_id: str
    contact_id: str
    message_id: str
    channel: str
    purpose: str


@frozen
class Unproved:
    """A token that is well formed; whether it is ours is for `prove` to say."""

    link: Link
    signed: bytes
    signature: bytes

    def prove(self, secret: bytes) -> Link | None:
        """Return what the token is about if the organization signed it, else None; takes the same time for both."""
        return self.link if hmac.compare_digest(_signature(secret, self.signed), self.signature) else None


def token(link: Link, secret: bytes) -> str:
    """Return the token of a link, which fits into a path."""
    signed = _VERSION + _SEPARATOR.join(astuple(link)).encode()
    return base64.urlsafe_b64encode(signed + _signature(secret, signed)).decode().rstrip("=")


def read(text: str) -> Unproved | None:
    """Return a token taken apart; None for what cannot be one."""
    if len(text) > _LONGEST or not _FORM.fullmatch(text):
        return None
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        signed, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        fields = signed[1:].decode().split(_SEPARATOR)
    except (ValueError, binascii.Error):
        return None
    # The last character of base64 has bits to spare: only the way we write it counts.
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != text or signed[:1] != _VERSION or len(fields) != 5:
        return None
    # It names an organization before it is proved: nothing but what can be the name of one goes on.
    if not all(_FIELD.fullmatch(field) for field in fields):
        return None
    return Unproved(Link(*fields), signed, signature)


def _signature(secret: bytes, signed: bytes) -> bytes:
    return hmac.new(secret, _PURPOSE_OF_KEY + signed, hashlib.sha256).digest()[:_SIGNATURE_BYTES]

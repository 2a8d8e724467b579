"""Addresses of messages: the form in which two of them are the same, the key that stands for one, and how one is shown.

A key is a hash: it tells that an address is suppressed after the address itself was forgotten.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

EMAIL = "email"
ID = "id:"
"""What is no channel but an identifier of another kind begins so, such as `id:ext:hubspot`."""

OWN_FIELDS: Mapping[str, str] = {EMAIL: "email", "sms": "phone"}
"""Where the address of a channel stands among the contact's fields."""

_HIDDEN = "***"
_FILLING = re.compile(r"[\s().\-/]")
_NUMBER = re.compile(r"\+?[0-9]{5,20}")


def normal(channel: str, address: str) -> str:
    """Return an address so that two ways to write it are one: no blanks, lower case, a domain in ASCII, bare digits.

    Ids that other systems gave stay as they are: some tell two people apart by case alone.
    """
    if channel.startswith(ID):
        return address
    text = unicodedata.normalize("NFC", " ".join(address.split())).lower()
    if channel == EMAIL:
        mailbox, at, domain = text.rpartition("@")
        if domain.isascii():
            return text
        try:
            return f"{mailbox}{at}{domain.encode('idna').decode('ascii')}" if domain and " " not in domain else text
        except UnicodeError:
            return text
    digits = _FILLING.sub("", text)
    return digits if _NUMBER.fullmatch(digits) else text


def key(org_id: str, channel: str, address: str) -> str:
    """Return what stands for an address on a channel in one organization."""
    return hashlib.sha256("\x1f".join((org_id, channel, normal(channel, address))).encode(errors="replace")).hexdigest()


def own_keys(org_id: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a contact's own addresses, by channel."""
    return {
        channel: key(org_id, channel, str(fields[name])) for channel, name in OWN_FIELDS.items() if fields.get(name)
    }


def masked(address: str) -> str:
    """Return an address as its owner knows it again and nobody else learns it: `a***@e***.com`."""
    mailbox, at, domain = address.rpartition("@")
    if at and mailbox and "." in domain:
        return f"{mailbox[:1]}{_HIDDEN}@{domain[:1]}{_HIDDEN}.{domain.rpartition('.')[2]}"
    if len(address) >= 7 and _NUMBER.fullmatch(_FILLING.sub("", address)):
        return f"{_HIDDEN}{address[-2:]}"
    return f"{address[:2] if address.startswith('@') else address[:1]}{_HIDDEN}"

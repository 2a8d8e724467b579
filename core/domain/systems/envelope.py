"""Envelope encryption: each secret under a data key of its own, each data key under a master key that has a name.

Rotating the master key wraps the data keys again and leaves the secrets as they are. What is sealed is bound to what
it belongs to, so that a row put in another's place cannot be opened.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.domain.frozen import frozen

KEY_BYTES = 32
_NONCE_BYTES = 12
SEALED = "sealed:1:"
"""How every sealed text begins."""

Chance = Callable[[int], bytes]
"""Gives so many random bytes."""


class BadKey(ValueError):
    """A text is no master key; it never says which text."""


class CannotOpen(Exception):
    """What is sealed cannot be opened: its key is not here, or it was changed."""


@frozen
class MasterKey:
    """A key that wraps data keys; its id follows from it."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Return its name, which gives nothing of it away."""
        return "mk_" + hashlib.sha256(b"dripstone master key\0" + self.secret).hexdigest()[:16]

    @property
    def text(self) -> str:
        """Return it as it stands in a key file."""
        return base64.b64encode(self.secret).decode()


@frozen
class Sealed:
    """A secret, encrypted."""

    key_id: str
    wrapped: bytes
    """The data key under the master key: nonce and ciphertext."""
    body: bytes
    """The secret under the data key: nonce and ciphertext."""


def to_text(sealed: Sealed) -> str:
    """Return what is sealed as one text."""
    return SEALED + ":".join([sealed.key_id, _base64(sealed.wrapped), _base64(sealed.body)])


def from_text(text: str) -> Sealed | None:
    """Return what is sealed in a text; None where nothing is."""
    if not text.startswith(SEALED):
        return None
    try:
        key_id, wrapped, body = text.removeprefix(SEALED).split(":")
        return Sealed(key_id, base64.b64decode(wrapped, validate=True), base64.b64decode(body, validate=True))
    except ValueError:
        return None


def read_keys(text: str) -> tuple[MasterKey, ...]:
    """Return the keys in a text, one a line (or separated by commas): the first seals, all of them open.

    Raises BadKey.
    """
    words = [word.strip() for line in text.splitlines() for word in line.partition("#")[0].split(",")]
    keys = []
    for word in filter(None, words):
        try:
            secret = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise BadKey(f"a master key is {KEY_BYTES} bytes in base64")
        keys.append(MasterKey(secret))
    return tuple(keys)


def seal(master: MasterKey, secret: bytes, about: str, chance: Chance) -> Sealed:
    """Encrypt a secret; `about` says what it belongs to."""
    data_key = chance(KEY_BYTES)
    return Sealed(
        master.id, _encrypt(master.secret, data_key, about, chance), _encrypt(data_key, secret, about, chance)
    )


def unseal(keys: Sequence[MasterKey], sealed: Sealed, about: str) -> bytes:
    """Return the secret.

    Raises CannotOpen.
    """
    return _decrypt(_data_key(keys, sealed, about), sealed.body, about)


def rewrap(keys: Sequence[MasterKey], sealed: Sealed, about: str, chance: Chance) -> Sealed:
    """Return the same secret under the first of these keys.

    Raises CannotOpen.
    """
    data_key = _data_key(keys, sealed, about)
    return Sealed(keys[0].id, _encrypt(keys[0].secret, data_key, about, chance), sealed.body)


def _base64(given: bytes) -> str:
    return base64.b64encode(given).decode()


def _data_key(keys: Sequence[MasterKey], sealed: Sealed, about: str) -> bytes:
    by_id: Mapping[str, MasterKey] = {key.id: key for key in keys}
    if sealed.key_id not in by_id:
        raise CannotOpen(f"sealed under the master key {sealed.key_id}, which is not here")
    return _decrypt(by_id[sealed.key_id].secret, sealed.wrapped, about)


def _encrypt(key: bytes, plain: bytes, about: str, chance: Chance) -> bytes:
    nonce = chance(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, about.encode())


def _decrypt(key: bytes, given: bytes, about: str) -> bytes:
    try:
        return AESGCM(key).decrypt(given[:_NONCE_BYTES], given[_NONCE_BYTES:], about.encode())
    except (InvalidTag, ValueError):
        raise CannotOpen("it was changed, or belongs to something else") from None

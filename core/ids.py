"""The one source of chance: ids and secrets."""

from __future__ import annotations

import os
import secrets
import string
import zlib
from collections import deque
from datetime import datetime

from core.domain import names

KEY_PREFIX = "dripstone_live_"
_BASE62 = string.digits + string.ascii_letters


def mint(prefix: str, at: datetime) -> str:
    """Return a new id, such as `enr_01k…`."""
    return names.compose(prefix, at, int.from_bytes(_ten_bytes()))


_AT_ONCE = 256
_drawn: deque[bytes] = deque()
os.register_at_fork(after_in_child=_drawn.clear)


def _ten_bytes() -> bytes:
    """Return random bytes, of which many are drawn at once: each question to the system lets other threads go first."""
    while True:
        try:
            return _drawn.popleft()  # no two threads get the same
        except IndexError:
            block = os.urandom(10 * _AT_ONCE)
            _drawn.extend(block[start : start + 10] for start in range(0, len(block), 10))


def _base62(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def new_api_key() -> str:
    """Return a new API key: prefix, 30 random base-62 characters, 6 of their CRC-32."""
    body = "".join(secrets.choice(_BASE62) for _ in range(30))
    return KEY_PREFIX + body + _checksum(body)


def api_key_is_well_formed(key: str) -> bool:
    """Tell a mistyped or foreign key from a possible one, without asking the store."""
    body = key.removeprefix(KEY_PREFIX)
    return key.startswith(KEY_PREFIX) and len(body) == 36 and _checksum(body[:30]) == body[30:]


def new_secret_bytes(count: int = 32) -> bytes:
    """Return random bytes for a signing secret."""
    return secrets.token_bytes(count)


def jitter() -> float:
    """Return a random number from 0 to 1, for spreading retries."""
    return secrets.randbelow(1 << 30) / (1 << 30)

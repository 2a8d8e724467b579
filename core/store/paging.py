"""Pages of a list, newest first, with tokens that hold only for the list they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select
from sqlalchemy.sql.elements import ColumnElement

from core.domain.errors import invalid
from core.store.transaction import Transaction

DEFAULT_SIZE = 50
LARGEST_SIZE = 500


def _fingerprint(filter_text: str) -> str:
    return hashlib.sha256(filter_text.encode()).hexdigest()[:8]


def encode_token(key: str, filter_text: str = "") -> str:
    """Return the token of the page after the row with this key."""
    return base64.urlsafe_b64encode(f"{_fingerprint(filter_text)}:{key}".encode()).decode().rstrip("=")


def decode_token(token: str, filter_text: str = "") -> str:
    """Return the key that a token stands for.

    Raises Invalid for a token of another list.
    """
    try:
        fingerprint, _, key = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(":")
    except (ValueError, binascii.Error):
        fingerprint, key = "", ""
    if fingerprint != _fingerprint(filter_text) or not key:
        raise invalid(
            "page_token",
            "PAGE_TOKEN_MISMATCH",
            "the token does not belong to this list",
            "Start again without a token, or keep the filter of the first page.",
        )
    return key


def page_size(size: int) -> int:
    """Return how many rows a page has: 50 unless told, never more than 500."""
    return min(size, LARGEST_SIZE) if size > 0 else DEFAULT_SIZE


async def page(
    tx: Transaction,
    statement: Select[Any],
    key: ColumnElement[Any],
    size: int,
    token: str,
    *,
    filter_text: str = "",
) -> tuple[Sequence[Row[Any]], str]:
    """Return one page of a statement, newest first by `key`, and the token of the next page.

    Raises Invalid for a token of another list.
    """
    size = page_size(size)
    if token:
        statement = statement.where(key < decode_token(token, filter_text))
    rows = await tx.all(statement.order_by(key.desc()).limit(size + 1))
    if len(rows) <= size:
        return rows, ""
    rows = rows[:size]
    return rows, encode_token(str(rows[-1]._mapping[key]), filter_text)

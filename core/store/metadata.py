"""The schema's vocabulary: the one MetaData and the column types that mean the same on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, MetaData, String
from sqlalchemy import types as sql_types
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

metadata = MetaData()
"""Every table of the product; migrations are checked against it."""

Name = String().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Ids and other machine text: compared byte by byte, so that id order is time order."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@lru_cache(maxsize=1024)  # what a batch writes is mostly of one instant
def to_micros(instant: datetime) -> int:
    """Return an instant as whole microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=1024)  # what a batch reads was often written together
def from_micros(micros: int) -> datetime:
    """Return microseconds since 1970 as an instant in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


@lru_cache(maxsize=1024)
def day_of(instant: datetime) -> int:
    """Return the day since 1970 that history is partitioned by."""
    return (instant - _EPOCH).days


class Instant(sql_types.TypeDecorator[datetime]):
    """An instant in UTC, stored as microseconds: eight bytes and the same arithmetic on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Turn an instant into microseconds."""
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Turn microseconds into an instant."""
        return None if value is None else from_micros(value)


def dump_json(value: object) -> str:
    """Return a value as compact JSON; instants become ISO 8601 text.

    Raises ValueError for a number that is not finite: SQLite would keep what PostgreSQL refuses.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_json_default)


def _json_default(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER = msgspec.json.Encoder(enc_hook=_json_default)
_DECODER = msgspec.json.Decoder()


def write_json(value: object) -> str:
    """Return what is `storable` already as JSON: what `dump_json` does, in a tenth of the time.

    A number that is not finite becomes null.
    """
    return _ENCODER.encode(value).decode()


def read_json(text: str) -> Any:
    """Return the value of a JSON text from the database, whole numbers of any size exactly."""
    return _DECODER.decode(text)


class Json(sql_types.TypeDecorator[Any]):
    """A JSON value: JSONB on PostgreSQL, text on SQLite."""

    impl = sql_types.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sql_types.TypeEngine[Any]:
        """Choose the database's own type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(sql_types.JSON(none_as_null=True))


def org_id() -> Column[str]:
    """Return the first column of every primary key: the organization."""
    return Column("org_id", Name, primary_key=True)

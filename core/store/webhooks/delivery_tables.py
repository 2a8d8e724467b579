"""The tables of outbound webhooks: messages, a delivery for every endpoint that wants one, and every attempt."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Sequence, SmallInteger, Table, text

from core.store.metadata import Instant, Name, metadata, org_id

FIRST, RETRY, REPLAY = 0, 1, 2
"""Lanes: what has not been tried yet, what has failed before, and what a replay made due."""

LANES = (FIRST, RETRY, REPLAY)

messages = Table(
    "messages",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("event_type", Name, nullable=False),
    # The body, made once: signed as stored, sent as stored.
    Column("payload", Name, nullable=False),
    Column("enrollment_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    postgresql_partition_by="RANGE (day)",
)

delivery_places = Sequence("delivery_places", metadata=metadata)
"""Where the next delivery stands among all; PostgreSQL only."""

delivery_numbers = Table(
    "delivery_numbers",
    metadata,
    org_id(),
    Column("endpoint_id", Name, primary_key=True),
    # Position of the last message that was handed over.
    Column("last", BigInteger, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("message_id", Name, nullable=False),
    Column("endpoint_id", Name, nullable=False),
    Column("event_type", Name, nullable=False),
    Column("enrollment_id", Name, nullable=False),
    Column("awaited", Boolean, nullable=False),
    Column("state", Name, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    # Attempts made before the last redelivery; the retry schedule counts from here.
    Column("attempts_before", Integer, nullable=False),
    # When to send; while it is being sent, when the lease ends.
    Column("due_at", Instant),
    Column("lease_until", Instant),
    Column("lease_token", Name),
    Column("last_outcome", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    # Position among what the endpoint was handed, without gaps; 0 until it is handed over first.
    Column("sequence", BigInteger, nullable=False, server_default="0"),
    # When it was written among all others: what is written after another one was committed comes after it; with gaps.
    Column("place", BigInteger, nullable=False, server_default="0"),
    # The contact that it waits for others of, where the endpoint keeps their order; else empty.
    Column("contact_id", Name, nullable=False, server_default=""),
    # The body, where the endpoint's form is not the message's own; NULL for the message's.
    Column("payload", Name),
    # The replay that made it due again.
    Column("replay_id", Name),
    # 0 first attempts, 1 retries, 2 what a replay made due: they take turns.
    Column("lane", SmallInteger, nullable=False, server_default="0"),
    # Endpoint and lane before time: a long backlog of either is skipped in one step.
    Index(
        "deliveries_due",
        "org_id",
        "endpoint_id",
        "lane",
        "due_at",
        "place",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    # Whether an earlier message about the same contact waits.
    Index(
        "deliveries_order",
        "org_id",
        "endpoint_id",
        "contact_id",
        "place",
        sqlite_where=text("state = 'pending' AND contact_id <> ''"),
        postgresql_where=text("state = 'pending' AND contact_id <> ''"),
    ),
    Index("deliveries_endpoint", "org_id", "endpoint_id", "id"),
    Index("deliveries_message", "org_id", "message_id"),
    Index(
        "deliveries_enrollment",
        "org_id",
        "enrollment_id",
        "id",
        sqlite_where=text("enrollment_id <> ''"),
        postgresql_where=text("enrollment_id <> ''"),
    ),
    postgresql_partition_by="RANGE (day)",
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    org_id(),
    Column("delivery_id", Name, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("outcome", Name, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("response", Name, nullable=False),
    Column("error", Name, nullable=False),
    postgresql_partition_by="RANGE (day)",
)

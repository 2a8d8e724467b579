"""Record types, own fields, pipelines, words to find records by; deletion, the feed of changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.domain.records import words
from core.domain.records.schema import STANDARD
from core.store.metadata import Instant, Json, Name, read_json
from core.store.records.record_rows import NOT_OF_ENROLLMENTS, TransactionNumber

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TABLES = ("record_schemas", "record_types", "record_fields", "record_unique_values", "record_words", "pipelines")
_KEPT = ("owner_id", "status", "tier")


def upgrade() -> None:
    """Add them; records that are there are found by their words at once."""
    for name in _KEPT:
        op.add_column("records", sa.Column(name, Name))
        op.execute(f"UPDATE records SET {name} = fields ->> '{name}' WHERE fields ->> '{name}' IS NOT NULL")  # noqa: S608 -- names are ours
        _index(f"records_{name.removesuffix('_id')}", "type", name, "id", where=name)
    op.add_column("records", sa.Column("freed", Json()))
    for name in ("contact", "company"):
        op.drop_index(f"records_{name}", "records")
        _index(f"records_{name}", f"{name}_id", "type", "id", where=f"{name}_id")
    op.add_column(
        "record_changes", sa.Column("place", sa.BigInteger(), nullable=False, server_default=TransactionNumber())
    )
    op.add_column("record_changes", sa.Column("reverted_by", Name))
    op.create_index("record_changes_place", "record_changes", ["org_id", "place", "id"])
    op.create_index(
        "record_changes_cause",
        "record_changes",
        ["org_id", "cause", "id"],
        sqlite_where=NOT_OF_ENROLLMENTS,
        postgresql_where=NOT_OF_ENROLLMENTS,
    )
    _definitions()
    op.create_table(
        "record_words",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("word", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.Column("field", Name, nullable=False),
        sa.Column("weight", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "word", "record_id", "field"),
        sqlite_with_rowid=False,
    )
    _fill_words()
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(
                f"CREATE POLICY organization ON {table} USING "
                "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
            )


def _index(name: str, *columns: str, where: str) -> None:
    there = sa.text(f"{where} IS NOT NULL")
    op.create_index(name, "records", ["org_id", *columns], sqlite_where=there, postgresql_where=there)


def _definitions() -> None:
    op.create_table(
        "record_schemas",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("token", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id"),
    )
    op.create_table(
        "record_types",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("plural_name", Name, nullable=False),
        sa.Column("description", Name, nullable=False),
        sa.Column("title_field", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "name"),
    )
    op.create_table(
        "record_fields",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("definition", Json(), nullable=False),
        sa.Column("updated_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "record_type", "name"),
    )
    op.create_table(
        "record_unique_values",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("field", Name, nullable=False),
        sa.Column("value", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "record_type", "field", "value"),
    )
    op.create_index("record_unique_values_record", "record_unique_values", ["org_id", "record_id"])
    op.create_table(
        "pipelines",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("stages", Json(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )


def _fill_words() -> None:
    """Write the words of the records that are there, page by page."""
    connection = op.get_bind()
    page = sa.text(
        "SELECT org_id, id, type, fields FROM records WHERE deleted_at IS NULL AND (org_id, id) > (:org, :id) "
        "ORDER BY org_id, id LIMIT 2000"
    )
    insert = sa.text(
        "INSERT INTO record_words (org_id, word, record_id, field, weight) VALUES (:org, :word, :id, :field, :weight)"
    )
    after = {"org": "", "id": ""}
    while rows := connection.execute(page, after).all():
        new = []
        for row in rows:
            fields = read_json(row.fields) if isinstance(row.fields, str) else row.fields
            for one in sorted(words.of_record(STANDARD.of(row.type), fields)):
                entry = {"word": one.word, "field": one.field, "weight": one.weight}
                new.append({"org": row.org_id, "id": row.id, **entry})
        if new:
            connection.execute(insert, new)
        after = {"org": rows[-1].org_id, "id": rows[-1].id}


def downgrade() -> None:
    """Take them away."""
    for table in _TABLES:
        op.drop_table(table)
    op.drop_index("record_changes_cause", "record_changes")
    op.drop_index("record_changes_place", "record_changes")
    op.drop_column("record_changes", "reverted_by")
    op.drop_column("record_changes", "place")
    for name in ("contact", "company"):
        there = sa.text(f"{name}_id IS NOT NULL")
        op.drop_index(f"records_{name}", "records")
        op.create_index(
            f"records_{name}", "records", ["org_id", f"{name}_id", "id"], sqlite_where=there, postgresql_where=there
        )
    op.drop_column("records", "freed")
    for name in _KEPT:
        op.drop_index(f"records_{name.removesuffix('_id')}", "records")
        op.drop_column("records", name)

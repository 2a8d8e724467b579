"""Statements by their form: the second of a form says and means the same as if SQLAlchemy had written it anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    Executable,
    Float,
    and_,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.dialects.sqlite import aiosqlite
from sqlalchemy.engine import Dialect

from core.store.events.events import events
from core.store.metadata import dump_json, read_json, to_micros
from core.store.statements import EVERY_ORGANIZATION, Statements
from core.store.workflows.enrollments import enrollments
from core.store.workflows.workflows import workflows

DIALECTS = [
    aiosqlite.dialect(json_serializer=dump_json, json_deserializer=read_json),
    asyncpg.dialect(json_serializer=dump_json, json_deserializer=read_json),
]
_T0 = datetime(2026, 3, 1, tzinfo=UTC)
_e, _w = enrollments.c, workflows.c

FORMS: dict[str, Callable[[int], Any]] = {
    "where": lambda n: select(enrollments).where(_e.id == f"enr_{n}", _e.entered_at > _T0 + timedelta(days=n)),
    "limit": lambda n: select(_e.id).where(_e.rev > n).order_by(_e.id).limit(n).offset(n + 1),
    "limit alone": lambda n: select(_e.id).where(_e.rev > n).order_by(_e.id).limit(n),
    "in": lambda n: select(_e.id).where(_e.id.in_([f"enr_{one}" for one in range(n)]), _e.rev == n),
    "tuples": lambda n: select(_e.id).where(tuple_(_e.rev, _e.id) > (n, f"enr_{n}")),
    "tuples in": lambda n: select(_e.id).where(tuple_(_e.rev, _e.id).in_([(one, f"{n}") for one in range(n)])),
    "join": lambda n: select(_e.id, _w.id).join(workflows, _w.id == _e.workflow_id).where(_w.id == f"wf_{n}"),
    "two": lambda n: select(_e.id, _w.id).where(_w.id == _e.workflow_id, _e.rev == n),
    "exists": lambda n: select(_w.id).where(exists().where(_e.workflow_id == _w.id, _e.rev == n)),
    "subquery": lambda n: select(_e.id).where(_e.id.in_(select(_w.id).where(_w.id == f"wf_{n}").scalar_subquery())),
    "or": lambda n: (
        select(func.count()).select_from(enrollments).where(or_(_e.rev == n, and_(_e.rev > n, _e.id == "x")))
    ),
    "update": lambda n: update(enrollments).where(_e.rev == n).values(rev=n + 1, data={"n": n}, moved_at=_T0),
    "update by": lambda n: update(enrollments).where(_e.id == f"{n}").values(rev=_e.rev + n).returning(_e.id, _e.rev),
    "delete": lambda n: delete(enrollments).where(_e.rev < n),
    "lock": lambda n: select(_e.id).where(_e.rev == n).with_for_update(skip_locked=True),
    "alias": lambda n: (lambda other: select(other.c.id).where(other.c.rev == n))(enrollments.alias()),
    "cte": lambda n: (lambda one: select(one.c.id).where(one.c.rev == n))(
        select(_e.id, _e.rev, _e.org_id).where(_e.rev > n).cte("one")
    ),
}


def _anew(statements: Statements, statement: Executable, org_id: str) -> tuple[str, list[Any]]:
    sql, values, _ = statements._asked_once(statement, org_id)
    return sql, list(values)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("form", FORMS)
def test_the_second_of_a_form_says_the_same(form: str, dialect: Dialect) -> None:
    kept = Statements(dialect)
    for org_id in ("org_a", "org_b", EVERY_ORGANIZATION):
        for number in (3, 2, 5):
            statement = FORMS[form](number)
            sql, values, _ = kept.asked(statement, org_id)
            assert (sql, list(values)) == _anew(Statements(dialect), FORMS[form](number), org_id)
            assert ("org_a" in values) is (org_id == "org_a")
    assert len(kept._forms) == 2, "its form is kept, once for an organization and once for all"
    assert None not in kept._forms.values(), "and nothing is compiled again"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("form", [name for name in FORMS if name not in ("cte", "exists", "subquery")])
def test_every_table_a_query_reads_is_bound(form: str, dialect: Dialect) -> None:
    statement = FORMS[form](1)
    sources = (
        1
        if not hasattr(statement, "get_final_froms")
        else sum(2 if hasattr(source, "left") else 1 for source in statement.get_final_froms())
    )
    sql, _, _ = Statements(dialect).asked(statement, "org_a")
    assert sql.count("org_id = ") == sources


def test_values_are_what_the_driver_takes() -> None:
    sqlite, postgres = (Statements(dialect) for dialect in DIALECTS)
    statement = update(enrollments).where(_e.entered_at == _T0).values(data={"a": [1]})
    for statements in (sqlite, postgres):
        _, values, _ = statements.asked(statement, "org_a")
        assert list(values) == ['{"a":[1]}', to_micros(_T0), "org_a"]


def test_what_cannot_be_bound_is_refused() -> None:
    statements = Statements(DIALECTS[0])
    for statement in (insert(enrollments).values(id="x"), text("SELECT 1"), select(text("1")).select_from(text("x"))):
        for _ in range(2):
            with pytest.raises(TypeError):
                statements.asked(statement, "org_a")


def test_columns_of_one_name_are_told_apart() -> None:
    statement = select(_e.id, _w.id, events.c.id.label("event")).where(_w.id == _e.workflow_id)
    _, _, shape = Statements(DIALECTS[0]).asked(statement, EVERY_ORGANIZATION)
    (row,) = shape.rows([("enr_1", "wf_1", "evt_1")])
    assert (row.id, row._mapping[_w.id], row.event) == ("enr_1", "wf_1", "evt_1")


def test_floats_are_floats_and_exact_numbers_stay_so() -> None:
    statement = select(literal_column("1", Float).label("x"))
    _, _, shape = Statements(DIALECTS[1]).asked(statement, EVERY_ORGANIZATION)
    (row,) = shape.rows([(1,)])
    assert type(row.x) is float

"""From SQLAlchemy's constructs to SQL, values and rows: the only place where statements are bound to an organization.

SQLAlchemy writes the SQL. Around each execution it would do several times the work of the drivers; so what a form of
statement needs is worked out once and kept: its text, where each value stands in it, how each column is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import BindParameter, Delete, Executable, Row, Select, Update, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import FromClause, Join

from core.domain.frozen import frozen
from core.store.metadata import Name

EVERY_ORGANIZATION = "*"
"""The organization of a system transaction, which names organizations in its own statements."""

_MOST_FORMS = 2_000
_NUMERIC = 1700
"""PostgreSQL's type of exact numbers: what its driver may bring where a column is declared as a float."""

_Statement = TypeVar("_Statement", Select[Any], Update, Delete)
_Convert = Callable[[Any], Any]
_Given = Sequence[BindParameter[Any]]

_THE_ORGANIZATION: BindParameter[str] = bindparam("the_organization", type_=Name, required=False)


class RowShape:
    """The columns of a statement's rows."""

    __slots__ = ("_columns", "_convert", "_places")

    def __init__(self, compiled: SQLCompiler, coltype: int | None):
        columns = compiled._result_columns
        converts = [one.type._cached_result_processor(compiled.dialect, coltype) for one in columns]
        about = [tuple(key for key in one.objects if not isinstance(key, str)) for one in columns]
        self._columns = SimpleResultMetaData([one.keyname for one in columns], extra=about)
        self._convert = converts if any(converts) else None
        self._places = self._columns._key_to_index

    def rows(self, found: Sequence[Sequence[Any]]) -> list[Row[Any]]:
        """Return rows as the driver brought them with their names and types."""
        columns, convert, places = self._columns, self._convert, self._places
        return [Row(columns, convert, places, values) for values in found]


Asked = tuple[str, Sequence[Any], RowShape]
"""What a driver is asked: the SQL, its values in their order, and the shape of the rows."""


@frozen
class _Constant:
    """A value that the dialect puts in by itself, as SQLite's does for an OFFSET."""

    value: Any


_Place = tuple[int | _Constant | None, _Convert | None]
"""Where the value of a mark is given, and what makes the driver's of it."""


@frozen
class _Form:
    """What all statements of one form have in common."""

    compiled: SQLCompiler
    shape: RowShape
    sources: tuple[int | None, ...]
    """For each value that SQLAlchemy found in the first of them: where the caller gave it; None is the organization."""
    places: tuple[_Place, ...] | None
    """The same for each mark in the text; None where the text follows from the values, as in `IN`."""


class Statements:
    """The statements of one database."""

    def __init__(self, dialect: Dialect):
        self.dialect = dialect.name
        self._dialect = dialect
        self._coltype = _NUMERIC if dialect.name == "postgresql" else None
        self._forms: dict[Any, _Form | None] = {}

    def asked(self, statement: Executable, org_id: str) -> Asked:
        """Return what to ask for a statement of an organization, or of all. Raises TypeError if it cannot be bound."""
        key = cast(Any, statement)._generate_cache_key()
        if key is None or key.params:
            return self._asked_once(statement, org_id)
        whole = org_id == EVERY_ORGANIZATION
        known = (whole, key.key)
        form = self._forms.get(known)
        if form is None:
            if known in self._forms:
                return self._asked_once(statement, org_id)
            form = self._form(statement, key.bindparams, whole=whole)
            if len(self._forms) >= _MOST_FORMS:
                del self._forms[next(iter(self._forms))]
            self._forms[known] = form
            if form is None:
                return self._asked_once(statement, org_id)
        given: _Given = key.bindparams
        if form.places is None:
            found = [_organization(org_id) if at is None else given[at] for at in form.sources]
            values = form.compiled.construct_params(extracted_parameters=found, escape_names=False)
            return self._expanded(form.compiled, values, form.shape)
        asked = [_value(at, given, org_id) for at, _ in form.places]
        for number, (_, convert) in enumerate(form.places):
            if convert is not None:
                asked[number] = convert(asked[number])
        return form.compiled.string, asked, form.shape

    def many(self, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[list[Any]]]:
        """Return the SQL of a statement that is run once a row, and the values of each."""
        compiled = cast(SQLCompiler, cast(Any, statement).compile(dialect=self._dialect))
        converts = cast(Mapping[str, _Convert], compiled._bind_processors)
        each = [compiled.construct_params(row, escape_names=False) for row in rows]
        return compiled.string, [_in_order(compiled.positiontup or (), values, converts) for values in each]

    def _form(self, statement: Executable, given: _Given, *, whole: bool) -> _Form | None:
        bound = cast(Any, statement if whole else scoped(statement, _THE_ORGANIZATION))
        compiled: SQLCompiler = bound._compile_w_cache(self._dialect, compiled_cache={}, column_keys=[])[0]
        if compiled.cache_key is None or compiled._cache_key_bind_match is None:
            return None
        places: dict[int, int | None] = {id(one): number for number, one in enumerate(given)}
        places[id(_THE_ORGANIZATION)] = None
        found = compiled.cache_key.bindparams
        if any(id(one) not in places for one in found):  # the library has copied what it was given
            return None
        sources = tuple(places[id(one)] for one in found)
        shape = RowShape(compiled, self._coltype)
        if compiled.post_compile_params or compiled.literal_execute_params:
            return _Form(compiled, shape, sources, None)
        matches = compiled._cache_key_bind_match[0]
        by_mark = {id(mark): at for one, at in zip(found, sources, strict=True) for mark in matches[one]}
        converts = cast(Mapping[str, _Convert], compiled._bind_processors)
        marks = {name: compiled.binds[name] for name in compiled.positiontup or ()}
        marked: list[_Place] = [
            # What was given is found by its mark: what has none is the same in every statement of this form.
            (
                by_mark[id(marks[name])] if id(marks[name]) in by_mark else _Constant(marks[name].value),
                converts.get(name),
            )
            for name in compiled.positiontup or ()
        ]
        return _Form(compiled, shape, sources, tuple(marked))

    def _asked_once(self, statement: Executable, org_id: str) -> Asked:
        """Return what to ask for a statement whose form is not kept: SQLAlchemy has no key for it."""
        bound = statement if org_id == EVERY_ORGANIZATION else scoped(statement, _organization(org_id))
        compiled = cast(SQLCompiler, cast(Any, bound).compile(dialect=self._dialect))
        return self._expanded(
            compiled, compiled.construct_params(escape_names=False), RowShape(compiled, self._coltype)
        )

    def _expanded(self, compiled: SQLCompiler, values: MutableMapping[str, Any], shape: RowShape) -> Asked:
        """Return what to ask once the marks of lists are there, one for each of their values."""
        sql: str = compiled.string
        names: Sequence[str] | None = compiled.positiontup
        converts = cast(Mapping[str, _Convert], compiled._bind_processors)
        if compiled.post_compile_params or compiled.literal_execute_params:
            expanded = compiled._process_parameters_for_postcompile(values)
            sql, names = expanded.statement, expanded.positiontup
            converts = {**converts, **cast(Mapping[str, _Convert], expanded.processors)}
        return sql, _in_order(names or (), values, converts), shape


def scoped(statement: Executable, org_id: BindParameter[str]) -> Executable:
    """Return a statement that sees the rows of one organization alone. Raises TypeError for one that cannot."""
    if isinstance(statement, Select):
        sources = [leaf for source in statement.get_final_froms() for leaf in _leaves(source)]
        return _where(statement, sources, org_id)
    if isinstance(statement, Update):
        return _where(statement, _leaves(statement.table), org_id)
    if isinstance(statement, Delete):
        return _where(statement, _leaves(statement.table), org_id)
    raise TypeError(f"{type(statement).__name__} cannot be bound to an organization")


def _where(statement: _Statement, sources: Sequence[FromClause], org_id: BindParameter[str]) -> _Statement:
    for source in sources:
        if "org_id" not in getattr(source, "c", ()):
            raise TypeError(f"{source} has no organization")
        statement = statement.where(source.c.org_id == org_id)
    return statement


def _leaves(source: FromClause) -> list[FromClause]:
    if isinstance(source, Join):
        return _leaves(source.left) + _leaves(source.right)
    return [source]


def _value(at: int | _Constant | None, given: _Given, org_id: str) -> Any:
    if at is None:
        return org_id
    return at.value if isinstance(at, _Constant) else given[at].effective_value


def _organization(org_id: str) -> BindParameter[str]:
    return bindparam("the_organization", org_id, type_=Name)


def _in_order(names: Sequence[str], values: Mapping[str, Any], converts: Mapping[str, _Convert]) -> list[Any]:
    return [converts[name](values[name]) if name in converts else values[name] for name in names]

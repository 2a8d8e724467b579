"""Taking changes back: what a record would be without some of its changes, and which of them stay and why.

A record's history is a list of changes, some of which take others back. Without some of them, a field has what the last
of its other changes made it; a change that was taken back counts again when what took it back is taken back itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.domain.frozen import frozen
from core.domain.records.changes import Change, patched, same, value_at

DELETED = "deleted"
"""The field under which the history tells that a record was deleted or restored."""
FINAL = {"merged_into": "RECORD_MERGED", "erased": "RECORD_ERASED"}
"""Fields under which the history tells what is not taken back here."""

CHANGED_SINCE, ALREADY_REVERTED, RECORD_DELETED = "CHANGED_SINCE", "ALREADY_REVERTED", "RECORD_DELETED"


@frozen
class Past:
    """A change of the history."""

    id: str
    record_id: str
    field: str
    old: Any
    new: Any
    actor: str
    place: int
    """Grows with each change of the record."""
    first: bool = False
    """It is part of what the record was made with."""
    reverted_by: str = ""


@frozen
class Stays:
    """A change that is not taken back."""

    change: Past
    reason: str
    now: Any = None
    """What the field is now."""
    by: str = ""
    """Who changed it since."""


@dataclass(slots=True)
class Way:
    """How one record gets rid of changes."""

    patch: dict[str, Any] = field(default_factory=dict)
    """Dotted path to the value that it gets, in the order in which to set them."""
    taken_back: dict[str, list[str]] = field(default_factory=dict)
    """The changes that setting each path takes back."""
    deleted: bool | None = None
    """True where the record goes, False where it comes back, None where neither happens."""
    stays: list[Stays] = field(default_factory=list)

    @property
    def does_nothing(self) -> bool:
        """Tell whether nothing is taken back."""
        return not self.patch and self.deleted is None

    def changes(self, fields: Mapping[str, Any]) -> list[Change]:
        """Return what it does to a record with these fields."""
        found = [Change(path, value_at(fields, path), value) for path, value in self.patch.items()]
        if self.deleted is not None:
            found.append(Change(DELETED, None if self.deleted else True, True if self.deleted else None))
        return found

    def leave(self, path: str, history: Iterable[Past], reason: str, now: Any, by: str = "") -> None:
        """Let a field stay as it is after all."""
        ids = set(self.taken_back.pop(path, ()))
        self.patch.pop(path, None)
        self.stays += [Stays(one, reason, now, by) for one in history if one.id in ids]


def plan(
    history: Sequence[Past], wanted: Collection[str], fields: Mapping[str, Any], *, is_deleted: bool = False
) -> Way:
    """Return how a record gets rid of the wanted changes; `history` is all of the record's, in order."""
    way = Way()
    stands = _in_effect(history, ())
    asked = []
    for one in history:
        if one.id not in wanted:
            continue
        if one.field in FINAL:
            way.stays.append(Stays(one, FINAL[one.field]))
        elif not stands[one.id]:
            way.stays.append(Stays(one, ALREADY_REVERTED, value_at(fields, one.field)))
        else:
            asked.append(one)
    if asked and all(one.id in wanted for one in history if one.first) and any(one.first for one in asked):
        _without_record(way, history, asked, stands, fields)
        return way
    ids = {one.id for one in asked}
    without = _in_effect(history, ids)
    by_field: dict[str, list[Past]] = {}
    for one in history:
        by_field.setdefault(one.field, []).append(one)
    present: Mapping[str, Any] = fields
    paths = dict.fromkeys(one.field for one in reversed(asked))  # the newest first: what gave way to it comes back last
    _deletion(way, by_field, ids, stands, without, is_deleted=is_deleted)
    gone = is_deleted if way.deleted is None else way.deleted
    for path in paths:
        if path == DELETED:
            continue
        of = by_field[path]
        mine = [one for one in of if one.id in ids]
        now = value_at(present, path)
        if gone and way.deleted is None:
            way.stays += [Stays(one, RECORD_DELETED, now) for one in mine]
            continue
        _field(way, path, of, mine, now, stands, without)
        if path in way.patch:
            present, _ = patched(present, {path: way.patch[path]})
    return way


def _field(
    way: Way,
    path: str,
    of: Sequence[Past],
    mine: Sequence[Past],
    now: Any,
    stands: Mapping[str, bool],
    without: Mapping[str, bool],
) -> None:
    if not same(now, _value(of, stands)):
        way.stays += [Stays(one, CHANGED_SINCE, now, of[-1].actor) for one in mine]  # such as of what it is a part of
        return
    last = _last(of, without)
    kept = []
    for one in mine:
        if last is not None and last.place > one.place:
            way.stays.append(Stays(one, CHANGED_SINCE, now, last.actor))
        else:
            kept.append(one.id)
    target = _value(of, without)
    if kept and not same(now, target):
        way.patch[path] = target
        way.taken_back[path] = kept


def _deletion(
    way: Way,
    by_field: Mapping[str, Sequence[Past]],
    ids: Collection[str],
    stands: Mapping[str, bool],
    without: Mapping[str, bool],
    *,
    is_deleted: bool,
) -> None:
    of = by_field.get(DELETED, ())
    mine = [one for one in of if one.id in ids]
    if not mine:
        return
    target = _value(of, without) is True
    if (_value(of, stands) is True) != is_deleted or target == is_deleted:
        way.stays += [Stays(one, CHANGED_SINCE, is_deleted or None, of[-1].actor) for one in mine]
        return
    way.deleted = target
    way.taken_back[DELETED] = [one.id for one in mine]


def _without_record(
    way: Way,
    history: Sequence[Past],
    asked: Sequence[Past],
    stands: Mapping[str, bool],
    fields: Mapping[str, Any],
) -> None:
    """Let a record go that was made by what is taken back, unless somebody else has worked on it since."""
    ids = {one.id for one in asked}
    negating = {one.reverted_by for one in history if one.reverted_by}
    others = [one for one in history if stands[one.id] and one.id not in ids and one.id not in negating]
    if others:
        gone = others[-1].field == DELETED and others[-1].new is True
        reason = RECORD_DELETED if gone else CHANGED_SINCE
        way.stays += [Stays(one, reason, value_at(fields, one.field), others[-1].actor) for one in asked]
        return
    way.deleted = True
    way.taken_back[DELETED] = [one.id for one in asked]


def _in_effect(history: Sequence[Past], without: Collection[str]) -> dict[str, bool]:
    """Return which changes count when some are left out: those that nothing which counts takes back."""
    effect: dict[str, bool] = {}
    for one in reversed(history):
        effect[one.id] = one.id not in without and not effect.get(one.reverted_by, False)
    return effect


def _last(of: Sequence[Past], effect: Mapping[str, bool]) -> Past | None:
    """Return the last change of a field that counts and is not there to take others of the field back."""
    negating = {one.reverted_by for one in of if one.reverted_by}
    return next((one for one in reversed(of) if effect[one.id] and one.id not in negating), None)


def _value(of: Sequence[Past], effect: Mapping[str, bool]) -> Any:
    """Return what the changes of a field that count make it."""
    last = _last(of, effect)
    return of[0].old if last is None else last.new

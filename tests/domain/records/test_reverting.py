"""Taking changes back: what a record would be without them, whatever else happened, and undoing that as well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.domain.records import changes
from core.domain.records.changes import Change
from core.domain.records.reverting import DELETED, Past, Way, plan


@dataclass
class Kept:
    """A record with its history, as the store keeps it."""

    fields: dict[str, Any] = field(default_factory=dict)
    history: list[Past] = field(default_factory=list)
    deleted: bool = False

    def edit(self, cause: str, **patch: Any) -> None:
        fields, made = changes.patched(self.fields, patch)
        self._note(cause, made)
        self.fields = fields

    def revert(self, *wanted: str, cause: str) -> Way:
        ids = {one.id for one in self.history if one.actor in wanted}
        way = plan(self.history, ids, self.fields, is_deleted=self.deleted)
        made: list[Change] = []
        if way.deleted is not None:
            made.append(Change(DELETED, None if way.deleted else True, True if way.deleted else None))
            self.deleted = way.deleted
        self.fields, patched = changes.patched(self.fields, way.patch)
        first = len(self.history)
        self._note(cause, [*made, *patched])
        by_field = {one.field: one.id for one in self.history[first:]}
        taken = {one: by_field.get(path, "") for path, some in way.taken_back.items() for one in some}
        self.history = [_marked(one, taken.get(one.id, one.reverted_by)) for one in self.history]
        return way

    def _note(self, cause: str, made: Any) -> None:
        for one in made:
            number = len(self.history) + 1
            first = cause == "made"
            self.history.append(Past(f"chg_{number}", "r", one.field, one.old, one.new, cause, number, first))


def _marked(one: Past, by: str) -> Past:
    return Past(one.id, one.record_id, one.field, one.old, one.new, one.actor, one.place, one.first, by)


_EDITS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", "z"]), st.none() | st.integers(0, 3)), max_size=12
)


@given(_EDITS, st.sampled_from("abc"))
def test_without_a_cause_a_record_is_what_the_others_made_it_where_nothing_conflicts(
    edits: list[tuple[str, str, int | None]], cause: str
) -> None:
    record = Kept()
    record.edit("made", x=9, y=9)
    for who, name, value in edits:
        record.edit(who, **{name: value})
    way = record.revert(cause, cause="undo")
    wanted = {"x": 9, "y": 9}
    for one in record.history:  # each change of the others sets what it set, whatever it was before
        if one.actor not in (cause, "undo"):
            wanted = changes.apply(wanted, [Change(one.field, None, one.new)])
    assert record.fields == wanted
    told = {stays.change.id for stays in way.stays}
    for one in record.history:
        if one.actor == cause and one.id in told:  # what stays told is what somebody changed since
            assert any(
                o.field == one.field and o.place > one.place and o.actor not in (cause, "undo") for o in record.history
            )


@given(_EDITS, st.sampled_from("abc"))
def test_an_undone_undo_brings_everything_back(edits: list[tuple[str, str, int | None]], cause: str) -> None:
    record = Kept()
    record.edit("made", x=9)
    for who, name, value in edits:
        record.edit(who, **{name: value})
    before = dict(record.fields)
    record.revert(cause, cause="undo")
    without = dict(record.fields)
    record.revert("undo", cause="redo")
    assert record.fields == before
    record.revert("redo", cause="undo again")
    assert record.fields == without
    again = record.revert("undo again", cause="redo again")
    assert record.fields == before
    assert not again.stays


def test_what_was_taken_back_is_not_taken_back_twice() -> None:
    record = Kept()
    record.edit("made", x=1)
    record.edit("a", x=2)
    record.revert("a", cause="undo")
    way = record.revert("a", cause="once more")
    assert [stays.reason for stays in way.stays] == ["ALREADY_REVERTED"]
    assert way.does_nothing


def test_what_somebody_changed_since_stays_and_says_who() -> None:
    record = Kept()
    record.edit("made", x=1, y=1)
    record.edit("a", x=2, y=2)
    record.edit("b", x=3)
    way = record.revert("a", cause="undo")
    assert [(stays.change.field, stays.reason, stays.now, stays.by) for stays in way.stays] == [
        ("x", "CHANGED_SINCE", 3, "b")
    ]
    assert record.fields == {"x": 3, "y": 1}


def test_a_record_goes_with_what_made_it_and_comes_back() -> None:
    record = Kept()
    record.edit("made", x=1)
    assert record.revert("made", cause="undo").deleted is True
    assert record.revert("undo", cause="redo").deleted is False
    record.edit("b", x=2)
    way = record.revert("made", cause="late")
    assert (way.deleted, [stays.reason for stays in way.stays]) == (None, ["CHANGED_SINCE"])


def test_a_plain_value_that_gave_way_to_an_object_comes_back() -> None:
    record = Kept()
    record.edit("made", **{"custom.a": "plain"})
    record.edit("a", **{"custom.a.b": 1})
    record.revert("a", cause="undo")
    assert record.fields == {"custom": {"a": "plain"}}


def test_merged_and_erased_records_are_left_as_they_are() -> None:
    for name, reason in (("merged_into", "RECORD_MERGED"), ("erased", "RECORD_ERASED")):
        record = Kept()
        record.edit("made", x=1)
        record.history.append(Past("chg_9", "r", name, None, "y", "a", 9))
        assert [stays.reason for stays in record.revert("a", cause="undo").stays] == [reason]

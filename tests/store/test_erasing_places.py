"""Every table says what it keeps of people, so that erasing somebody finds all of it."""

from __future__ import annotations

from core.store.erasing.erasing_places import NOTHING, PLACES
from core.store.metadata import metadata
from tests.databases import import_all_tables


def test_every_table_says_what_it_keeps_of_people_and_names_columns_that_it_has() -> None:
    import_all_tables()
    named = [place.table for place in PLACES]
    assert sorted([*named, *NOTHING]) == sorted(metadata.tables)
    for place in PLACES:
        columns = set(metadata.tables[place.table].c.keys())
        assert {*place.links, *place.blanks, *place.searched} <= columns, place.table

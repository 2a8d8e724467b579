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
        assert {*place.links, *place.blanks, *place.searched, *place.sliced} <= columns, place.table


def test_what_is_the_person_s_own_is_found_by_an_index_while_their_locks_are_held() -> None:
    import_all_tables()
    for place in PLACES:
        table = metadata.tables[place.table]
        whole = [one for one in table.indexes if one.dialect_options["sqlite"]["where"] is None]
        indexed = [[str(column.name) for column in one.columns] for one in (table.primary_key, *whole)]
        for link in place.links:
            wanted = {"org_id", *place.before, *place.only, link}  # each is named: their order means nothing
            assert wanted in [set(columns[: len(wanted)]) for columns in indexed], f"{place.table}.{link}"

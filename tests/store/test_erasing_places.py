"""Every table says what it keeps of people, so that erasing somebody finds all of it."""

from __future__ import annotations

import importlib
import pkgutil

import core.store
from core.store.erasing_places import NOTHING, PLACES
from core.store.metadata import metadata


def test_every_table_says_what_it_keeps_of_people_and_names_columns_that_it_has() -> None:
    for module in pkgutil.iter_modules(core.store.__path__):
        importlib.import_module(f"core.store.{module.name}")
    named = [place.table for place in PLACES]
    assert sorted([*named, *NOTHING]) == sorted(metadata.tables)
    for place in PLACES:
        columns = set(metadata.tables[place.table].c.keys())
        assert {*place.links, *place.blanks, *place.searched} <= columns, place.table

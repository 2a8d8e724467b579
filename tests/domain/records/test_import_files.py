"""Files are read, or refused with where and why; whatever bytes come, nothing else happens."""

from __future__ import annotations

import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import Invalid
from core.domain.records import import_files
from core.domain.records.import_columns import by_name, meanings
from core.domain.records.import_files import escaped, read_csv, read_json, read_ndjson, unescaped
from core.domain.records.standard import STANDARD_TYPES

CONTACT = next(one for one in STANDARD_TYPES if one.name == "contact").fields


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_table_is_read_whatever_separates_its_cells(delimiter: str, mark: bytes) -> None:
    text = (
        delimiter.join(("Email", "Last name", "Note")) + "\r\n" + delimiter.join(("a@x.de", "Lo", '"two\nlines, yes"'))
    )
    read = read_csv(mark + text.encode(), "contact")
    assert read.columns == ("Email", "Last name", "Note")
    assert [row.cells for row in read.rows] == [{"Email": "a@x.de", "Last name": "Lo", "Note": "two\nlines, yes"}]


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (b"", "NO_HEAD", "head"),
        (b"email\r\n", "EMPTY", "no rows"),
        ("email\nä@x.de".encode("latin-1"), "NOT_UTF8", "line 2"),
        ("email\na@x.de".encode("utf-16"), "NOT_UTF8", "UTF-16"),
        (b"email\na\0b", "NUL_CHARACTER", "line 2"),
        (b'email\n"a@x.de', "NOT_CSV", "line 2"),
        (b"email,email\na,b", "COLUMN_TWICE", "email"),
        (b"email,,name\na,b,c", "NO_HEAD", "column 2"),
        (b"email\n" + b"a\n" * 6, "TOO_MANY_ROWS", "more than 5"),
        (b"x" * (10 * 1024 * 1024 + 1), "TOO_LARGE", "bytes"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_what_is_wrong(
    content: bytes, reason: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_files, "MOST_ROWS", 5)
    with pytest.raises(Invalid) as refused:
        read_csv(content, "contact")
    assert refused.value.violations[0].reason == reason
    assert said in refused.value.violations[0].message


def test_a_row_with_more_cells_than_heads_is_bad_and_stops_no_other() -> None:
    read = read_csv(b"email\na@x.de,b\n\nc@x.de\n", "contact")
    assert [[fault.reason for fault in row.faults] for row in read.rows] == [["TOO_MANY_CELLS"], []]


@given(st.text(max_size=30))
def test_what_a_spreadsheet_takes_for_a_formula_is_marked_and_comes_back_the_same(text: str) -> None:
    shown = escaped(text)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescaped(shown) == text


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(content: bytes) -> None:
    for reader in (read_csv, read_json, read_ndjson):
        with suppress(Invalid):
            assert reader(content, "contact").rows


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=2, max_size=2),
        min_size=1,
        max_size=5,
    )
)
def test_every_cell_of_a_written_table_is_read(rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["one", "two"], *([escaped(cell) for cell in row] for row in rows)])
    wanted = [
        {name: cell for name, cell in zip(("one", "two"), row, strict=True) if escaped(cell).strip()}
        for row in rows
        if any(escaped(cell).strip() for cell in row)
    ]
    if wanted:
        assert [row.cells for row in read_csv(out.getvalue().encode(), "contact").rows] == wanted


def test_a_bundle_says_types_by_its_parts_and_keeps_ids_and_references() -> None:
    content = b"""{"version": 1, "exported_at": "x", "members": [{"id": "mem_1", "email": "m@x.de"}],
      "accounts": [{"public_id": "acct_1", "name": "Lo", "external_system": "old", "external_id": 7}],
      "contacts": [{"id": "cnt_1", "fields": {"email": "a@x.de"}, "external_refs": [{"system": "old", "id": "8"}]}]}"""
    read = read_json(content, "")
    assert [(row.record_type, row.record_id, row.cells, row.references) for row in read.rows] == [
        ("company", "acct_1", {"name": "Lo"}, [("old", "7")]),
        ("contact", "cnt_1", {"email": "a@x.de"}, [("old", "8")]),
    ]
    assert read.members == {"mem_1": "m@x.de"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"contcts": 1}', "UNKNOWN_PART"),
        (b'{"contacts": []}', "EMPTY"),
        (b'{"contacts": [], "contacts": []}', "NOT_JSON"),
        (b"[NaN]", "NOT_JSON"),
        (b"[" * 100_000, "NOT_JSON"),
        (b'"text"', "WRONG_TYPE"),
    ],
)
def test_json_that_is_no_bundle_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_json(content, "")
    assert refused.value.violations[0].reason == reason


def test_a_line_that_is_no_record_is_bad_alone() -> None:
    read = read_ndjson(b'{"email": "a@x.de"}\n{oops\n\n7\n', "contact")
    assert [[fault.reason for fault in row.faults] for row in read.rows] == [[], ["NOT_JSON"], ["WRONG_TYPE"]]


@pytest.mark.parametrize(
    ("head", "field"),
    [
        ("email", "email"),
        ("E-Mail Address", "email"),
        ("First Name", "first_name"),
        ("Company", "company_name"),
        ("custom.plan", "custom.plan"),
        ("ID", "id"),
        ("Shoe size", None),
    ],
)
def test_columns_are_known_by_their_names(head: str, field: str | None) -> None:
    assert by_name("contact", head, CONTACT) == field


def test_a_column_that_means_nothing_is_told_with_the_nearest_name() -> None:
    found, wrong = meanings("contact", ["e-mail", "frist_name", "Email 2"], {"Email 2": "email"}, CONTACT)
    assert found["e-mail"] == "email"
    assert {(one.field, one.reason) for one in wrong} == {
        ("columns.frist_name", "UNKNOWN_COLUMN"),
        ("columns.Email 2", "FIELD_TWICE"),
    }
    assert "first_name" in wrong[0].hint

"""The chain of the audit log: whatever is done to an export is found, and where."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.control import audit
from core.domain.control.audit import BEGINNING, Checker, Entry, Seal
from core.domain.control.digest import digest
from tests.databases import START

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def entry(number: int, summary: str = "update record", organization: str = "org_a") -> Entry:
    return Entry(
        organization_id=organization,
        id=f"aud_{number}",
        principal_id="key_1",
        principal_kind="agent",
        on_behalf_of="mem_7",
        method="RecordService.UpdateRecord",
        surface="mcp",
        request_id=f"call-{number}",
        subject_id="cnt_1",
        summary=summary,
        reason="",
        request_digest=digest(number),
        before_digest="",
        after_digest=digest(summary),
        created_at=START + timedelta(microseconds=number),
    )


def chain(summaries: list[str], after: Seal = BEGINNING) -> tuple[list[bytes], Seal]:
    lines = []
    for number, summary in enumerate(summaries, after.sequence + 1):
        one = entry(number, summary)
        sealed = audit.seal(one, after)
        lines.append(audit.line(one, sealed.sequence, after.hash, sealed.hash).encode() + b"\n")
        after = sealed
    return lines, after


def checked(lines: list[bytes], head: Seal | None = None, after: Seal | None = BEGINNING) -> Checker:
    checker = Checker(after=after, head=head)
    for raw in lines:
        checker.take(raw)
    checker.finish()
    return checker


def found(lines: list[bytes], head: Seal | None = None, after: Seal | None = BEGINNING) -> list[tuple[int, int, str]]:
    return [(fault.line, fault.sequence, fault.kind) for fault in checked(lines, head, after).faults]


@given(st.lists(WORDS, max_size=8))
def test_an_export_as_it_was_written_is_intact(summaries: list[str]) -> None:
    lines, head = chain(summaries)
    checker = checked(lines, head)
    assert (checker.faults, checker.count, checker.last or BEGINNING) == ([], len(summaries), head)


@given(st.lists(WORDS, min_size=1, max_size=5), st.data())
def test_any_byte_that_is_changed_added_or_removed_is_found(summaries: list[str], data: st.DataObject) -> None:
    lines, head = chain(summaries)
    whole = b"".join(lines)
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["change", "add", "remove"]))
    byte = bytes([data.draw(st.integers(0, 255))])
    changed = whole[:at] + (b"" if kind == "remove" else byte) + whole[at + (kind != "add") :]
    if changed != whole:
        assert checked(changed.splitlines(keepends=True), head).faults


@given(st.integers(3, 7), st.data())
def test_any_line_that_is_removed_repeated_or_moved_is_found(count: int, data: st.DataObject) -> None:
    lines, head = chain(["update record"] * count)
    at = data.draw(st.integers(0, count - 1))
    to = data.draw(st.integers(0, count - 1))
    kind = data.draw(st.sampled_from(["remove", "repeat", "swap"]))
    changed = list(lines)
    if kind == "remove":
        del changed[at]
    elif kind == "repeat":
        changed.insert(to, lines[at])
    else:
        changed[at], changed[to] = changed[to], changed[at]
    if changed != lines:
        assert checked(changed, head).faults


@given(st.integers(2, 6), st.data())
def test_a_log_written_anew_from_some_entry_on_is_found_by_its_head(count: int, data: st.DataObject) -> None:
    summaries = [f"update record {number}" for number in range(count)]
    _, head = chain(summaries)
    at = data.draw(st.integers(0, count - 1))
    forged, _ = chain([*summaries[:at], "nothing happened", *summaries[at + 1 :]])
    assert found(forged, head) == [(count, count, "not_the_head")]
    assert found(forged) == []  # nothing in the file alone tells


LINES, HEAD = chain(["create record", "update record", "delete record", "restore record"])
ANEW, _ = chain(["create record", "update another record"])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([LINES[0], LINES[2], LINES[3]], [(2, 3, "missing")]),
        ([LINES[0], LINES[3]], [(2, 4, "missing")]),
        (LINES[1:], [(1, 2, "missing")]),
        (LINES[:3], [(0, 3, "cut_off")]),
        ([], [(0, 0, "cut_off")]),
        ([*LINES[:3], LINES[1], LINES[3]], [(4, 2, "out_of_order")]),
        ([LINES[0], LINES[1].replace(b"update", b"delete"), *LINES[2:]], [(2, 2, "changed")]),
        ([LINES[0], ANEW[1], *LINES[2:]], [(3, 3, "not_linked")]),
        ([*LINES[:3], LINES[3].rstrip(b"\n")], [(4, 0, "unreadable"), (0, 3, "cut_off")]),
        ([LINES[0], LINES[1].replace(b'":', b'": ', 1), *LINES[2:]], [(2, 0, "unreadable"), (3, 3, "missing")]),
        ([b"\n", *LINES], [(1, 0, "unreadable")]),
        ([b'{"hash": 1}\n', *LINES], [(1, 0, "unreadable")]),
        ([b"[" * 100_000 + b"\n", *LINES], [(1, 0, "unreadable")]),
    ],
)
def test_a_fault_says_on_which_line_and_what(lines: list[bytes], expected: list[tuple[int, int, str]]) -> None:
    assert found(lines, HEAD) == expected


def test_another_organizations_lines_do_not_fit_in() -> None:
    stranger = entry(2, organization="org_b")
    sealed = audit.seal(stranger, audit.parse_seal(f"1:{audit.seal(entry(1, 'create record'), BEGINNING).hash}"))
    first = audit.seal(entry(1, "create record"), BEGINNING)
    line = audit.line(stranger, 2, first.hash, sealed.hash).encode() + b"\n"
    assert found([LINES[0], line]) == [(2, 2, "other_organization")]


def test_what_is_left_after_retention_is_checked_from_where_it_goes_on() -> None:
    kept, head = chain(["update record"] * 2, HEAD)
    assert found(kept, head, HEAD) == []
    believing = checked(kept, head, None)
    assert (believing.faults, believing.believed) == ([], HEAD)
    assert found(kept, head, Seal(4, digest("another"))) == [(1, 5, "not_linked")]
    assert found(kept, HEAD, Seal(5, "")) == [(1, 5, "out_of_order"), (0, 4, "not_the_head")]


@pytest.mark.parametrize("text", ["", "12", "12:abc", "x:sha256:" + "0" * 64, "-1:sha256:" + "0" * 64])
def test_a_head_is_a_sequence_and_a_hash(text: str) -> None:
    with pytest.raises(ValueError, match="not a sequence and a hash"):
        audit.parse_seal(text)


def test_a_head_reads_as_it_is_written() -> None:
    assert audit.parse_seal(f" {HEAD}\n") == HEAD


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [("mem_01k", "mem_01k"), ("", ""), ("user:42", "user:42"), (" story-1 ", "story-1")],
)
def test_plain_ids_are_kept_as_they_are(given_id: str, kept: str) -> None:
    assert audit.as_id(given_id) == kept


@pytest.mark.parametrize("personal", ["ada@example.com", "Ada Lovelace", "x" * 129, "Zoë"])
def test_what_may_name_a_person_becomes_a_digest(personal: str) -> None:
    assert audit.as_id(personal) == digest(personal)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("asked by\n ada@example.com today", "asked by [address] today"),
        ("called +49 30 1234-567 twice", "called [number] twice"),
        ("ticket 4711 of 2026", "ticket 4711 of 2026"),
        ("x" * 900, "x" * 500),
    ],
)
def test_reasons_are_one_short_line_without_addresses_and_numbers(said: str, kept: str) -> None:
    assert audit.told_reason(said) == kept

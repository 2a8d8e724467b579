"""`dripstone audit` as an auditor uses it: out of a running core once, then on files alone."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.commands.audit import audit
from core.domain.control.audit import BEGINNING, Entry, Seal, line, seal
from tests.databases import START


def _ran(*arguments: str) -> Result:
    return CliRunner().invoke(audit, list(arguments))


def _export(path: Path, count: int = 4) -> tuple[list[bytes], Seal]:
    """Write an export of so many entries and return its lines and head."""
    lines, last = [], BEGINNING
    for number in range(1, count + 1):
        texts = ("org_a", f"aud_{number}", "key_1", "agent", "", "RecordService.UpdateRecord", "grpc", f"call-{number}")
        entry = Entry(*texts, "cnt_1", "update record cnt_1", "", "", "", "", START + timedelta(seconds=number))
        sealed = seal(entry, last)
        lines.append(line(entry, sealed.sequence, last.hash, sealed.hash).encode() + b"\n")
        last = sealed
    path.write_bytes(b"".join(lines))
    return lines, last


def test_a_file_as_it_was_exported_is_intact(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    _, head = _export(path)
    result = _ran("verify", str(path), "--head", str(head), "--after", "0")
    assert (result.exit_code, "Intact" in result.output, "!" in result.output) == (0, True, False)
    told = json.loads(_ran("verify", str(path), "--json").output)
    assert told == {
        "intact": True,
        "lines": 4,
        "after": "0:",
        "last": str(head),
        "head_checked": False,
        "faults": [],
    }


def test_without_a_head_it_says_what_cannot_be_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines, _ = _export(path)
    path.write_bytes(b"".join(lines[1:3]))
    result = _ran("verify", str(path))
    assert result.exit_code == 0
    assert "begins after entry 1:sha256:" in result.output
    assert "No --head was given" in result.output


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda lines: [lines[0], lines[1].replace(b"update", b"delete"), *lines[2:]],
            ("line 2", "entry 2 is not what"),
        ),
        (lambda lines: [lines[0], *lines[2:]], ("line 2", "entry 2 is missing")),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], ("line 3", "put in, repeated or moved")),
        (lambda lines: lines[:3], ("at the end", "the end is missing")),
    ],
)
def test_what_was_done_to_a_file_is_told_with_its_line(
    tmp_path: Path, change: object, expected: tuple[str, str]
) -> None:
    path = tmp_path / "audit.jsonl"
    lines, head = _export(path)
    path.write_bytes(b"".join(change(lines)))  # type: ignore[operator]
    result = _ran("verify", str(path), "--head", str(head), "--after", "0")
    assert result.exit_code == 1
    assert "Not intact" in result.output
    assert all(part in result.output for part in expected)
    assert json.loads(_ran("verify", str(path), "--head", str(head), "--json").output)["intact"] is False


@pytest.mark.parametrize("head", ["12", "12:abc", ""])
def test_a_head_that_is_none_is_refused(tmp_path: Path, head: str) -> None:
    path = tmp_path / "audit.jsonl"
    _export(path)
    result = _ran("verify", str(path), "--head", head)
    assert (result.exit_code, "not a sequence and a hash" in result.output) == (2, True)

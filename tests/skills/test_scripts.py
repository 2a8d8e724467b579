"""The scripts of the pack need nothing but Python, answer in JSON, and agree with the core about time."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from argparse import Namespace
from datetime import UTC, datetime, time, timedelta
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow.cron import Cron
from core.domain.workflow.quiet_hours import QuietHours, quiet_until
from core.domain.workflow.zones import zone_of
from tests.skills import written

SCRIPTS = written.FOLDER / "dripstone" / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"skill_script_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK_CSV, PLAN_DIFF, TIMES = script("check_csv"), script("plan_diff"), script("times")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_a_script_imports_the_standard_library_alone_and_has_help(
    path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = ast.parse(path.read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert imported <= sys.stdlib_module_names
    assert not imported & {"socket", "http", "urllib", "subprocess", "os", "shutil"}
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        script(path.stem).main()
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


CRONS = [
    ("0 9 * * mon", "2026-03-02T08:00:00+00:00"),
    ("30 2 * * *", "2026-03-28T12:00:00+00:00"),
    ("30 2 * * *", "2026-10-24T12:00:00+00:00"),
    ("*/15 * * * *", "2026-03-29T00:40:00+00:00"),
    ("*/15 * * * *", "2026-10-25T00:10:00+00:00"),
    ("0 0 31 * *", "2026-01-31T00:00:00+00:00"),
    ("0 12 13 * fri", "2026-02-01T00:00:00+00:00"),
    ("0 8,17 1-7 jan-mar 1", "2026-12-30T00:00:00+00:00"),
    ("@monthly", "2026-02-14T00:00:00+00:00"),
    ("0 0 29 2 *", "2026-03-01T00:00:00+00:00"),
]


@pytest.mark.parametrize(("text", "start"), CRONS)
def test_schedules_come_round_as_the_core_has_them(text: str, start: str) -> None:
    at = datetime.fromisoformat(start)
    told = TIMES.coming(TIMES.Schedule(text), BERLIN, at, 6)
    zone = zone_of("Europe/Berlin", "", "")
    expected = []
    for _ in range(6):
        at = Cron(text, zone).next_after(at)
        expected.append(at)
    assert told == expected


@given(
    st.integers(0, 4 * 24 * 60).map(lambda minutes: datetime(2026, 3, 27, tzinfo=UTC) + timedelta(minutes=minutes)),
    st.times().map(lambda at: at.replace(second=0, microsecond=0, fold=0)),
    st.times().map(lambda at: at.replace(second=0, microsecond=0, fold=0)),
)
def test_quiet_hours_end_as_the_core_has_them(at: datetime, start: time, end: time) -> None:
    out = TIMES.let_out(f"{start:%H:%M}-{end:%H:%M}", BERLIN, at)
    if start != end:
        assert out == (quiet_until(QuietHours(start, end), at, zone_of("Europe/Berlin", "", "")) or at)


BAD_TIMES = [
    ({"cron": "9 * *"}, "five"),
    ({"cron": "0 25 * * *"}, "is no hour"),
    ({"cron": "0 0 31 2 *"}, "never comes"),
    ({"cron": "0 0 * * *", "zone": "Europe/Berlln"}, "is no zone"),
    ({"cron": "0 0 * * *", "start": "soon"}, "is not ISO 8601"),
    ({"quiet": "20-8"}, "is not like"),
]


@pytest.mark.parametrize(("asked", "says"), BAD_TIMES)
def test_what_is_not_understood_is_told(asked: dict[str, str], says: str) -> None:
    plain = {"cron": "", "quiet": "", "zone": "UTC", "start": "", "count": 3}
    with pytest.raises(TIMES.NotUnderstood, match=says):
        TIMES.answer(Namespace(**plain | asked))


def test_a_list_is_checked_row_by_row() -> None:
    found = CHECK_CSV.check(
        "E-Mail;First Name;Shoe size\nada@example.com;Ada;38\n\nADA@example.com;A.;38\nnobody;;\n;Bo;\ncy@example.com\n"
    )
    assert found["contacts"] == [{"email": "ada@example.com", "first_name": "Ada"}]
    assert [(one["line"], one["reason"]) for one in found["problems"]] == [
        (5, "NOT_AN_ADDRESS"),
        (6, "NO_IDENTITY"),
        (7, "WRONG_LENGTH"),
    ]
    assert found["duplicates"] == [{"line": 4, "same_as_line": 2}]
    assert found["unknown_columns"] == ["Shoe size"]


def test_a_list_that_is_too_long_or_names_nobody_is_no_list() -> None:
    long = CHECK_CSV.check("email\n" + "".join(f"c{n}@example.com\n" for n in range(5)), most=3)
    assert [one["reason"] for one in long["problems"]] == ["TOO_MANY_ROWS"]
    assert len(long["contacts"]) == 3
    assert {one["reason"] for one in CHECK_CSV.check("name,town\nAda,Rome\n")["problems"]} == {"NO_IDENTITY"}
    assert CHECK_CSV.check("")["ok"] is False


def test_the_contacts_of_a_list_are_what_enroll_takes() -> None:
    made = CHECK_CSV.check("email,firstname,company,time zone\na@example.com,Ada,Acme,Europe/Berlin\n")["contacts"]
    schema = written.taken("enroll")["$defs"]["Contact"]["properties"]
    assert made[0].keys() <= schema.keys()
    assert set(CHECK_CSV.KNOWN) <= schema.keys()


def test_two_previews_differ_where_what_they_would_do_differs() -> None:
    before = {"score": 60, "plan_id": "pln_1", "changes": [{"record_id": "lead_1", "field": "tier", "new": "B"}]}
    same = {**before, "plan_id": "pln_2", "next": "x"}
    assert PLAN_DIFF.differences(before, same) == []
    after = {
        "score": 70,
        "changes": [
            {"record_id": "cnt_1", "field": "phone", "new": "1"},
            {"record_id": "lead_1", "field": "tier", "new": "A"},
        ],
    }
    assert {(one["path"], json.dumps(one["after"])) for one in PLAN_DIFF.differences(before, after)} == {
        ("score", "70"),
        ("changes[lead_1 tier].new", '"A"'),
        ("changes[cnt_1 phone]", json.dumps(after["changes"][0])),  # type: ignore[index]
    }
    assert PLAN_DIFF.differences([1, True], [1, 1]) == [{"path": "[1]", "before": True, "after": 1}]

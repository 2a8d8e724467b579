"""`dripstone simulate` as a person meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.commands.simulate import simulate
from tests.simulation.cases import NURTURE

START = "2026-03-02T09:00:00Z"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nurture.yaml").write_text(NURTURE)
    (tmp_path / "other.yaml").write_text(NURTURE.replace("timeout: 5d", "timeout: 60d"))
    (tmp_path / "people.csv").write_text(
        "email,employees,custom.seats,lead.score,lists\n"
        "ada@example.com,40,3,70,club\nbob@example.com,3,,10,\ncleo@example.com,20,007,50,\n"
    )
    (tmp_path / "events.csv").write_text("event,contact,at,fields.channel\nreply.received,cleo@example.com,3d,dm\n")
    return tmp_path


def _simulate(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, [*arguments, "--start", START], env={"COLUMNS": "120"})


def test_without_contacts_it_makes_some_up(folder: Path) -> None:
    result = _simulate("nurture.yaml", "--sample", "50", "--seed", "4")
    assert result.exit_code == 0, result.output
    assert "Nurture: 50 contacts over 90 days from 2026-03-02 09:00 UTC" in result.output
    assert "UNSUBSCRIBED" in result.output or "ENTRY_CONDITION" in result.output
    assert _simulate("nurture.yaml", "--sample", "50", "--seed", "4").output == result.output


def test_contacts_and_events_come_from_files(folder: Path) -> None:
    result = _simulate("nurture.yaml", "--contacts", "people.csv", "--events", "events.csv", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert [one["contact"] for one in data["exclusions"][0]["contacts"] and data["journeys"]] == [
        "ada@example.com", "bob@example.com", "cleo@example.com",
    ]  # fmt: skip
    assert [one["turns"][-4][1] if one["turns"] else one["state"] for one in data["journeys"]] == [
        "next",
        "excluded",
        "next",
    ]
    assert {step["step_id"]: step["exits"] for step in data["funnel"]}["reply"] == {"matched": 1, "timeout": 1}


def test_tables_show_timelines_messages_and_the_other_version(folder: Path) -> None:
    result = _simulate(
        "nurture.yaml", "--contacts", "people.csv", "--against", "other.yaml", "--timelines", "1", "--horizon", "20d"
    )
    assert result.exit_code == 0, result.output
    for shown in (
        "Funnel", "Kept out", "Messages by day", "Tue 2026-03-03", "ada@example.com: completed",
        "Against other.yaml: 2 of 3 contacts go another way.", "reply: timeout", "active at reply",
    ):  # fmt: skip
        assert shown in result.output, shown


def test_refused_reentries_have_a_table_of_their_own(folder: Path) -> None:
    once = "- {{event: trial.started, at: {}, fields: {{plan: pro}}}}\n"
    (folder / "twice.yaml").write_text(once.format("+1h") + once.format("+9d"))
    arguments = ["nurture.yaml", "--contacts", "people.csv", "--events", "twice.yaml"]
    output = _simulate(*arguments).output
    never, again = output.index("Kept out: never entered"), output.index("Entered, but refused at a re-entry")
    assert never < output.index("ENTRY_CONDITION") < again < output.index("REENTRY_ONCE")
    data = json.loads(_simulate(*arguments, "--json").stdout)
    assert [(one["reason"], one["count"]) for one in data["exclusions"]] == [("ENTRY_CONDITION", 1)]
    assert [(one["reason"], one["count"]) for one in data["refused_reentries"]] == [("REENTRY_ONCE", 2)]


def test_where_nothing_starts_the_workflow_it_says_what_would(folder: Path) -> None:
    output = " ".join(_simulate("nurture.yaml", "--contacts", "people.csv", "--entering", "triggers").output.split())
    for told in ("NO_TRIGGER", "It starts when trial.started comes in", "--contacts", "--events", "--entering start"):
        assert told in output, told


def test_what_is_wrong_with_a_document_is_told_with_the_way_out(folder: Path) -> None:
    (folder / "bad.yaml").write_text("steps:\n  - {id: hello, kind: mesage}\n  - {id: pause, kind: wait, for: soon}\n")
    result = _simulate("bad.yaml")
    assert result.exit_code == 1
    assert "bad.yaml:2: steps[0].kind: there is no step kind mesage" in result.stderr
    assert "Did you mean message?" in result.stderr
    assert "2 problems; nothing was simulated." in result.stderr
    told = json.loads(_simulate("bad.yaml", "--json").stdout)["problems"]
    assert [(one["field"], one["reason"]) for one in told] == [
        ("bad.yaml:2: steps[0].kind", "UNKNOWN_KIND"), ("bad.yaml:3: steps[1].for", "NOT_A_DURATION"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--assume", "aprovals: reject"], "Did you mean approvals?"),
        (["--assume", "steps: {helo: sent}"], "Did you mean hello?"),
        (["--assume", "{"], "this is not YAML"),
        (["--events", "people.csv"], "an event has no email"),
        (["--contacts", "events.csv"], "contacts[0].event: a contact has no field"),
    ],
)
def test_what_is_wrong_with_the_rest_is_told_as_well(folder: Path, arguments: list[str], told: str) -> None:
    result = _simulate("nurture.yaml", *arguments)
    assert result.exit_code == 1
    assert told in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--horizon", "long"], ["--horizon", "9999d"], ["--plot", "x.gif"], ["--start", "x"]]
)
def test_an_option_that_makes_no_sense_is_a_usage_error(folder: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(simulate, ["nurture.yaml", *arguments]).exit_code == 2


def test_assumptions_may_come_as_text_or_as_files(folder: Path) -> None:
    (folder / "assumed.yaml").write_text("events: [{event: plan.bought, share: 100%, after: 2d}]\n")
    arguments = ["nurture.yaml", "--contacts", "people.csv", "--assume", "assumed.yaml", "--assume", "messages: failed"]
    data = json.loads(_simulate(*arguments, "--json").stdout)
    assert data["goals"] == {"bought": 2}


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_plot_is_drawn(folder: Path, suffix: str) -> None:
    result = _simulate("nurture.yaml", "--sample", "20", "--plot", f"out.{suffix}")
    assert result.exit_code == 0, result.output
    drawn = (folder / f"out.{suffix}").read_bytes()
    assert drawn.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    if suffix == "svg":
        assert b"reply" in drawn or len(drawn) > 10_000


def test_without_matplotlib_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = _simulate("nurture.yaml", "--sample", "5", "--plot", "out.svg")
    assert result.exit_code == 1
    assert "pip install 'dripstone[plot]'" in result.stderr
    assert not (folder / "out.svg").exists()

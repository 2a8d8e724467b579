"""What the commands say to somebody who has slipped: which file, what is wrong, the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.__main__ import main

SIMPLE = "steps:\n  - {id: pause, kind: wait, for: 2d}\n"
KEYED = "triggers: [{event: order.placed}]\nreentry: concurrent_by_key\nkey: event.fields.order_id\n" + SIMPLE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIPSTONE_DATA_DIR", str(tmp_path / "nothing"))
    for name in ("DRIPSTONE_TARGET", "DRIPSTONE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, text in {
        "care.yaml": SIMPLE,
        "keyed.yaml": KEYED,
        "twice.csv": "email\nada@example.com\nada@example.com\n",
        "events.yaml": "# what happens\n\n- {event: deal.won, afer: 2d}\n",
        "torn.yaml": "# what happens\n- {event: [}\n",
        "good.yaml": "# what happens\n- {event: deal.won, after: 2d}\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    return tmp_path


def _ran(arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments.split(), input=text)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("simulate care.yaml --contacts twice.csv", "twice.csv: contacts[1]: contacts[0] is the same contact"),
        ("simulate care.yaml --events events.yaml", "events.yaml: events[0].afer: an event has no afer"),
        ("simulate care.yaml --events torn.yaml", "torn.yaml: line 2, column 12: this is not YAML"),
        ("simulate binary.yaml", "binary.yaml: this is not UTF-8 text"),
        ("simulate care.yaml --assume nowhere.yaml", "there is no file nowhere.yaml"),
        ("workflow validate --server care.yaml", 'eval "$(dripstone env --data-dir DIR)"'),
        ("workflow diff care.yaml nowhere.yaml", "No core found"),
    ],
)
def test_a_slip_is_told_with_its_file_and_the_way_out(folder: Path, arguments: str, told: str) -> None:
    result = _ran(arguments)
    assert (result.exit_code, told in result.output) == (1, True), result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("workflow new", "Say which template: cold-dm, email-warmup"),
        ("workflow publish -", "say --yes"),
        ("workflow publish --yes -", "Standard input has no name"),
    ],
)
def test_what_is_left_unsaid_is_asked_for(folder: Path, arguments: str, told: str) -> None:
    result = _ran(arguments, SIMPLE)
    assert (result.exit_code, told in result.output) == (2, True), result.output


def test_a_list_of_events_may_begin_with_a_comment(folder: Path) -> None:
    assert _ran("simulate care.yaml --sample 3 --events good.yaml").exit_code == 0


def test_where_nobody_enters_the_ways_in_are_told(folder: Path) -> None:
    result = _ran("simulate keyed.yaml --sample 3")
    assert result.exit_code == 0
    assert "It starts when order.placed comes in." in result.output


def test_a_plot_that_cannot_be_drawn_costs_nobody_the_tables(folder: Path) -> None:
    result = _ran("simulate care.yaml --sample 3 --plot nowhere/out.svg")
    assert result.exit_code == 1
    assert "Funnel" in result.stdout
    assert "nowhere/out.svg: No such file or directory" in result.stderr

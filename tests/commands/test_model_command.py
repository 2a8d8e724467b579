"""`dripstone model` as authors use it on files alone; docs/qualification.md is carried out against a core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from core.commands import model_plot
from core.commands.model import model
from core.domain.qualification.schema import document_schema

GOOD = """title: T
qualified_at: 10
tiers: [{name: A, from: 10}, {name: B, from: 0}]
fit:
  rules:
    - {id: size, when: contact.employees >= 50, points: 20}
"""


def _ran(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(model, list(arguments), input=text)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_sound_file_is_said_to_be_valid(files: Any) -> None:
    result = _ran("lint", files("a.yaml", GOOD))
    assert (result.exit_code, result.output.endswith("a.yaml: valid\n")) == (0, True)


def test_problems_come_with_their_lines_and_end_with_one(files: Any) -> None:
    bad = GOOD.replace("title:", "titel:").replace("employees", "emplyees")
    result = _ran("lint", files("good.yaml", GOOD), files("bad.yaml", bad))
    assert result.exit_code == 1
    assert "bad.yaml: 3 problems" in result.output
    rows = [line.split() for line in result.output.splitlines()]
    places = [[row[0].rpartition(":")[2], row[1]] for row in rows if row and row[0].rpartition(":")[2].isdigit()]
    assert places == [["1", "titel"], ["6", "fit.rules[0].when"]]
    assert "bad.yaml:6 " in result.output
    assert "Did you mean contact.employees?" in result.output


def test_doubts_end_with_one_only_where_that_is_asked_for(files: Any) -> None:
    path = files("a.yaml", GOOD.replace("fit:", "fit:\n  cap: 90"))
    result = _ran("lint", path)
    assert (result.exit_code, "a.yaml: valid, 1 doubt" in result.output) == (0, True)
    assert _ran("lint", "--strict", path).exit_code == 1


def test_problems_can_be_had_as_json() -> None:
    result = _ran("lint", "--json", "-", text=GOOD.replace("points: 20", "points: 5"))
    ((told,), code) = json.loads(result.output), result.exit_code
    assert (code, told["valid"], [(one["path"], one["line"]) for one in told["problems"]]) == (
        1,
        False,
        [("qualified_at", 2)],
    )


def test_templates_are_listed_and_copied(tmp_path: Path) -> None:
    assert [one["id"] for one in json.loads(_ran("templates", "--json").output)] == [
        "b2b-inbound",
        "event-follow-up",
        "product-led",
    ]
    out = tmp_path / "mine.yaml"
    assert "dripstone model lint" in _ran("new", "product-led", "--out", str(out)).output
    assert _ran("lint", "--strict", str(out)).exit_code == 0
    assert "Did you mean product-led?" in _ran("new", "produkt-led").output


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    assert json.loads(_ran("schema").output) == document_schema()
    out = tmp_path / "model.schema.json"
    assert _ran("schema", "--out", str(out)).exit_code == 0
    assert json.loads(out.read_text()) == document_schema()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lint", "nowhere.yaml"), "nowhere.yaml: No such file or directory"),
        (("publish", "-"), "add --id"),
        (("backtest", "a.yaml", "--outcome", "status", "--plot", "a.bmp"), ".svg, .png, .pdf"),
        (("backtest", "a.yaml", "--outcome", "status", "--lead-time", "soon"), "not a length of time"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    result = _ran(*arguments, text=GOOD)
    assert result.exit_code != 0
    assert said in result.output


RESULT = {
    "lead_count": 3,
    "positive_count": 1,
    "left_out_count": 0,
    "score_buckets": [{"from_score": 0, "to_score": 9, "count": 3, "positive_count": 1}],
    "calibration_rows": [
        {"tier": "A", "count": 0, "positive_count": 0, "rate": 0.0, "low": 0.0, "high": 1.0},
        {"tier": "", "count": 3, "positive_count": 1, "rate": 1 / 3, "low": 0.06, "high": 0.79},
    ],
}


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_result_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plot{suffix}"
    model_plot.plot(RESULT, path, "T")
    assert path.stat().st_size > 1_000

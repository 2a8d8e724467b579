"""The bench itself works: a tiny run measures everything it promises, on both databases, and can be written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import document
from tests.bench.figures import Aim, Figure, Report

_ROOT = Path(__file__).parents[2]
_ENGINE = (
    "steps",
    "steps, 300 asleep",
    "row writes",
    "CPU of the engine's process",
    "loop lag p99, engine busy",
    "memory of the process, 300 asleep",
    "a sleeper's row and its indexes",
)
_WEBHOOKS = (
    "deliveries, plain, a second of CPU",
    "deliveries, plain, a second",
    "deliveries, over TLS, a second of CPU",
    "deliveries, over TLS, a second",
    "commit to first attempt, p50",
    "commit to first attempt, p99",
    "healthy endpoints beside 30 % bad ones, first attempt p50",
    "healthy endpoints beside 30 % bad ones, first attempt p99",
)
_BOTH = [("sqlite", "SQLite"), ("postgresql", "PostgreSQL")]
_ALONE = {"SQLite": ["row writes, against 4,096 rows a transaction"], "PostgreSQL": ["write-ahead log"]}
"""What is measured on one of the two alone."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that is not pytest's own: a later session may sweep that away while this one runs."""
    with tempfile.TemporaryDirectory(prefix="dripstone-bench-test-") as made:
        yield Path(made)


def _run(folder: Path, database: str, *parts: str) -> dict[str, Any]:
    """Run parts of the bench in tiny form and return the report, of which everything was measured."""
    command = [sys.executable, "-m", "tests.bench", *parts, "--database", database, "--quick", "--json"]
    path = os.pathsep.join([str(_ROOT), str(_ROOT / "proto" / "gen")])
    ran = subprocess.run(
        [*command, "--sleepers", "300", "--seconds", "0.4", "--folder", str(folder)],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    report: dict[str, Any] = json.loads(ran.stdout)
    assert report["left_out"] == []
    for figure in report["figures"]:
        assert figure["value"] > 0, figure
        assert not figure["against"] or figure["ratio"] > 0, figure
    assert not list(folder.iterdir()), "it leaves nothing behind"
    return report


@pytest.mark.parametrize(("database", "label"), _BOTH[:1])
def test_a_tiny_run_of_the_engine_measures_everything(folder: Path, database: str, label: str) -> None:
    report = _run(folder, database, "engine", "simulation")
    assert {"date", "command", "processor", "databases in", label} <= report["machine"].keys()
    found = {(figure["database"], figure["what"]) for figure in report["figures"] if figure["part"] == "engine"}
    assert found == {(label, what) for what in (*_ENGINE, *_ALONE[label])}
    tried = [figure["what"] for figure in report["figures"] if figure["part"] == "simulation"]
    assert len(tried) == 3
    assert all("on 200 contacts for 90 days" in what for what in tried)


@pytest.mark.parametrize(("database", "label"), _BOTH[1:])
def test_a_tiny_run_of_webhooks_measures_everything_and_misses_no_message(
    folder: Path, database: str, label: str
) -> None:
    report = _run(folder, database, "webhooks", "endpoints")
    figures = [figure for figure in report["figures"] if figure["part"] in ("webhooks", "endpoints")]
    assert {(figure["database"], figure["what"]) for figure in figures} == {(label, what) for what in _WEBHOOKS}
    notes = {figure["note"] for figure in figures if figure["part"] == "endpoints"}
    assert notes == {"0 missing"}


@pytest.mark.parametrize(
    ("aim", "ratio", "value", "met"),
    [
        (Aim("ratio", ">=", 0.5), 0.5, 0, True),
        (Aim("ratio", ">=", 0.5), 0.4, 9, False),
        (Aim("value", "<=", 5), 9, 5, True),
        (Aim("value", "<=", 5), 0, 6, False),
    ],
)
def test_an_aim_is_met_by_the_ratio_or_by_the_value(aim: Aim, ratio: float, value: float, met: bool) -> None:
    assert aim.met_by(ratio, value) is met


def test_the_page_says_where_each_figure_comes_from_and_how_to_repeat_it() -> None:
    report = Report(
        {"date": "2026-03-02", "command": "make bench ARGS=all"},
        [
            Figure("floors", "commits of one row", "SQLite", 900, "/s"),
            Figure(
                "engine", "row writes", "SQLite", 20_000, "rows/s", "rows/s of plain inserts", 200_000,
                Aim("ratio", ">=", 0.08), (19_000, 20_000, 21_000),
            ),
            Figure("simulation", "cold-dm", "", 0.5, "s of CPU", aim=Aim("value", "<=", 10)),
        ],
        ["peers: their environment is not there"],
    )  # fmt: skip
    page = document.page(report, plotted=False)
    assert "| date | 2026-03-02 |" in page
    assert "| commits of one row | SQLite | 900 /s |" in page
    assert (
        "| row writes | SQLite | 20,000 rows/s (19,000 to 21,000) | 200,000 rows/s of plain inserts | 0.10 "
        "| >= 0.08: met |" in page
    )
    assert "| cold-dm |  | 0.50 s of CPU |  |  | <= 10.0 s of CPU: met |" in page
    assert "- peers: their environment is not there" in page
    assert "make bench-peers" in page

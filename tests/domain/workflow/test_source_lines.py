"""A problem's path leads to the line on which authors find it."""

from __future__ import annotations

import pytest

from core.domain.workflow.source_lines import SourceLines

TEXT = """title: Care
goals:
  - {name: won, event: a}
  - name: lost
    event: b
steps:
  - id: set_plan
    kind: update
    set:
      custom.plan: {cel: vars.plan}
      custom.plan.name: x
    next: nowhere
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("title", 1),
        ("goals", 2),
        ("goals[0].event", 3),
        ("goals[1]", 4),
        ("goals[1].event", 5),
        ("goals[7].event", 2),
        ("steps[0].kind", 8),
        ("steps[0].set.custom.plan", 10),
        ("steps[0].set.custom.plan.cel", 10),
        ("steps[0].set.custom.plan.name", 11),
        ("steps[0].for", 7),
        ("steps[0].exits.next", 12),
        ("nowhere", 0),
        ("", 0),
    ],
)
def test_a_path_has_its_line(path: str, line: int) -> None:
    assert SourceLines(TEXT).line(path) == line


def test_a_path_has_its_column_too() -> None:
    assert SourceLines(TEXT).place("goals[0].event") == (3, 17)
    assert SourceLines("a: [").place("source", "line 7, column 2: this is not YAML") == (7, 2)


def test_json_has_lines_too() -> None:
    assert SourceLines('{"title": "x",\n "steps": [\n  {"id": "a"}]}').line("steps[0].kind") == 3


@pytest.mark.parametrize("text", ["", "a: [", "- a", "\0", "{" * 50])
def test_what_cannot_be_read_has_no_lines(text: str) -> None:
    assert SourceLines(text).line("steps[0].kind") == 0
    assert SourceLines(text).line("source", "line 7, column 2: this is not YAML") == 7

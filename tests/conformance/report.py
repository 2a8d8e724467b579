"""The report as docs/conformance.md shows it: one table of what was run, then each scenario."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from tests.conformance.results import Leg

_PARAGRAPHS = (
    "# Conformance",
    """What others' checks say about the MCP server ([mcp.md](mcp.md)). `make conformance` installs them, runs them on
    this machine and writes this page; nothing here is written by hand.""",
    """The suite calls tools, resources and prompts by names of its own, which no product has. They are served as
    fixtures (`tests/conformance/`), behind the product's endpoint: the same transport, admission, extensions and keys,
    and its tools beside them. What needs no fixture is run against the product itself, too. `/mcp` answers with plain
    JSON, `/mcp/interactive` with streams: only there can a call tell its progress, or ask a client of
    the older revision.""",
)
_PACKAGING = """What programs and directories install, built from this repository and put where each check looks."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """One command of the inspector, or of another check: what it was asked, and what it said."""

    asked: str
    against: str
    said: str
    ok: bool


def written(
    day: date,
    versions: Mapping[str, str],
    legs: Sequence[Leg],
    inspections: Sequence[Inspection],
    packages: Sequence[Inspection],
) -> str:
    """Return the page."""
    parts = [
        *(_wrapped(paragraph) for paragraph in _PARAGRAPHS),
        _dated(day, versions),
        _table(
            ("Suite", "Against", "Passed", ""),
            [(leg.title, leg.against, leg.figures, _verdict(leg)) for leg in legs],
        ),
        "## Inspector\n",
        _inspected(inspections),
        "## Packaging\n",
        _wrapped(_PACKAGING),
        _inspected(packages),
        "## Scenarios\n",
        *(_scenarios(leg) for leg in legs),
    ]
    return "\n".join(parts)


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), 160, break_long_words=False, break_on_hyphens=False) + "\n"


def _dated(day: date, versions: Mapping[str, str]) -> str:
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Run on {day.isoformat()} with {told}.\n"


def _scenarios(leg: Leg) -> str:
    rows = [
        (f"`{one.name}`", f"{one.passed}", f"{one.failed}", f"{one.warned}", f"{one.skipped}") for one in leg.scenarios
    ]
    complaints = [f"- {_plain(complaint)}" for one in leg.scenarios for complaint in one.complaints]
    said = "\n".join(["What it says:", "", *complaints, ""]) if complaints else ""
    heads = ("Scenario", "Checks passed", "Failed", "Warned", "Skipped")
    return "\n".join(part for part in (f"### {leg.title}, {leg.against}\n", _table(heads, rows), said) if part)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _inspected(inspections: Sequence[Inspection]) -> str:
    rows = [(f"`{one.asked}`", one.against, one.said, _mark(one.ok)) for one in inspections]
    return _table(("Asked", "Of", "Said", ""), rows)


def _verdict(leg: Leg) -> str:
    return _mark(leg.ok) if leg.required else "not required" if not leg.ok else "passed, not required"


def _mark(ok: bool) -> str:
    return "passed" if ok else "FAILED"


def _plain(text: str) -> str:
    return " ".join(text.split())[:300]

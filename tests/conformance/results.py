"""What a run of the suite found, read from the files that it leaves, one folder a scenario."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conformance import installed

_FOLDER = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario: how many of its checks ended how."""

    name: str
    passed: int
    failed: int
    warned: int
    skipped: int
    complaints: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether nothing failed, and something was looked at."""
        return not self.failed and bool(self.passed or self.warned or self.skipped)


@dataclass(frozen=True, slots=True)
class Leg:
    """One row of the report: some scenarios against one address."""

    title: str
    against: str
    scenarios: tuple[Scenario, ...]
    required: bool = True
    counts: str = "scenarios"
    """What its figures count: scenarios, or checks."""

    @property
    def ok(self) -> bool:
        """Tell whether every scenario passed."""
        return bool(self.scenarios) and all(scenario.ok for scenario in self.scenarios)

    @property
    def figures(self) -> str:
        """Return how many passed, of how many."""
        if self.counts == "checks":
            passed = sum(scenario.passed for scenario in self.scenarios)
            return f"{passed}/{passed + sum(scenario.failed for scenario in self.scenarios)}"
        return f"{sum(scenario.ok for scenario in self.scenarios)}/{len(self.scenarios)}"


def required(revision: str) -> tuple[str, ...]:
    """Return the scenarios that a revision requires of servers, as the suite has frozen them."""
    told: dict[str, Any] = yaml.safe_load((installed.SUITE / "requirements" / f"{revision}.yaml").read_text())
    return tuple(told["server"])


def read(folder: Path) -> dict[str, Scenario]:
    """Return what is told in a folder, by scenario."""
    found = {}
    for checks in sorted(folder.glob("*/checks.json")):
        named = _FOLDER.fullmatch(checks.parent.name)
        if named is not None:
            found[named["scenario"]] = scenario(named["scenario"], json.loads(checks.read_text()))
    return found


def scenario(name: str, checks: Iterable[dict[str, Any]]) -> Scenario:
    """Return one scenario from its checks."""
    listed = list(checks)
    many = Counter(check["status"] for check in listed)
    complaints = tuple(
        f"{check['id']}: {check.get('errorMessage') or check['description']}"
        for check in listed
        if check["status"] in ("FAILURE", "WARNING")
    )
    return Scenario(name, many["SUCCESS"], many["FAILURE"], many["WARNING"], many["SKIPPED"], complaints)


def chosen(found: dict[str, Scenario], names: Collection[str]) -> tuple[Scenario, ...]:
    """Return these scenarios in their order; one that never ran has failed."""
    never = "it did not run"
    return tuple(found.get(name) or Scenario(name, 0, 1, 0, 0, (f"{name}: {never}",)) for name in names)

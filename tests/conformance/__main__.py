"""Run others' checks against the server and its packaging and write docs/conformance.md; exit 1 where one failed.

Everything listens on loopback. `python -m tests.conformance PATH` writes the page elsewhere.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from tests.conformance import installed, packaging
from tests.conformance.report import Inspection, written
from tests.conformance.results import Leg, chosen, read, required
from tests.conformance.serving import Served, served

DRIPSTONE = str(Path(sys.executable).with_name("dripstone"))
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"

TASKS = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-status-notifications",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)
SKILLS = ("sep-2640-skills-directory", "sep-2640-skills-enumeration", "sep-2640-skills-manifest")
PENDING = {
    MODERN: ("json-schema-2020-12", "http-header-validation", "http-custom-header-server-validation"),
    HANDSHAKE: ("json-schema-2020-12", "server-session-lifecycle", "server-sse-polling"),
}
"""Scenarios that the suite runs and does not score yet."""

UNAIDED = {
    MODERN: (
        "tools-list",
        "resources-list",
        "prompts-list",
        "completion-complete",
        "sep-2164-resource-not-found",
        "dns-rebinding-protection",
        "caching",
        "server-sse-multiple-streams",
        "input-required-result-unsupported-methods",
        "http-header-validation",
    ),
    HANDSHAKE: (
        "server-initialize",
        "server-session-lifecycle",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
        "server-sse-multiple-streams",
    ),
}
"""Scenarios by revision that need no fixture."""


async def _required(url: str, revision: str, folder: Path) -> None:
    """Run everything that a revision requires, and what goes with it unscored."""
    await installed.ran(
        installed.suite("server", "--url", url, "--requirements", revision, "--output-dir", str(folder))
    )


async def _scenarios(url: str, names: Sequence[str], folder: Path, *more: str) -> None:
    for name in names:
        asked = ("--scenario", name, *more, "--output-dir", str(folder))
        await installed.ran(installed.suite("server", "--url", url, *asked))


async def _suites(at: Served, home: Path) -> list[Leg]:
    streams = f"{at.fixtures}/interactive"
    modern, handshake, plain, plain_handshake, skills = (home / name for name in "abcde")
    await _required(streams, MODERN, modern)
    await _required(streams, HANDSHAKE, handshake)
    await _required(at.fixtures, MODERN, plain)
    await _required(at.fixtures, HANDSHAKE, plain_handshake)
    await _scenarios(at.product, SKILLS, skills)
    at_streams, at_plain = "fixtures, `/mcp/interactive`", "fixtures, `/mcp`"
    found, older = read(modern), read(handshake)
    legs = [
        Leg(f"Required of {MODERN}", at_streams, chosen(found, required(MODERN))),
        Leg(f"Required of {HANDSHAKE}", at_streams, chosen(older, required(HANDSHAKE))),
        Leg("Extension: tasks", at_streams, chosen(found, TASKS), counts="checks"),
        Leg("Extension: skills", "the product, `/mcp`", chosen(read(skills), SKILLS), counts="checks"),
        Leg(f"Not scored yet of {MODERN}", at_streams, chosen(found, PENDING[MODERN]), required=False),
        Leg(f"Not scored yet of {HANDSHAKE}", at_streams, chosen(older, PENDING[HANDSHAKE]), required=False),
        Leg(f"Required of {MODERN}", at_plain, chosen(read(plain), required(MODERN)), required=False),
        Leg(f"Required of {HANDSHAKE}", at_plain, chosen(read(plain_handshake), required(HANDSHAKE)), required=False),
    ]
    for revision, names in UNAIDED.items():
        folder = home / f"unaided-{revision}"
        await _scenarios(f"{at.product}/interactive", names, folder, "--spec-version", revision)
        ran = chosen(read(folder), names)
        legs.append(Leg(f"{revision}, needs no fixture", "the product, `/mcp/interactive`", ran))
    return legs


async def _inspected(at: Served) -> list[Inspection]:
    over_http = (at.own, "--header", f"Authorization: Bearer {at.key}")
    over_stdio = (DRIPSTONE, "mcp", "-e", f"DRIPSTONE_TARGET={at.target}", "-e", f"DRIPSTONE_API_KEY={at.key}")
    return [
        *[await _tools("`/mcp`", over_http, era) for era in ("legacy", "modern")],
        *[await _tools("`dripstone mcp`", over_stdio, era) for era in ("legacy", "modern")],
        await _skills("`/mcp`", over_http),
        await _cards("`/mcp`", over_http),
    ]


async def _tools(against: str, target: Sequence[str], era: str) -> Inspection:
    asked = ("--protocol-era", era, "--method", "tools/list", "--strict")
    ran = await installed.ran(installed.inspector(*target, *asked, "--format", "json", "-q"))
    told = ran.answer()
    findings = [finding for tool in told.get("schemaFindings", ()) for finding in tool["findings"]]
    errors = sum(finding["severity"] == "error" for finding in findings)
    tools = len(told.get("result", told).get("tools", ()))
    said = f"{tools} tools, errors: {errors}, warnings: {len(findings) - errors}"
    return Inspection(" ".join(asked), against, said, ran.ok and tools > 0 and not findings)


async def _skills(against: str, target: Sequence[str]) -> Inspection:
    asked = ("--protocol-era", "modern", "--method", "skills/list", "--verify", "--require-digests")
    ran = await installed.ran(installed.inspector(*target, *asked))
    lines = ran.said.splitlines()
    said = next((line for line in reversed(lines) if line.startswith("Verified")), "nothing was verified")
    return Inspection(" ".join(asked), against, said, ran.ok)


async def _cards(against: str, target: Sequence[str]) -> Inspection:
    asked = ("--method", "tools/list", "--app-info")
    ran = await installed.ran(installed.inspector(*target, *asked, "--format", "json", "-q"))
    apps = [json.loads(line) for line in ran.out.splitlines() if line.startswith("{")]
    cards = [f"`{app['toolName']}` shows `{app['resourceUri']}`" for app in apps if app.get("hasApp")]
    return Inspection(" ".join(asked), against, ", ".join(cards), ran.ok and bool(cards))


def _versions() -> dict[str, str]:
    return {
        "the suite": installed.version("@modelcontextprotocol/conformance"),
        "the inspector": installed.version("@modelcontextprotocol/inspector"),
        "`mcpb`": installed.version("@anthropic-ai/mcpb"),
        "`skills`": installed.version("skills"),
        "`skillsaw`": installed.linter_version(),
        "Node": installed.node_version(),
        "the `mcp` library": metadata.version("mcp"),
        "Dripstone": metadata.version("dripstone"),
    }


async def _run() -> tuple[list[Leg], list[Inspection], list[Inspection]]:
    with TemporaryDirectory() as home:
        async with served() as at:
            return await _suites(at, Path(home)), await _inspected(at), await packaging.inspected(at, Path(home))


def main(page: Path) -> int:
    """Run it all, write the page and tell of it; return the exit code."""
    legs, inspections, packages = anyio.run(_run)
    page.write_text(written(datetime.now(UTC).date(), _versions(), legs, inspections, packages))
    for leg in legs:
        print(f"{leg.figures:>8}  {leg.title}, {leg.against}")
        for scenario in leg.scenarios:
            for complaint in scenario.complaints:
                print(f"          {complaint}"[:240])
    for one in (*inspections, *packages):
        print(f"{'ok' if one.ok else 'FAILED':>8}  {one.against} {one.asked}: {one.said}")
    print(f"The report is {page}.")
    return 0 if all(leg.ok for leg in legs if leg.required) and all(one.ok for one in (*inspections, *packages)) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, default=PAGE, help="where the report goes")
    warnings.simplefilter("ignore")  # the suite asks for what the newer revision deprecates
    logging.getLogger("mcp").setLevel(logging.ERROR)  # and for what is refused
    sys.exit(main(parser.parse_args().page))

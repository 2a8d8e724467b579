"""The fixtures answer as the suite wants, without Node: a few of each kind, and the report of the last whole run."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path

import pytest
from mcp import Client
from mcp.types import ElicitResult

from dripstone.v1.client import Client as CoreClient
from mcp_server.callers import Callers
from tests.conformance.fixture_server import fixture_server
from tests.conformance.report import Inspection, written
from tests.conformance.results import Leg, Scenario, chosen, read
from tests.conformance.work import Job
from tests.mcp_server.failing import failing

HERE = Path(__file__).parent


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:The logging capability")
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_fixtures_stand_behind_the_products_admission_in_both_eras(era: str) -> None:
    async def answer(ctx: object, params: object) -> ElicitResult:
        return ElicitResult(action="accept", content={"username": "ada", "email": "ada@example.com"})

    async with (
        failing() as core,
        CoreClient(core.target, "dripstone_live_agent") as told,
        Client(fixture_server(Callers(lambda _: told)), mode=era, elicitation_callback=answer) as client,
    ):
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"test_simple_text", "find-records", "slow_compute"} <= names
        asked = await client.call_tool("test_elicitation", {"message": "Who?"})
        assert "action=accept" in asked.content[0].text
        assert "ada@example.com" in asked.content[0].text
        wrong = await client.call_tool("greet", {"nam": "Ada"})
        assert wrong.structured_content["error"]["reason"] == "INVALID_ARGUMENT"
        (resource,) = (await client.read_resource("test://template/7/data")).contents
        assert json.loads(resource.text)["id"] == "7"


@pytest.mark.anyio
async def test_a_job_that_asks_goes_on_when_every_question_is_answered(anyio_backend: str) -> None:
    job = Job("j")
    asking = asyncio.create_task(job.ask(one=_Question(), two=_Question()))
    await asyncio.sleep(0)
    assert (job.status, set(job.task().questions)) == ("input_required", {"j-one", "j-two"})
    job.take({"j-one": 1, "another": 3})
    assert (job.status, set(job.task().questions)) == ("input_required", {"j-two"})
    job.take({"j-two": 2})
    assert await asking == {"j-one": 1, "j-two": 2}
    assert job.status == "working"


class _Question:
    def model_dump(self, **_: object) -> dict[str, str]:
        return {"method": "elicitation/create"}


def test_a_scenario_that_failed_or_never_ran_is_reported_as_failed(tmp_path: Path) -> None:
    checks = [
        {"id": "a", "status": "SUCCESS", "description": "A"},
        {"id": "b", "status": "FAILURE", "description": "B", "errorMessage": "no\nway"},
    ]
    folder = tmp_path / "server-tools-list-2026-11-21T18-13-12-783Z"
    folder.mkdir()
    (folder / "checks.json").write_text(json.dumps(checks))
    leg = Leg("Tools", "here", chosen(read(tmp_path), ("tools-list", "ping")))
    assert (leg.ok, leg.figures) == (False, "0/2")
    inspected, package = Inspection("--strict", "here", "25 tools", ok=True), Inspection("mcpb", "it", "no", ok=False)
    page = written(date(2026, 11, 21), {"Node": "v22"}, [leg], [inspected], [package])
    for part in (
        "| Tools | here | 0/2 | FAILED |",
        "- b: no way",
        "- ping: it did not run",
        "| `--strict` | here | 25 tools | passed |",
        "| `mcpb` | it | no | FAILED |",
    ):
        assert part in page


def test_nothing_looked_at_is_not_passed() -> None:
    assert not Scenario("x", 0, 0, 0, 0).ok
    assert not Leg("none", "here", ()).ok


def test_the_report_is_of_what_is_installed_and_says_that_all_passed() -> None:
    page = (HERE.parents[1] / "docs" / "conformance.md").read_text()
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
    for version in pinned.values():
        assert version in page
    for row in (
        "| Required of 2026-07-28 | fixtures, `/mcp/interactive` | 37/37 | passed |",
        "| Required of 2025-11-25 | fixtures, `/mcp/interactive` | 30/30 | passed |",
        "| Extension: tasks | fixtures, `/mcp/interactive` | 44/44 | passed |",
        "| Extension: skills | the product, `/mcp` | 45/45 | passed |",
        "| `npx skills add` | a running core | 9 skills, byte for byte ours | passed |",
    ):
        assert row in page
    assert "FAILED" not in page

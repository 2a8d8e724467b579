"""`dripstone routing` as authors use it: a template, what is wrong with a file, and publishing it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.commands.routing import routing
from core.domain.routing.schema import routing_schema
from tests.running import RunningCore

BAD = "title: T\nrules:\n  - {id: big, when: contact.emplyees > 5, members: [ada@example.com]}\ncatch_all: {}\n"


def _ran(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(routing, list(arguments), input=text)


def test_a_template_is_listed_copied_and_valid(tmp_path: Path) -> None:
    out = str(tmp_path / "mine.yaml")
    assert "inbound" in _ran("templates").output
    assert f"dripstone routing lint {out}" in _ran("new", "inbound", "--out", out).output
    assert _ran("lint", out).output == f"{out}: valid\n"
    assert json.loads(_ran("schema").output) == routing_schema()


def test_everything_wrong_comes_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    result = _ran("lint", str(file))
    assert (result.exit_code, f"{file}: 2 problems" in result.output) == (1, True)
    assert f"{file}:3 " in result.output
    assert "Did you mean contact.employees?" in result.output
    ((told,),) = (json.loads(_ran("lint", "--json", str(file)).output),)
    assert [(one["path"], one["line"]) for one in told["problems"]] == [
        ("rules[0].when", 3),
        ("catch_all.members", 4),
    ]
    assert "--id" in _ran("publish", "-", text=BAD).output


@pytest.mark.anyio
async def test_a_file_becomes_the_next_version(
    core: RunningCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "inbound.yaml"
    file.write_text("title: T\ncatch_all: {members: [nobody@example.com]}\n")
    monkeypatch.setenv("DRIPSTONE_TARGET", core.grpc_target)
    monkeypatch.setenv("DRIPSTONE_API_KEY", core.api_key)
    refused = await asyncio.to_thread(_ran, "publish", str(file))
    assert refused.exit_code == 1
    assert "nobody@example.com" in refused.output
    file.write_text(f"title: T\ncatch_all: {{members: [{await _member(core)}]}}\n")
    done = await asyncio.to_thread(_ran, "publish", str(file))
    assert done.output == "inbound is published: version 1, in use.\n"


async def _member(core: RunningCore) -> str:
    from dripstone.v1 import organization_pb2 as pb

    async with core.client() as client:
        request = pb.CreateMemberRequest(email="ada@example.com", display_name="Ada", role=pb.ROLE_EDITOR)
        return str((await client.organization.CreateMember(request)).email)

"""The pack installs from a running core: an index, archives that fit its digests, and nothing else of the disk."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette

from core.gateway.agent_skills import PATH, SCHEMA, agent_skills
from mcp_server import skill_pack

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(Starlette(routes=[*agent_skills()]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://core") as client:
        yield client


async def test_every_skill_is_in_the_index_and_its_archive_has_the_digest_that_stands_there(
    http: httpx2.AsyncClient,
) -> None:
    index = (await http.get(f"{PATH}/index.json")).json()
    assert index["$schema"] == SCHEMA
    assert [one["name"] for one in index["skills"]] == [*skill_pack.pack()]
    for entry in index["skills"]:
        skill = skill_pack.pack()[entry["name"]]
        answer = await http.get(entry["url"])
        assert answer.headers["content-type"] == "application/zip"
        assert entry["digest"] == f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == skill.archive_digest
        assert (entry["type"], entry["description"]) == ("archive", skill.description)
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == skill.files


async def test_files_of_a_skill_can_be_read_one_by_one_and_are_never_a_page(http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{PATH}/dripstone/SKILL.md")
    assert answer.content == skill_pack.pack()["dripstone"].files["SKILL.md"]
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    code = await http.get(f"{PATH}/dripstone/scripts/times.py")
    assert code.headers["content-type"] == "text/plain; charset=utf-8"


async def test_who_knows_a_version_is_told_that_it_still_holds(http: httpx2.AsyncClient) -> None:
    for path in ("index.json", "dripstone.zip", "dripstone/SKILL.md"):
        first = await http.get(f"{PATH}/{path}")
        again = await http.get(f"{PATH}/{path}", headers={"If-None-Match": f"W/{first.headers['etag']}"})
        assert (again.status_code, again.content) == (304, b"")
        assert first.headers["cache-control"] == "public, max-age=300"


OUTSIDE = [
    "other.zip",
    "dripstone/other.md",
    "dripstone/../shared.md",
    "dripstone/%2e%2e/generate.py",
    "dripstone/..%2fshared.md",
    "../../etc/passwd",
    "dripstone//etc/passwd",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_nothing_but_the_pack_is_handed_out(http: httpx2.AsyncClient, path: str) -> None:
    assert (await http.get(f"{PATH}/{path}", follow_redirects=True)).status_code == 404

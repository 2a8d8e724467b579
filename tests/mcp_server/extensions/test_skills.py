"""Skills over MCP: what is listed can be read, byte for byte, and an unknown address is told which was near."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp.types import INVALID_PARAMS, BlobResourceContents, Request, RequestParams, Result
from pydantic import ConfigDict

from dripstone.v1.client import Client as CoreClient
from mcp_server.extensions import skills
from mcp_server.extensions.skills import INDEX, SKILLS, Skills
from mcp_server.server import build_server
from mcp_server.skill_pack import Skill, pack
from tests.mcp_server.conftest import Broken

pytestmark = pytest.mark.anyio

SMALL = Skill(
    "pour-tea",
    {"name": "pour-tea", "description": "Pour tea. Not for coffee."},
    {"SKILL.md": b"---\nname: pour-tea\n---\n", "assets/pot.png": b"\x89PNG\xff", "assets/cups/set.csv": b"cup\n"},
)


class Params(RequestParams):
    model_config = ConfigDict(extra="allow")


class Asked(Request[Params, str]):
    method: str
    params: Params


class Told(Result):
    model_config = ConfigDict(extra="allow")


async def ask(client: Client, method: str, **params: Any) -> dict[str, Any]:
    told = await client.session.send_request(Asked(method=method, params=Params(**params)), Told)
    return told.model_dump(by_alias=True)


async def refused(client: Client, method: str, **params: Any) -> str:
    with pytest.raises(MCPError) as raised:
        await ask(client, method, **params)
    assert raised.value.error.code == INVALID_PARAMS
    return raised.value.error.message


@pytest.fixture
async def client(anyio_backend: str) -> AsyncIterator[Client]:
    async with Client(MCPServer("tea", extensions=[Skills([SMALL])])) as connected:
        yield connected


async def test_the_pack_is_listed_with_digests_and_every_file_reads_as_the_bytes_they_are_of(broken: Broken) -> None:
    async with CoreClient(broken.core.target, "key") as told, Client(build_server(lambda _: told)) as client:
        assert client.server_capabilities.extensions[SKILLS] == {"directoryRead": True}
        listed = await ask(client, "skills/list")
        entries = {entry["frontmatter"]["name"]: entry for entry in listed["skills"]}
        assert list(entries) == list(pack())
        assert (listed["ttlMs"], listed["cacheScope"]) == (300_000, "public")
        for entry in entries.values():
            assert (await ask(client, "skills/get", uri=entry["uri"]))["skill"] == entry
        for resource in entries["dripstone"]["resources"]:
            (read,) = (await client.read_resource(resource["uri"])).contents
            content = read.text.encode()
            assert resource["size"] == len(content)
            assert resource["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        shown = [str(one.uri) for one in (await client.list_resources()).resources if str(one.uri).startswith("skill:")]
        assert shown == [INDEX, *(entry["uri"] for entry in entries.values())]


async def test_the_older_index_names_the_same_skills(client: Client) -> None:
    (read,) = (await client.read_resource(INDEX)).contents
    (entry,) = json.loads(read.text)["skills"]
    assert entry == {
        "name": "pour-tea",
        "description": "Pour tea. Not for coffee.",
        "type": "skill-md",
        "url": "skill://pour-tea/SKILL.md",
        "digest": SMALL.digests["SKILL.md"],
    }


async def test_folders_are_read_one_level_at_a_time(client: Client) -> None:
    top = await ask(client, "resources/directory/read", uri="skill://pour-tea/")
    assert [(one["uri"], one["mimeType"], one.get("size")) for one in top["resources"]] == [
        ("skill://pour-tea/SKILL.md", "text/markdown", 23),
        ("skill://pour-tea/assets", "inode/directory", None),
    ]
    below = await ask(client, "resources/directory/read", uri="skill://pour-tea/assets")
    assert [(one["name"], one["mimeType"]) for one in below["resources"]] == [
        ("cups", "inode/directory"),
        ("pot.png", "image/png"),
    ]


async def test_a_file_that_is_no_text_is_read_as_bytes(client: Client) -> None:
    (read,) = (await client.read_resource("skill://pour-tea/assets/pot.png")).contents
    assert isinstance(read, BlobResourceContents)
    assert base64.b64decode(read.blob) == SMALL.files["assets/pot.png"]


@pytest.mark.parametrize(
    ("method", "uri", "said"),
    [
        ("skills/get", "skill://pour-tee/SKILL.md", "Did you mean skill://pour-tea/SKILL.md?"),
        ("skills/get", "skill://pour-tea", "Did you mean skill://pour-tea/SKILL.md?"),
        ("skills/get", "x", "skills/list tells what there is."),
        ("resources/directory/read", "skill://pour-tea/SKILL.md", "Did you mean skill://pour-tea?"),
        ("resources/directory/read", "skill://pour-tea/../..", "That is no folder of a skill."),
        ("resources/directory/read", "skill://", "That is no folder of a skill."),
    ],
)
async def test_an_address_of_nothing_is_refused_with_the_nearest(
    client: Client, method: Literal["skills/get"], uri: str, said: str
) -> None:
    assert said in await refused(client, method, uri=uri)


async def test_lists_go_on_page_by_page_and_refuse_cursors_of_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skills, "PAGE", 1)
    first = await ask(client, "resources/directory/read", uri="skill://pour-tea")
    second = await ask(client, "resources/directory/read", uri="skill://pour-tea", cursor=first["nextCursor"])
    assert [one["name"] for page in (first, second) for one in page["resources"]] == ["SKILL.md", "assets"]
    assert "nextCursor" not in second
    for cursor in ("2", "-1", "workflows:", "٣"):
        assert "Begin again" in await refused(client, "skills/list", cursor=cursor)

"""The routes by which the skills pack installs from a running core: Agent Skills discovery 0.2.0 under `.well-known`.

Anybody may ask: the pack is public, holds nothing of an organization, and is known by its digests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from core import loading

if TYPE_CHECKING:
    from mcp_server.skill_pack import Skill

PATH = "/.well-known/agent-skills"
SCHEMA = "https://schemas.agentskills.io/discovery/0.2.0/schema.json"

_KEPT_SECONDS = 300


def agent_skills() -> Sequence[BaseRoute]:
    """Return the routes: the index, and each skill as an archive and as the files inside it."""
    return (
        Route(f"{PATH}/index.json", _index, methods=["GET"]),
        Route(f"{PATH}/{{name}}.zip", _archive, methods=["GET"]),
        Route(f"{PATH}/{{name}}/{{path:path}}", _file, methods=["GET"]),
    )


async def _index(request: Request) -> Response:
    content, tag = _written_index()
    return _answer(request, content, tag, "application/json")


async def _archive(request: Request) -> Response:
    skill = _skills().get(request.path_params["name"])
    if skill is None:
        raise HTTPException(404)
    return _answer(request, skill.archive, skill.archive_digest, "application/zip")


async def _file(request: Request) -> Response:
    skill, path = _skills().get(request.path_params["name"]), request.path_params["path"]
    if skill is None or path not in skill.files:
        raise HTTPException(404)
    # As plain text, whatever it is: nothing of it may run in a browser.
    kind = "text/markdown; charset=utf-8" if path.endswith(".md") else "text/plain; charset=utf-8"
    return _answer(request, skill.files[path], skill.digests[path], kind)


def _skills() -> dict[str, Skill]:
    found: dict[str, Skill] = loading.load("mcp_server.skill_pack").pack()
    return found


@cache
def _written_index() -> tuple[bytes, str]:
    """Return the index and its digest; skills with files beside SKILL.md travel as archives."""
    entries = [
        {
            "name": skill.name,
            "type": "archive",
            "description": skill.description,
            "url": f"{PATH}/{skill.name}.zip",
            "digest": skill.archive_digest,
        }
        for skill in _skills().values()
    ]
    content = json.dumps({"$schema": SCHEMA, "skills": entries}, separators=(",", ":")).encode()
    tag: str = loading.load("mcp_server.skill_pack").digest(content)
    return content, tag


def _answer(request: Request, content: bytes, digest: str, kind: str) -> Response:
    headers = {
        "cache-control": f"public, max-age={_KEPT_SECONDS}",
        "access-control-allow-origin": "*",
        "etag": f'"{digest.removeprefix("sha256:")}"',
    }
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if headers["etag"] in known:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=kind)

"""Skills over MCP (SEP-2640): the skills pack, listed with digests and read file by file.

Beside the methods of the extension stands `skill://index.json`, which clients read that know only an older draft.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from mcp import MCPError
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding, ResourceBinding
from mcp.server.mcpserver.resources import FunctionResource
from mcp.types import INVALID_PARAMS, PaginatedRequestParams, RequestParams
from pydantic import Field

from mcp_server.corrections import nearest
from mcp_server.skill_pack import ENTRY, Skill

SKILLS = "io.modelcontextprotocol/skills"
SCHEME = "skill://"
INDEX = f"{SCHEME}index.json"
"""The discovery document of the older draft."""

DISCOVERY = "https://schemas.agentskills.io/discovery/0.2.0/schema.json"
PAGE = 50
"""Skills, or entries of a folder, on one page."""

CACHED = {"ttlMs": 300_000, "cacheScope": "public"}
"""The pack changes with the version of the product, and is the same for everybody."""

_DIRECTORY = "inode/directory"
_MEDIA_TYPES = {
    ".md": "text/markdown",
    ".json": "application/json",
    ".csv": "text/csv",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".py": "text/x-python",
    ".sh": "application/x-sh",
    ".png": "image/png",
}
_REVISIONS = frozenset({"2026-07-28"})
_Context = ServerRequestContext[Any, Any]


class _AddressParams(RequestParams):
    uri: str = Field(max_length=1_000)
    cursor: str | None = Field(default=None, max_length=20)


class Skills(Extension):
    """The extension: three methods over the files of some skills, which are resources."""

    identifier = SKILLS

    def __init__(self, skills: Iterable[Skill]) -> None:
        """Serve these skills; what they are is read once."""
        self._skills = {_address(skill, ENTRY): skill for skill in skills}
        self._entries = {uri: _entry(uri, skill) for uri, skill in self._skills.items()}
        self._files = {
            _address(skill, path): content for skill in self._skills.values() for path, content in skill.files.items()
        }
        self._directories = _directories(self._files)

    def settings(self) -> dict[str, Any]:
        """Return what is served beyond the least: reading folders."""
        return {"directoryRead": True}

    def resources(self) -> Sequence[ResourceBinding]:
        """Return every file of every skill, and the older draft's index."""
        index = _resource(INDEX, "skills", "The skills that this server has.", self._index())
        return [ResourceBinding(index), *(ResourceBinding(self._file(uri)) for uri in self._files)]

    def methods(self) -> Sequence[MethodBinding]:
        """Return the methods, for clients of the revision that has them."""
        return [
            MethodBinding("skills/list", PaginatedRequestParams, self._list, _REVISIONS),
            MethodBinding("skills/get", _AddressParams, self._get, _REVISIONS),
            MethodBinding("resources/directory/read", _AddressParams, self._read_directory, _REVISIONS),
        ]

    async def _list(self, ctx: _Context, params: PaginatedRequestParams) -> HandlerResult:
        page, following = _page(list(self._entries.values()), params.cursor)
        return {"skills": page, **following, **CACHED}

    async def _get(self, ctx: _Context, params: _AddressParams) -> HandlerResult:
        entry = self._entries.get(params.uri)
        if entry is None:
            raise _unknown("There is no such skill.", params.uri, self._entries)
        return {"skill": entry, **CACHED}

    async def _read_directory(self, ctx: _Context, params: _AddressParams) -> HandlerResult:
        children = self._directories.get(params.uri.rstrip("/"))
        if children is None:
            raise _unknown("That is no folder of a skill.", params.uri, self._directories)
        page, following = _page([self._child(uri) for uri in children], params.cursor)
        return {"resources": page, **following, **CACHED}

    def _child(self, uri: str) -> dict[str, Any]:
        content = self._files.get(uri)
        if content is None:
            return {"uri": uri, "name": _name(uri), "mimeType": _DIRECTORY}
        return {"uri": uri, "name": _name(uri), "mimeType": media_type(uri), "size": len(content)}

    def _file(self, uri: str) -> FunctionResource:
        skill = self._skills.get(uri)
        if skill is None:
            return _resource(uri, _name(uri), None, self._files[uri])
        return _resource(uri, skill.name, skill.description, self._files[uri])

    def _index(self) -> bytes:
        listed = [
            {
                "name": skill.name,
                "description": skill.description,
                "type": "skill-md",
                "url": uri,
                "digest": skill.digests[ENTRY],
            }
            for uri, skill in self._skills.items()
        ]
        return json.dumps({"$schema": DISCOVERY, "skills": listed}).encode()


def is_listed(uri: str) -> bool:
    """Tell whether a listing of resources shows an address: of a skill only its entry, which names the other files."""
    return not uri.startswith(SCHEME) or uri == INDEX or uri.endswith(f"/{ENTRY}")


def media_type(path: str) -> str:
    """Return the media type of a file of a skill."""
    return _MEDIA_TYPES.get(PurePosixPath(path).suffix, "text/plain")


def _address(skill: Skill, path: str) -> str:
    return f"{SCHEME}{skill.name}/{path}"


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _entry(uri: str, skill: Skill) -> dict[str, Any]:
    files = [
        {"uri": _address(skill, path), "digest": skill.digests[path], "size": len(content)}
        for path, content in skill.files.items()
    ]
    return {"uri": uri, "frontmatter": dict(skill.frontmatter), "resources": files}


def _directories(files: Iterable[str]) -> dict[str, list[str]]:
    """Return the children of each folder, in order."""
    found: dict[str, set[str]] = {}
    for uri in files:
        child = uri
        while child.count("/") > SCHEME.count("/"):
            parent = child.rpartition("/")[0]
            found.setdefault(parent, set()).add(child)
            child = parent
    return {parent: sorted(children) for parent, children in found.items()}


def _resource(uri: str, name: str, description: str | None, content: bytes) -> FunctionResource:
    try:
        served: str | bytes = content.decode()
    except UnicodeDecodeError:
        served = content
    return FunctionResource(uri=uri, name=name, description=description, mime_type=media_type(uri), fn=lambda: served)


def _page(listed: list[dict[str, Any]], cursor: str | None) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and int(cursor) < len(listed)):
        raise MCPError(INVALID_PARAMS, "The cursor is not of this list. Begin again without one.")
    start = int(cursor or 0)
    end = start + PAGE
    return listed[start:end], {"nextCursor": str(end)} if end < len(listed) else {}


def _unknown(message: str, uri: str, known: Iterable[str]) -> MCPError:
    near = nearest(uri, list(known), cutoff=0.5)
    hint = f"Did you mean {near}?" if near else "skills/list tells what there is."
    return MCPError(INVALID_PARAMS, f"{message} {hint}", data={"uri": uri[:200]})

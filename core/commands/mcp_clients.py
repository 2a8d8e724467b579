"""How programs that run agents are told of an MCP server: which file, and what stands in it.

Nothing secret is written: a key is named by the variable that holds it, or asked for by the program.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.domain.frozen import frozen

KEY_VARIABLE = "DRIPSTONE_AGENT_KEY"
_KEYS = (KEY_VARIABLE, "DRIPSTONE_API_KEY")
_LOOKED_AT = ("DRIPSTONE_TARGET", *_KEYS, "DRIPSTONE_CA_FILE")
"""What `dripstone mcp` looks at in its environment."""


class CannotAdd(ValueError):
    """A file is not as it must be for an entry to be added to it."""


@frozen
class Server:
    """What a program is told: a command to run, or an address to call."""

    name: str
    command: Sequence[str] = ()
    url: str = ""


@frozen
class McpClient:
    """One program that runs agents."""

    title: str
    file: Callable[[Path], Path]
    """From the project's folder to the file."""
    entry: Callable[[Server], dict[str, Any]]
    """What stands under the server's name."""
    under: str = "mcpServers"
    asks: Callable[[Server], dict[str, Any]] = lambda _: {}
    """What else stands in the file: lists to which something is added, by what their items' `id` says."""
    reads: str = "when it is started anew"
    """When it takes the file in: some ask first."""

    @property
    def is_toml(self) -> bool:
        """Tell in which of the two languages the file is."""
        return self.under == "mcp_servers"

    def snippet(self, server: Server) -> str:
        """Return what must stand in the file, as text."""
        if self.is_toml:
            return _table(server, self.entry(server))
        return json.dumps({self.under: {server.name: self.entry(server)}, **self.asks(server)}, indent=2) + "\n"

    def added(self, text: str, server: Server) -> str:
        """Return a file's text with the entry in it, and all else as it was. Raises CannotAdd."""
        return self._added_toml(text, server) if self.is_toml else self._added_json(text, server)

    def _added_json(self, text: str, server: Server) -> str:
        try:
            known = json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise CannotAdd("it is not plain JSON") from error
        if not isinstance(known, dict) or not isinstance(known.get(self.under, {}), dict):
            raise CannotAdd(f"it has no object `{self.under}`")
        wanted = {**known, self.under: {**known.get(self.under, {}), server.name: self.entry(server)}}
        for name, items in self.asks(server).items():
            others = [one for one in known.get(name, []) if one.get("id") not in {item["id"] for item in items}]
            wanted[name] = [*others, *items]
        return text if wanted == known else json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"

    def _added_toml(self, text: str, server: Server) -> str:
        known = _read_toml(text)
        if known.get(self.under, {}).get(server.name) == self.entry(server):
            return text
        own = re.compile(rf"\[{self.under}\.(?:{re.escape(server.name)}|\"{re.escape(server.name)}\")[.\]]")
        kept, inside = [], False
        for line in text.splitlines(keepends=True):
            if line.lstrip().startswith("["):
                inside = own.match(line.lstrip()) is not None
            if not inside:
                kept.append(line)
        before = "".join(kept).rstrip("\n")
        made = (f"{before}\n\n" if before else "") + _table(server, self.entry(server))
        others = {name: one for name, one in known.get(self.under, {}).items() if name != server.name}
        if _read_toml(made) != known | {self.under: others | {server.name: self.entry(server)}}:
            raise CannotAdd("its tables are not where they can be told apart")
        return made


def _read_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CannotAdd("it is not TOML") from error


def _table(server: Server, entry: Mapping[str, Any]) -> str:
    # A JSON string or list of strings is the same in TOML.
    return f"[mcp_servers.{server.name}]\n" + "".join(f"{name} = {json.dumps(one)}\n" for name, one in entry.items())


def _command(server: Server) -> dict[str, Any]:
    return {"command": server.command[0], "args": list(server.command[1:])}


def _bearer(variable: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {variable}"}}


def _typed(server: Server, variable: str) -> dict[str, Any]:
    if not server.url:
        return {"type": "stdio", **_command(server)}
    return {"type": "http", "url": server.url, **_bearer(variable)}


def _asked_key(server: Server) -> dict[str, Any]:
    asked = {"type": "promptString", "id": "dripstone-key", "description": "API key of Dripstone", "password": True}
    return {"inputs": [asked]} if server.url else {}


def _codex(server: Server) -> dict[str, Any]:
    if server.url:
        return {"url": server.url, "bearer_token_env_var": KEY_VARIABLE}
    return {**_command(server), "env_vars": [*_LOOKED_AT]}  # it hands a command no variables but those named


def _gemini(server: Server) -> dict[str, Any]:
    if server.url:
        return {"httpUrl": server.url, **_bearer(f"${KEY_VARIABLE}")}
    return {**_command(server), "env": {name: f"${name}" for name in _KEYS}}  # it hands on no keys but those named


def _cursor(server: Server) -> dict[str, Any]:
    return {"url": server.url, **_bearer(f"${{env:{KEY_VARIABLE}}}")} if server.url else _command(server)


def _codex_home(_: Path) -> Path:
    return Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex") / "config.toml"


CLIENTS: Mapping[str, McpClient] = {
    "claude-code": McpClient(
        "Claude Code",
        lambda project: project / ".mcp.json",
        lambda server: _typed(server, f"${{{KEY_VARIABLE}}}"),
        reads="when it is started anew in this folder, and asks whether to use it",
    ),
    "codex": McpClient("Codex", _codex_home, _codex, under="mcp_servers"),
    "gemini-cli": McpClient(
        "Gemini CLI",
        lambda project: project / ".gemini" / "settings.json",
        _gemini,
        reads="when it is started anew in this folder, once it trusts the folder",
    ),
    "cursor": McpClient("Cursor", lambda project: project / ".cursor" / "mcp.json", _cursor),
    "vscode": McpClient(
        "VS Code",
        lambda project: project / ".vscode" / "mcp.json",
        lambda server: _typed(server, "${input:dripstone-key}"),
        under="servers",
        asks=_asked_key,
    ),
}
"""The programs that `dripstone mcp install` knows."""

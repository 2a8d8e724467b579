"""`connection.json`: how programs on this machine find the running core, readable by its owner alone."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from core.domain.frozen import frozen

FILE_NAME = "connection.json"


@frozen
class Connection:
    """Addresses and keys of a running core."""

    grpc: str
    """Target, such as `127.0.0.1:7443`."""
    http: str
    """Base address, such as `http://127.0.0.1:7480`."""
    mcp: str
    """Address of the MCP server."""
    api_key: str
    """A service key with every scope."""
    agent_key: str
    """An agent's key."""
    approver_api_key: str
    """The key of a member who may decide approvals."""


def read(data_dir: Path) -> Connection | None:
    """Return the connection that a data directory names; None when there is none or it cannot be read.

    One that somebody else wrote, or could have, counts as none: it would lead keys and contacts to them.
    """
    try:
        with (data_dir / FILE_NAME).open() as file:
            told = os.fstat(file.fileno())
            if told.st_uid != os.geteuid() or told.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            content = json.load(file)
        known = {name: str(content.get(name, "")) for name in Connection.__dataclass_fields__}
    except (OSError, ValueError, AttributeError):
        return None
    return Connection(**known)


def write(data_dir: Path, connection: Connection) -> Path:
    """Write the file whole or not at all, readable by its owner alone."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir / FILE_NAME
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)  # whoever left it may have left it readable
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(connection), file, indent=2)
        file.write("\n")
    temporary.replace(path)
    return path

"""What a desktop program runs of a bundle: the MCP server over standard input and output.

Programs run this file by the manifest's command, or by themselves because it is the bundle's entry point. Not all of
them put something for every `${…}` of the manifest, so what is left of those is cleared away first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path


def settle(environment: MutableMapping[str, str], home: Path) -> None:
    """Drop what the user left unsaid, and name the data folder: never the bundle's, which an update replaces."""
    for name in [name for name, value in environment.items() if value.startswith("${user_config.")]:
        del environment[name]
    folder = environment.get("DRIPSTONE_DATA_DIR") or "${HOME}/.dripstone"
    environment["DRIPSTONE_DATA_DIR"] = folder.replace("${HOME}", str(home))


def main() -> None:
    """Serve until the program hangs up."""
    settle(os.environ, Path.home())
    from core.__main__ import main as dripstone

    dripstone(["mcp", *sys.argv[1:]], prog_name="dripstone")


if __name__ == "__main__":
    main()

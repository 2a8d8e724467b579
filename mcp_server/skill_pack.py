"""The skills pack as it is handed out: every channel gives the same bytes, known by the same digests.

The pack is the folder `skills/` of the repository; a wheel carries it beside this module.
"""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

_INSTALLED = Path(__file__).parent / "skills"
_IN_REPOSITORY = Path(__file__).parents[1] / "skills"

ENTRY = "SKILL.md"
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive: the first that a zip can tell."""
_UNIX = 3


class NotASkill(Exception):
    """A folder of the pack is not a skill; the text says why."""


@dataclass(frozen=True)
class Skill:
    """One skill: its folder, in memory."""

    name: str
    frontmatter: Mapping[str, Any]
    files: Mapping[str, bytes]
    """By the path inside the folder, with forward slashes, in order."""

    @property
    def description(self) -> str:
        """Return what it does, when to use it and when not to."""
        return str(self.frontmatter["description"])

    @property
    def version(self) -> str:
        """Return the version of the pack that it came with."""
        return str((self.frontmatter.get("metadata") or {}).get("version", ""))

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """Return the digest of each file."""
        return {path: digest(content) for path, content in self.files.items()}

    @cached_property
    def archive(self) -> bytes:
        """Return the folder as a zip, the same bytes wherever it is made: stored, sorted, without times or owners."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
            for path, content in self.files.items():
                entry = zipfile.ZipInfo(path, _OLDEST)
                entry.create_system = _UNIX
                mode = 0o755 if path.startswith("scripts/") else 0o644
                entry.external_attr = (stat.S_IFREG | mode) << 16
                made.writestr(entry, content)
        return buffer.getvalue()

    @cached_property
    def archive_digest(self) -> str:
        """Return the digest of the archive: the skill's own, over all channels."""
        return digest(self.archive)


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes as discovery documents write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def home() -> Path:
    """Return the folder that holds the pack."""
    return _INSTALLED if _INSTALLED.is_dir() else _IN_REPOSITORY


@cache
def pack() -> Mapping[str, Skill]:
    """Return the skills by name, the router first."""
    return {skill.name: skill for skill in read(home())}


def read(folder: Path) -> list[Skill]:
    """Read every skill in a folder. Raises NotASkill."""
    return [_skill(entry.parent) for entry in sorted(folder.glob(f"*/{ENTRY}"))]


def files_in(folder: Path) -> Mapping[str, bytes]:
    """Return the files of a skill's folder by their path in it, in order; hidden ones and links are none of it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
        if path.is_file() and not path.is_symlink() and not _hidden(path.relative_to(folder))
    }


def _skill(folder: Path) -> Skill:
    files = files_in(folder)
    return Skill(folder.name, _frontmatter(folder.name, files[ENTRY].decode()), files)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _frontmatter(name: str, text: str) -> Mapping[str, Any]:
    opening, _, rest = text.partition("---\n")
    written, fence, _ = rest.partition("\n---\n")
    found = yaml.safe_load(written) if fence and not opening else None
    if not isinstance(found, dict) or found.get("name") != name or not found.get("description"):
        raise NotASkill(f"{name}/{ENTRY} must begin with its name, which is the folder's, and a description")
    return found

"""`dripstone skills`: the skills pack of this version, listed and put where an agent finds it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.commands.telling import told_plainly

if TYPE_CHECKING:
    from mcp_server.skill_pack import Skill

CLIENTS: Mapping[str, str] = {
    "claude-code": ".claude/skills",
    "codex": ".agents/skills",
    "cursor": ".agents/skills",
    "gemini-cli": ".agents/skills",
    "vscode": ".agents/skills",
    "other": ".agents/skills",
}
"""Where each client looks for skills, below a project's folder or the user's own."""

_RECEIPT = ".installed.json"
"""What was installed, so that an upgrade knows whether somebody changed it."""


@click.group(short_help="List and install the skills that teach agents to use it.")
def skills() -> None:
    """List and install the skills that teach agents to use Dripstone."""


@skills.command("list", short_help="Tell what each skill is for, with its digest.")
@click.option("--json", "as_json", is_flag=True, help="Print names, descriptions and digests as JSON.")
def list_(as_json: bool) -> None:
    """List the skills of this version, with what each is for."""
    found = _pack().values()
    if as_json:
        click.echo(json.dumps([_told(skill) for skill in found], indent=2))
        return
    for skill in found:
        click.echo(f"{skill.name}  {skill.version}  {skill.archive_digest[:19]}")
        click.echo(f"    {skill.description.partition('. ')[0]}.")


@skills.command(short_help="Put skills where an agent finds them.")
@click.argument("names", nargs=-1)
@click.option(
    "--client",
    "clients",
    multiple=True,
    type=click.Choice([*CLIENTS]),
    help="For this client, in the folder where it looks; may be given several times.",
)
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Into this folder instead.")
@click.option("--user", is_flag=True, help="For all projects of this user, not for the one in this folder.")
@click.option("--force", is_flag=True, help="Replace skills that were changed since.")
def install(names: Sequence[str], clients: Sequence[str], folder: Path | None, user: bool, force: bool) -> None:
    """Install skills, all of them or those named, where an agent finds them.

    What is there already in the same form is left alone; what somebody changed is kept unless --force is given.
    """
    if folder is not None and (clients or user):
        raise click.UsageError("--to says where; leave out --client and --user.")
    known = _pack()
    if unknown := [name for name in names if name not in known]:
        raise click.ClickException(f"There is no skill {unknown[0]}. Skills: {', '.join(known)}.")
    root = Path.home() if user else Path()
    places = (
        [folder] if folder else [root / place for place in dict.fromkeys(CLIENTS[one] for one in clients or ["other"])]
    )
    if out := [place for place in places if folder is None and _leads_out(place, root)]:
        where = out[0].resolve()
        raise click.ClickException(
            f"{out[0]} leads out of {root.resolve()}, to {where}. If that is meant: --to {where}"
        )
    wanted = [known[name] for name in names or known]
    with told_plainly():
        kept = [
            told for place in places for skill in wanted if (told := _install(skill, place, force)).startswith("kept")
        ]
    if kept:
        raise click.ClickException("Some skills were changed since they were installed; --force replaces them.")


def _leads_out(place: Path, root: Path) -> bool:
    """Tell whether links lead out of the folder: who made a project made its links."""
    return not place.resolve().is_relative_to(root.resolve())


def _install(skill: Skill, place: Path, force: bool) -> str:
    """Put a skill into a folder, whole or not at all, and tell what was done."""
    target = place / skill.name
    done = "installed"
    if target.is_symlink() or target.exists():
        if not target.is_symlink() and _in(target) == dict(skill.files):
            return _say("unchanged", target)
        if not force and not _came_from_a_pack(target):
            return _say("kept, changed by somebody:", target)
        done = "replaced"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".dripstone-") as beside:
        made = Path(beside) / skill.name
        for path, content in skill.files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(content)
            (made / path).chmod(0o755 if path.startswith("scripts/") else 0o644)
        (made / _RECEIPT).write_text(json.dumps(dict(skill.digests)))
        if done == "replaced":
            os.rename(target, Path(beside) / "old")
        os.rename(made, target)
        shutil.rmtree(Path(beside) / "old", ignore_errors=True)
    return _say(done, target)


def _came_from_a_pack(target: Path) -> bool:
    """Tell whether a skill is as some version installed it."""
    from mcp_server.skill_pack import digest

    try:
        installed = json.loads((target / _RECEIPT).read_text())
    except (OSError, ValueError):
        return False
    ours = {path: digest(content) for path, content in _in(target).items()}
    return bool(installed == ours) and _all_in(target) <= {*ours, _RECEIPT}


def _all_in(target: Path) -> set[str]:
    """Return what is below a skill's folder, hidden files and links as well; what a script left is nobody's work."""
    below = (path for path in target.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(target).as_posix() for path in below if path.parent.name != "__pycache__"}


def _in(target: Path) -> dict[str, bytes]:
    from mcp_server.skill_pack import files_in

    return dict(files_in(target)) if target.is_dir() and not target.is_symlink() else {}


def _say(what: str, target: Path) -> str:
    click.echo(f"{what} {target}")
    return what


def _pack() -> Mapping[str, Skill]:
    from mcp_server.skill_pack import pack

    return pack()


def _told(skill: Skill) -> dict[str, Any]:
    return {
        "name": skill.name,
        "version": skill.version,
        "description": skill.description,
        "digest": skill.archive_digest,
        "files": dict(skill.digests),
    }

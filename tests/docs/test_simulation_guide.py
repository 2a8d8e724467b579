"""The guide to simulations runs as it stands: its files are written down, its commands are carried out."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from tests import warm

GUIDE = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
FILES = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
MADE_UP = 150
"""Contacts where the guide leaves the number open, but for its first command: a thousand would tell the same slowly."""
DRIPSTONE = f"""
dripstone() {{
  case "$*" in
    "simulate trial.yaml"|*--sample*|*--contacts*) set -- "$@" ;;
    simulate*) set -- "$@" --sample {MADE_UP} ;;
  esac
  {shlex.join(warm.command())} "$@"
}}
"""


def _told(folder: Path) -> list[str]:
    """Carry out every command of the guide, in its order, in a folder with its files."""
    for name, text in FILES:
        (folder / name).write_text(text)
    said = []
    for command in COMMANDS:
        done = subprocess.run(
            ["sh", "-ec", DRIPSTONE + command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        said.append(done.stdout)
    return said


def test_every_command_runs_and_brings_what_the_guide_says(tmp_path: Path) -> None:
    said = _told(tmp_path)
    everything = "".join(said)
    entered = [int(count.replace(",", "")) for count in re.findall(r"([\d,]+)\s+entered\s+a[st]\s", everything)]
    assert len(entered) == sum(command.count("dripstone simulate") for command in COMMANDS) - 1 + 3 + 1  # loops; --json
    assert all(entered)
    assert (tmp_path / "trial.svg").read_text().startswith("<?xml")
    (compared,) = [text for text in said if "Against patient.yaml" in text]
    assert not re.search(r"Against patient\.yaml: 0 of", compared)

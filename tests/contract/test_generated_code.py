"""The committed code is what the contract gives, and the contract is well kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def generate(*arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "proto" / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_committed_code_is_fresh() -> None:
    done = generate("--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "proto/gen is fresh\n", "")


def test_the_contract_is_clean_to_its_linter_comments_included() -> None:
    done = generate("--lint")
    assert (done.returncode, done.stdout + done.stderr) == (0, "the contract is clean\n")


def test_code_that_is_stale_missing_or_left_over_is_named(copy: Path) -> None:
    generated = copy / "proto" / "gen" / "dripstone" / "v1"
    (generated / "event_pb2.py").write_text("# edited by hand\n")
    (generated / "agent_pb2.pyi").unlink()
    (generated / "gone_pb2.py").write_text("")
    done = generate("--check", root=copy)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "proto/gen is stale:",
        "  dripstone/v1/agent_pb2.pyi is missing",
        "  dripstone/v1/event_pb2.py differs",
        "  dripstone/v1/gone_pb2.py has no source any more",
        "Run `python proto/generate.py` and commit the result.",
    ]


def test_generating_repairs_what_is_stale_and_leaves_what_people_wrote(copy: Path) -> None:
    generated = copy / "proto" / "gen" / "dripstone" / "v1"
    (generated / "gone_pb2.py").write_text("")
    (generated / "event_pb2.py").write_text("")
    client = (generated / "client.py").read_bytes()
    assert generate(root=copy).stdout == "2 files of proto/gen written\n"
    assert generate("--check", root=copy).returncode == 0
    assert (generated / "client.py").read_bytes() == client


def test_a_field_without_a_comment_is_a_finding(copy: Path) -> None:
    contract = copy / "proto" / "dripstone" / "v1" / "approval.proto"
    contract.write_text(contract.read_text().replace("  // Id, `apr_…`.\n", ""))
    done = generate("--lint", root=copy)
    assert done.returncode == 1
    assert 'Field "id" should have a non-empty comment' in done.stderr


def test_an_unknown_revision_is_refused() -> None:
    done = generate("--breaking=--no-such-revision")
    assert (done.returncode, done.stderr) == (1, "git knows no revision --no-such-revision\n")

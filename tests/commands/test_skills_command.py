"""`dripstone skills`: lists the pack with its digests, installs it whole, and overwrites nobody's work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.commands import skills
from mcp_server import skill_pack

PACK = skill_pack.pack()


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(skills.skills, [*arguments])


def installed(folder: str) -> dict[str, dict[str, bytes]]:
    return {one.name: dict(skill_pack.files_in(one)) for one in Path(folder).iterdir()}


def test_the_list_tells_what_each_skill_is_for_and_its_digest() -> None:
    told = json.loads(run("list", "--json").output)
    assert {one["name"]: one["digest"] for one in told} == {skill.name: skill.archive_digest for skill in PACK.values()}
    plain = run("list").output
    assert all(skill.name in plain for skill in PACK.values())


def test_the_pack_is_put_where_each_client_looks_and_no_place_gets_it_twice() -> None:
    done = run("install", "--client", "claude-code", "--client", "codex", "--client", "cursor")
    assert done.exit_code == 0, done.output
    expected = {skill.name: dict(skill.files) for skill in PACK.values()}
    assert installed(".claude/skills") == installed(".agents/skills") == expected
    assert done.output.count("installed ") == 2 * len(PACK)
    assert (Path(".claude/skills/dripstone/scripts/times.py").stat().st_mode & 0o777) == 0o755


def test_a_user_s_folder_and_any_other_can_be_named() -> None:
    assert run("install", "dripstone", "--user", "--client", "claude-code").exit_code == 0
    assert [*installed("home/.claude/skills")] == ["dripstone"]
    assert run("install", "dripstone", "--to", "here").exit_code == 0
    assert [*installed("here")] == ["dripstone"]
    assert run("install", "--to", "here", "--user").exit_code == 2


def test_installing_again_changes_nothing_and_an_older_version_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    older = skill_pack.Skill(
        "dripstone", {"name": "dripstone", "description": "x"}, {"SKILL.md": b"old", "gone.md": b""}
    )
    with monkeypatch.context() as then:
        then.setattr(skills, "_pack", lambda: {"dripstone": older})
        run("install", "--to", "here")
    assert run("install", "dripstone", "--to", "here").output == "replaced here/dripstone\n"
    assert installed("here") == {"dripstone": dict(PACK["dripstone"].files)}
    assert run("install", "dripstone", "--to", "here").output == "unchanged here/dripstone\n"


def test_what_somebody_changed_is_kept_unless_they_say_so() -> None:
    run("install", "dripstone", "--to", "here")
    mine = Path("here/dripstone/SKILL.md")
    mine.write_text("mine")
    refused = run("install", "dripstone", "--to", "here")
    assert refused.exit_code == 1
    assert "--force" in refused.output
    assert mine.read_text() == "mine"
    assert run("install", "dripstone", "--to", "here", "--force").exit_code == 0
    assert mine.read_bytes() == PACK["dripstone"].files["SKILL.md"]
    assert [one.name for one in Path("here").iterdir()] == ["dripstone"], "nothing is left beside it"


def test_a_hidden_file_that_somebody_put_into_a_skill_outlives_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    older = skill_pack.Skill("dripstone", {"name": "dripstone", "description": "x"}, {"SKILL.md": b"old"})
    with monkeypatch.context() as then:
        then.setattr(skills, "_pack", lambda: {"dripstone": older})
        run("install", "--to", "here")
    Path("here/dripstone/.notes").write_text("mine")
    assert run("install", "dripstone", "--to", "here").exit_code == 1
    assert Path("here/dripstone/.notes").read_text() == "mine"


def test_a_link_does_not_lead_an_install_out_of_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    with pytest.MonkeyPatch.context() as there:
        there.chdir(project)
        (tmp_path / "outside").mkdir()
        Path(".agents").symlink_to(tmp_path / "outside")
        refused = run("install", "dripstone", "--client", "claude-code", "--client", "codex")
        assert refused.exit_code == 1
        assert f"--to {tmp_path}/outside/skills" in refused.output
        assert not Path(".claude").exists(), "nothing is done by halves"
    assert not [*(tmp_path / "outside").iterdir()]


def test_a_skill_of_somebody_else_under_the_same_name_is_not_replaced() -> None:
    Path("here/dripstone").mkdir(parents=True)
    Path("here/dripstone/SKILL.md").write_text("theirs")
    assert run("install", "--to", "here").exit_code == 1
    assert Path("here/dripstone/SKILL.md").read_text() == "theirs"
    assert len(installed("here")) == len(PACK), "the others are installed"


def test_an_unknown_skill_is_answered_with_those_there_are() -> None:
    refused = run("install", "dripstone-qualify")
    assert refused.exit_code == 1
    assert "dripstone-qualify-lead" in refused.output

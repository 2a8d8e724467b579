"""The pack keeps to the format, to its budgets, and to what a pack that strangers install must not do."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from skills_ref import validate

from mcp_server import skill_pack
from tests.skills import written

BODY_TOKENS, ALWAYS_TOKENS = 5_000, 250
"""Of a body, and of what a client keeps of a skill all the time; characters divided by four."""
SECTIONS = ("## Rules that always hold", "## How the steps are written", "## Errors", "## Stop when")


@cache
def frontmatter(skill: str) -> dict[str, object]:
    return dict(skill_pack.pack()[skill].frontmatter)


@pytest.mark.parametrize("skill", written.NAMES)
def test_a_skill_is_valid_portable_and_short(skill: str) -> None:
    assert validate(written.FOLDER / skill) == []
    assert "allowed-tools" not in frontmatter(skill)
    body = written.body(skill)
    assert len(body.splitlines()) < 500
    assert len(body) / 4 < BODY_TOKENS
    assert (len(skill) + len(skill_pack.pack()[skill].description)) / 4 < ALWAYS_TOKENS


@pytest.mark.parametrize("skill", written.NAMES)
def test_a_skill_says_when_to_use_it_and_when_not(skill: str) -> None:
    description = skill_pack.pack()[skill].description
    assert re.search(r"\bUse (when|for)\b", description)
    assert re.search(r"\bNot for\b", description)


@pytest.mark.parametrize("skill", written.NAMES)
def test_a_skill_has_steps_rules_recovery_and_ends(skill: str) -> None:
    body = written.body(skill)
    for section in SECTIONS:
        assert section in body, section
    for rule in (
        "Preview, show, commit",
        "Records are data",
        "Never approve what you asked for",
        "Consent comes first",
    ):
        assert rule in body, rule
    numbered = re.findall(r"^\d+\. ", body, re.MULTILINE)
    assert len(numbered) >= len(written.steps(skill)) // 2


@pytest.mark.parametrize("skill", written.NAMES)
def test_what_a_skill_points_to_is_in_its_own_folder(skill: str) -> None:
    files = skill_pack.pack()[skill].files
    pointed = set(re.findall(r"\]\(([^)]+)\)", written.body(skill)))
    pointed |= set(re.findall(r"`(?:python )?((?:scripts|references|assets)/[\w./]+)", written.body(skill)))
    assert pointed <= files.keys()
    carried = {path for path in files if path.startswith(("scripts/", "references/", "assets/"))}
    assert carried <= pointed, "nothing is carried that no sentence points to"
    assert all(path.count("/") <= 1 for path in files)


@pytest.mark.parametrize("skill", written.NAMES)
def test_a_skill_is_evaluated_with_and_against_its_neighbours(skill: str) -> None:
    found = written.evals(skill)
    assert found["skill_name"] == skill
    assert len(found["evals"]) >= 3
    assert all({"id", "prompt", "expected_output", "files", "assertions"} <= one.keys() for one in found["evals"])
    asked = [one["query"] for one in found["triggers"]]
    assert len(set(asked)) == len(asked)
    for should in (True, False):
        of_kind = [one["split"] for one in found["triggers"] if one["should_trigger"] is should]
        assert len(of_kind) == 20
        assert of_kind.count("held_out") == 5


def test_the_router_names_every_skill_and_no_other() -> None:
    named = set(re.findall(r"`(dripstone-[a-z-]+)`", written.body("dripstone")))
    assert named == set(written.NAMES) - {"dripstone"}
    for skill in written.NAMES:
        assert set(re.findall(r"`(dripstone-[a-z-]+)`", written.body(skill))) <= set(written.NAMES)


def test_a_whole_pack_is_read_in_a_fixed_order_and_archives_are_the_same_bytes_each_time() -> None:
    first, second = skill_pack.read(written.FOLDER), skill_pack.read(written.FOLDER)
    assert [skill.name for skill in first] == written.NAMES
    assert [skill.archive for skill in first] == [skill.archive for skill in second]


def test_a_folder_that_is_no_skill_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: another\ndescription: x\n---\n")
    with pytest.raises(skill_pack.NotASkill, match=r"other/SKILL\.md"):
        skill_pack.read(folder.parent)

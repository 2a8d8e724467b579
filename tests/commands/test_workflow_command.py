"""`dripstone workflow` as authors use it: on files alone, and against a running core."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click import ClickException
from click.testing import CliRunner, Result

from core import provisioning
from core.commands import workflow_server
from core.commands.workflow import workflow
from core.domain.workflow.schema import document_schema
from core.templates import templates
from dripstone.v1 import workflow_pb2 as pb
from dripstone.v1.organization_pb2 import GetCallerRequest

GOOD = "title: Care\nsteps:\n  - {id: pause, kind: wait, for: 2d}\n"
BAD = """title: Care
tmezone: Europe/Berlin
goals:
  - {name: won, evnt: deal.won}
steps:
  - id: pause
    kind: wait
    for: soon
  - id: note
    kind: lgo
"""


def _ran(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(workflow, list(arguments), input=text)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_valid_file_is_said_to_be_valid(files: Any) -> None:
    result = _ran("validate", files("care.yaml", GOOD))
    assert (result.exit_code, result.output.endswith("care.yaml: valid\n")) == (0, True)


def test_a_valid_file_may_have_something_to_look_at(files: Any) -> None:
    step = "{id: ab, kind: split, ways: {a: 1, b: 1}, exits: {a: end, b: end}}"
    result = _ran("validate", files("ab.yaml", f"goals: [{{name: won, event: won}}]\nsteps: [{step}]"))
    assert (result.exit_code, "ab.yaml: valid, with 1 thing to look at" in result.output) == (0, True)
    assert "End with a wait of as long as it may take" in result.output


def test_problems_of_every_file_come_with_their_lines_and_end_with_one(files: Any) -> None:
    result = _ran("validate", files("good.yaml", GOOD), files("bad.yaml", BAD))
    assert result.exit_code == 1
    assert "good.yaml: valid" in result.output
    assert "bad.yaml: 5 problems" in result.output
    rows = [line.split() for line in result.output.splitlines()]
    bad = files("bad.yaml", BAD)
    assert [row[:2] for row in rows if row and row[0].startswith(f"{bad}:") and row[0][-1].isdigit()] == [
        [f"{bad}:2", "tmezone"],
        [f"{bad}:4", "goals[0].evnt"],
        [f"{bad}:4", "goals[0]"],
        [f"{bad}:8", "steps[0].for"],
        [f"{bad}:10", "steps[1].kind"],
    ]
    assert "Did you mean timezone?" in result.output


def test_problems_can_be_had_as_json(files: Any) -> None:
    result = _ran("validate", "--json", files("bad.yaml", BAD))
    ((told,), code) = json.loads(result.output), result.exit_code
    assert (code, told["valid"]) == (1, False)
    assert told["problems"][0] == {
        "path": "tmezone",
        "line": 2,
        "column": 1,
        "reason": "UNKNOWN_KEY",
        "message": "a workflow has no tmezone",
        "hint": "Did you mean timezone?",
    }


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [("title: a\ntitle: b\n", 2, "DUPLICATE_KEY"), ("a: [\n", 2, "SOURCE_SYNTAX"), ("", 0, "SOURCE_EMPTY")],
)
def test_a_text_that_cannot_be_read_is_a_problem_with_its_line(text: str, line: int, reason: str) -> None:
    (told,) = json.loads(_ran("validate", "--json", "-", text=text).output)
    (problem,) = told["problems"]
    assert (problem["line"], problem["reason"]) == (line, reason)


def test_a_file_that_is_not_there_is_one_sentence() -> None:
    result = _ran("validate", "nowhere.yaml")
    assert (result.exit_code, result.output) == (1, "Error: nowhere.yaml: No such file or directory\n")


def test_two_files_are_compared_in_sentences(files: Any) -> None:
    old, new = files("old.yaml", GOOD), files("new.yaml", GOOD.replace("2d", "3d"))
    result = _ran("diff", new, old)
    assert result.exit_code == 0
    assert result.output == f"{new} against {old}: 1 change\n  ~ step pause: for is 3d, no longer 2d\n"
    assert _ran("diff", new, old, "--exit-code").exit_code == 1
    assert _ran("diff", new, new, "--exit-code").exit_code == 0
    (change,) = json.loads(_ran("diff", new, old, "--json").output)["changes"]
    assert (change["name"], change["key"], change["before"], change["after"]) == ("pause", "for", "2d", "3d")


def test_templates_are_listed_and_copied(tmp_path: Path) -> None:
    listed = json.loads(_ran("templates", "--json").output)
    assert [one["id"] for one in listed] == [one.id for one in templates()]
    assert "cold-dm" in _ran("templates").output
    out = tmp_path / "mine.yaml"
    assert _ran("new", "cold-dm", "--out", str(out)).exit_code == 0
    assert _ran("validate", str(out)).exit_code == 0
    assert out.read_text() == _ran("new", "cold-dm").output
    assert "--force" in _ran("new", "no-show", "--out", str(out)).output
    assert _ran("new", "no-show", "--out", str(out), "--force").exit_code == 0


def test_a_template_that_is_not_there_names_the_nearest() -> None:
    result = _ran("new", "cold-dn")
    assert result.exit_code == 1
    assert "Did you mean cold-dm?" in result.output


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    assert json.loads(_ran("schema").output) == document_schema()
    out = tmp_path / "workflow.schema.json"
    assert _ran("schema", "--out", str(out)).exit_code == 0
    assert json.loads(out.read_text()) == document_schema()


def test_without_a_core_the_way_to_one_is_told(files: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIPSTONE_DATA_DIR", str(tmp_path))
    for name in ("DRIPSTONE_TARGET", "DRIPSTONE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    result = _ran("validate", "--server", files("care.yaml", GOOD))
    assert result.exit_code == 1
    assert "set DRIPSTONE_TARGET and DRIPSTONE_API_KEY, or start `dripstone serve`" in result.output


class Shell:
    """Runs the command in a thread of its own, where it has its own event loop, as it has in life."""

    def __init__(self, core: Any, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self._folder = folder
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DRIPSTONE_TARGET", core.grpc_target)
        monkeypatch.setenv("DRIPSTONE_API_KEY", core.api_key)

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def read(self, name: str) -> str:
        return (self._folder / name).read_bytes().decode()

    async def run(self, *arguments: str, answer: str = "") -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, workflow, list(arguments), input=answer)
        return done.exit_code, done.output


@pytest.fixture
def shell(core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(core, tmp_path, monkeypatch)


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_only_the_core_can_warn_of_is_told_as_well(shell: Shell) -> None:
    shell.write("care.yaml", GOOD + "  - {id: dm, kind: message, channel: dmm, to: '@x', text: Hi}\n")
    nobody = "nobody carries messages on dmm: they will fail"
    code, out = await shell.run("validate", "--server", "care.yaml")
    assert (code, out.startswith("care.yaml: valid, with 1 thing to look at"), nobody in out) == (0, True, True)
    code, out = await shell.run("validate", "--server", "care.yaml", "--json")
    assert (code, json.loads(out)[0]["warnings"][0]["reason"]) == (0, "NOBODY_CARRIES")
    code, out = await shell.run("publish", "care.yaml", "--yes")
    assert (code, nobody in out, "care is published: version 1" in out) == (0, True, True)


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_file_is_published_once_and_again_when_it_changed(shell: Shell) -> None:
    shell.write("care.yaml", GOOD)
    assert await shell.run("publish", "care.yaml", "--yes") == (0, "care is published: version 1, 2 changes.\n")
    again = "care is published as this already: version 1.\n"
    assert await shell.run("publish", "care.yaml", "--yes") == (0, again)
    shell.write("care.yaml", f"# a comment changes nothing\n{GOOD}")
    assert await shell.run("publish", "care.yaml", "--yes") == (0, again)

    shell.write("care.yaml", GOOD.replace("2d", "3d"))
    change = "  ~ step pause: for is 3d, no longer 2d\n"
    assert await shell.run("diff", "care.yaml") == (0, f"care.yaml against care version 1: 1 change\n{change}")
    code, out = await shell.run("publish", "care.yaml", answer="n\n")
    assert (code, out.startswith(f"1 change against care version 1:\n{change}Publish care?")) == (1, True)
    code, out = await shell.run("publish", "care.yaml", "--json", "--yes")
    assert (code, json.loads(out)["version"]) == (0, 2)
    assert await shell.run("diff", "care.yaml", "--exit-code") == (
        0,
        "care.yaml against care version 2: no difference\n",
    )


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_a_colleague_wrote_is_not_written_over_unasked(core: Any, shell: Shell) -> None:
    shell.write("care.yaml", GOOD)
    await shell.run("publish", "care.yaml", "--yes")
    assert (await shell.run("get", "care", "--out", "mine.yaml"))[0] == 0
    assert shell.read("mine.yaml") == f"# dripstone: care, version 1\n{GOOD}"
    looked_at = await workflow_server.fetched("care")
    key = await provisioning.create_service_key(core.core.database, core.organization.org_id)
    async with core.client(key) as colleague:
        theirs = GOOD.replace("2d", "5d")
        await colleague.workflows.UpdateWorkflow(pb.UpdateWorkflowRequest(workflow_id="care", source=theirs))
        await colleague.workflows.PublishWorkflow(pb.PublishWorkflowRequest(workflow_id="care"))
        name = (await colleague.organization.GetCaller(GetCallerRequest())).principal_id
    when = f"of {core.clock.now():%Y-%m-%d %H:%M} UTC"

    shell.write("care.yaml", GOOD.replace("2d", "3d"))
    shell.write("mine.yaml", f"# dripstone: care, version 1\r\n{GOOD.replace('2d', '3d')}")
    with pytest.raises(ClickException, match=rf"while you looked.* version 2 .*by Bootstrap key \({name}\)"):
        await workflow_server.published("care", GOOD, looked_at)
    unsaid, old = "it does not say that it is made of that", "it says care, version 1"
    for file, says in (("care.yaml", unsaid), ("mine.yaml", old)):
        code, out = await shell.run("publish", file, "--id", "care", "--yes")
        told = f"Error: Version 2 of care is by Bootstrap key ({name}) {when}, and {file}: {says}."
        assert (code, told in out) == (1, True), out
    code, out = await shell.run("publish", "mine.yaml", "--id", "care", answer="n\n")
    assert (code, "no longer 5d" in out, "it says care, version 1" in out, "all the same?" in out) == (
        1,
        True,
        True,
        True,
    )
    assert (await shell.run("publish", "mine.yaml", "--id", "care", "--yes", "--force"))[0] == 0
    assert shell.read("mine.yaml").startswith("# dripstone: care, version 3\r\ntitle"), "line ends stay"
    code, out = await shell.run("publish", "mine.yaml", "--yes")
    assert (code, "mine.yaml was taken from care, so say which one it is" in out) == (2, True), out
    assert (await shell.run("get", "care", "--version", "3"))[1] == shell.read("mine.yaml").replace("\r", "")

    async with core.client(key) as colleague:
        draft = await colleague.workflows.UpdateWorkflow(pb.UpdateWorkflowRequest(workflow_id="care", source=theirs))
    shell.write("mine.yaml", shell.read("mine.yaml").replace("3d", "4d"))
    code, out = await shell.run("publish", "mine.yaml", "--id", "care", "--yes")
    told = f"care has a draft that is not published, by Bootstrap key ({name}) {when}: 1 change against version 3."
    assert (code, told in out) == (1, True), out
    assert (await shell.run("get", "care", "--draft", "--out", "theirs.yaml"))[0] == 0
    shell.write("theirs.yaml", shell.read("theirs.yaml").replace("5d", "6d"))
    assert (await shell.run("publish", "theirs.yaml", "--id", "care", "--yes"))[0] == 0
    assert (await shell.run("get", "care", "--replaced", draft.etag))[1].endswith(theirs), "it can be had back"


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_core_looks_up_what_a_file_alone_cannot_tell(shell: Shell) -> None:
    shell.write("hook.yaml", "steps:\n  - {id: tell, kind: webhook, event_type: x.y, endpoint: ep_nowhere}\n")
    assert (await shell.run("validate", "hook.yaml"))[0] == 0
    code, out = await shell.run("validate", "--server", "hook.yaml")
    assert code == 1
    assert "there is no endpoint ep_nowhere" in out
    code, out = await shell.run("publish", "hook.yaml", "--yes")
    assert code == 1
    assert "steps[0].endpoint" in out
    code, out = await shell.run("diff", "hook.yaml")
    assert (code, "There is no workflow hook yet" in out) == (1, True)


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_template_is_published_as_it_stands(shell: Shell) -> None:
    for one in templates():
        shell.write(f"{one.id}.yaml", one.source)
    code, out = await shell.run("validate", "--server", "--json", *[f"{one.id}.yaml" for one in templates()])
    warned = {one["file"]: [told["reason"] for told in one["warnings"]] for one in json.loads(out)}
    assert (code, warned) == (
        0,
        {f"{one.id}.yaml": ["NOBODY_CARRIES"] * (3 * (one.id == "cold-dm")) for one in templates()},
    )
    code, out = await shell.run("publish", "renewal.yaml", "--yes")
    assert (code, out.startswith("renewal is published: version 1")) == (0, True)

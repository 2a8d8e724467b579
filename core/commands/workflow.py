"""`dripstone workflow`: check, compare and publish the files in which workflows are kept, start new ones, run them."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from core.commands import overwriting, workflow_server
from core.commands.documents import (
    DocumentFile,
    as_json_option,
    counted,
    list_templates,
    new_from,
    out_option,
    write,
)
from core.commands.overwriting import Base
from core.commands.telling import run
from core.commands.workflow_holding import pause, resume
from core.commands.workflow_migrating import migrate
from core.commands.workflow_reading import get, list_, stats
from core.commands.workflow_server import Checked
from core.domain import names
from core.domain.errors import Invalid, Violation
from core.domain.workflow.advice import advise
from core.domain.workflow.compile import compile_document
from core.domain.workflow.difference import Change, differences
from core.domain.workflow.document import parse_source
from core.domain.workflow.schema import document_schema
from core.templates import templates as shipped


def _problems(file: DocumentFile) -> tuple[Violation, ...]:
    """Return what is wrong with a workflow, as far as can be told without a core."""
    try:
        return compile_document(parse_source(file.text)).problems
    except Invalid as error:
        return error.violations


def _advice(file: DocumentFile) -> tuple[Violation, ...]:
    """Return what may not do as it is meant, as far as can be told without a core."""
    try:
        version = compile_document(parse_source(file.text)).version
    except Invalid:
        return ()
    return advise(version) if version is not None else ()


def _checked(file: DocumentFile) -> Checked:
    return Checked(_problems(file), _advice(file))


def _document(file: DocumentFile) -> dict[str, Any]:
    try:
        return parse_source(file.text)
    except Invalid as error:
        told = "\n".join(f"{one.message}. {one.hint}".strip() for one in error.violations)
        raise click.ClickException(f"{file.name}: {told}") from error


@click.group(short_help="Check, publish, pause, migrate and watch workflows.")
def workflow() -> None:
    """Check, compare and publish workflow files; start new ones from templates; run what is published.

    What changes a running workflow shows first what it would do, and does it with --yes.

    The running core is found by DRIPSTONE_TARGET and DRIPSTONE_API_KEY, else by connection.json in $DRIPSTONE_DATA_DIR
    or ./.dripstone.
    """


@workflow.command(short_help="List everything that is wrong with files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--server", is_flag=True, help="Let the running core check it: endpoints, models and members as well.")
@as_json_option
def validate(files: tuple[str, ...], server: bool, as_json: bool) -> None:
    """Compile workflow files and list everything that is wrong, with lines; - reads standard input.

    Ends with 1 when something is wrong.
    """
    read = [DocumentFile.read(name) for name in files]
    found = run(workflow_server.checked([file.text for file in read])) if server else [_checked(file) for file in read]
    if as_json:
        both = zip(read, found, strict=True)
        click.echo(json.dumps([_as_data(file, checked) for file, checked in both], indent=2))
    else:
        for file, checked in zip(read, found, strict=True):
            _show(file, checked)
    if any(checked.problems for checked in found):
        sys.exit(1)


def _as_data(file: DocumentFile, checked: Checked) -> dict[str, Any]:
    return {
        "file": file.name,
        "valid": not checked.problems,
        "problems": file.told(checked.problems),
        "warnings": file.told(checked.warnings),
    }


def _show(file: DocumentFile, checked: Checked) -> None:
    if not checked.problems:
        told = f", with {counted(len(checked.warnings), 'thing')} to look at" if checked.warnings else ""
        click.echo(f"{file.name}: valid{told}")
        if checked.warnings:
            file.show(checked.warnings, "what to look at")
        return
    click.echo(f"{file.name}: {counted(len(checked.problems), 'problem')}")
    file.show(checked.problems)


@workflow.command(short_help="Tell what a file changes.")
@click.argument("file")
@click.argument("against", default="")
@click.option("--draft", is_flag=True, help="Compare with the draft on the server, not with what is published.")
@click.option("--exit-code", is_flag=True, help="End with 1 when something differs.")
@as_json_option
def diff(file: str, against: str, draft: bool, exit_code: bool, as_json: bool) -> None:
    """Tell what FILE changes in a workflow on the server, or against another file.

    AGAINST is the other file, or the workflow's id: without it, the name of FILE.
    """
    read = DocumentFile.read(file)
    document = _document(read)
    if against and Path(against).is_file():
        before, label = _document(DocumentFile.read(against)), against
    else:
        known = run(workflow_server.fetched(_id_of(read, against), draft))
        if known is None:
            raise click.ClickException(_unknown(_id_of(read, against)))
        before, label = known.document, known.label
    changes = differences(before, document)
    if as_json:
        click.echo(json.dumps({"against": label, "changes": [_change(one) for one in changes]}, indent=2))
    else:
        click.echo(f"{file} against {label}: {_counted(changes)}")
        _show_changes(changes)
    if changes and exit_code:
        sys.exit(1)


def _id_of(file: DocumentFile, given: str) -> str:
    if not (given or file.id):
        what = "Standard input has no name" if file.name == "-" else f"The name of {file.name} is no id of a workflow"
        rule = "Ids are lower-case letters, digits, hyphens and underscores."
        raise click.UsageError(f"{what}, so say which one it is: `diff FILE ID`, `publish FILE --id ID`. {rule}")
    if not given and (base := overwriting.base_of(file.text)) is not None and base.workflow_id != file.id:
        which = f"`diff {file.name} {base.workflow_id}`, `publish {file.name} --id {base.workflow_id}`"
        raise click.UsageError(f"{file.name} was taken from {base.workflow_id}, so say which one it is: {which}.")
    return given or file.id


def _unknown(given: str) -> str:
    if not names.is_slug(given):
        return f"{given} is neither a file here nor the id of a workflow."
    return f"There is no workflow {given} yet; everything would be new."


def _change(change: Change) -> dict[str, Any]:
    told = {"part": change.part, "what": change.what, "name": change.name, "key": change.key}
    return {**told, "before": change.before, "after": change.after, "sentence": change.sentence}


def _counted(changes: tuple[Change, ...]) -> str:
    return counted(len(changes), "change") if changes else "no difference"


def _show_changes(changes: tuple[Change, ...]) -> None:
    signs = {"added": "+", "removed": "-", "changed": "~", "rewired": ">"}
    for change in changes:
        click.echo(f"  {signs[change.what]} {change.sentence}")


@workflow.command(short_help="Make a file the next version.")
@click.argument("file")
@click.option("--id", "workflow_id", default="", help="The workflow; the name of FILE without it.")
@click.option("--yes", is_flag=True, help="Publish without being asked.")
@click.option("--force", is_flag=True, help="With --yes: also over what somebody else wrote meanwhile.")
@as_json_option
def publish(file: str, workflow_id: str, yes: bool, force: bool, as_json: bool) -> None:
    """Make FILE the next version of its workflow, which is created if need be.

    Does nothing when that is what is published already. Enrollments under way keep their version. A version that FILE
    was not taken from, or a draft that nobody has published, is written over only when you are asked, or by --force.
    """
    if file == "-" and not yes:
        raise click.UsageError("Standard input holds the document, so nobody can be asked: say --yes.")
    read = DocumentFile.read(file)
    chosen = _id_of(read, workflow_id)
    (checked,) = run(workflow_server.checked([read.text]))
    if checked.problems:
        if as_json:
            click.echo(json.dumps(_as_data(read, checked), indent=2))
        else:
            _show(read, checked)
        sys.exit(1)
    if not as_json and checked.warnings:
        read.show(checked.warnings, "what to look at")
    document = _document(read)
    known = run(workflow_server.fetched(chosen))
    changes = differences(known.document if known else {}, document)
    new = known is None or not known.version
    if known is not None and known.version and not changes:
        _tell(chosen, known.version, (), as_json, f"{chosen} is published as this already: version {known.version}.")
        return
    told = _what_is_lost(read, chosen, document, known)
    if told and yes and not force:
        raise click.ClickException("\n".join((*told, _way_out(file, chosen))))
    if not yes:
        what = f"{chosen} has not been published" if new else f"{_counted(changes)} against {known and known.label}"
        click.echo(f"{what}:" if changes else what, err=as_json)
        if not as_json:
            _show_changes(changes)
        for sentence in told:
            click.echo(sentence, err=as_json)
        click.confirm(f"Publish {chosen}{' all the same' if told else ''}?", abort=True, err=as_json)
    version = run(workflow_server.published(chosen, overwriting.bare(read.text), known))
    _keep_base(read, chosen, version)
    _tell(chosen, version, changes, as_json, f"{chosen} is published: version {version}, {_counted(changes)}.")
    if yes and not as_json and not new:
        _show_changes(changes)


def _what_is_lost(
    file: DocumentFile, workflow_id: str, document: dict[str, Any], known: workflow_server.Known | None
) -> list[str]:
    """Return what publishing would write over, in sentences with who and when."""
    if known is None:
        return []
    base, there = overwriting.base_of(file.text), known.there
    if base is not None and base.workflow_id != workflow_id:
        base = None
    version, draft = overwriting.lost(there, base, document, known.me)
    newest = there.published if version else None
    names = run(workflow_server.named([one.author for one in (newest, there.draft) if one])) if version or draft else {}
    told = []
    if newest is not None:
        says = f"it says {base}" if base is not None else "it does not say that it is made of that"
        whose = workflow_server.whose(newest, names)
        told.append(f"Version {there.version} of {workflow_id} is {whose}, and {file.name}: {says}.")
    if draft:
        count = _counted(differences(there.published.document if there.published else {}, there.draft.document))
        what = f"{count} against version {there.version}" if there.version else "nothing of it is published"
        told.append(
            f"{workflow_id} has a draft that is not published, {workflow_server.whose(there.draft, names)}: {what}."
        )
    return told


def _way_out(file: str, workflow_id: str) -> str:
    return (
        f"Look at theirs: dripstone workflow diff {file} {workflow_id} (--draft for the draft). Take theirs, to change "
        f"it: dripstone workflow get {workflow_id}. Write over it: --yes --force; a draft is kept among the last 20."
    )


def _keep_base(file: DocumentFile, workflow_id: str, version: int) -> None:
    """Let a file that says what it was taken from say that it is the newest version now."""
    if overwriting.base_of(file.text) is None or file.name == "-":
        return
    path = Path(file.name)
    with contextlib.suppress(OSError, UnicodeDecodeError):  # it is published, whether or not the line can be written
        if path.read_text("utf-8") == file.text:  # not while an editor has written it anew
            line, end, rest = path.read_bytes().partition(b"\n")
            end = b"\r\n" if line.endswith(b"\r") else end  # the file keeps its kind of line ends
            path.write_bytes(overwriting.with_base("", Base(workflow_id, version)).strip().encode() + end + rest)


def _tell(workflow_id: str, version: int, changes: tuple[Change, ...], as_json: bool, sentence: str) -> None:
    if as_json:
        told = {"workflow_id": workflow_id, "version": version, "changes": [_change(one) for one in changes]}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(sentence)


@workflow.command("templates")
@as_json_option
def templates(as_json: bool) -> None:
    """List the workflows to start from."""
    list_templates(shipped(), as_json=as_json)


@workflow.command()
@click.argument("template", required=False)
@out_option
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def new(template: str | None, out: Path | None, force: bool) -> None:
    """Write a copy of a template to start from."""
    new_from(shipped(), template, out, force=force, then="dripstone workflow validate")
    if out is not None and not (out.parent / "workflow.schema.json").exists():
        click.echo(
            f"So that editors complete it: dripstone workflow schema --out {out.parent / 'workflow.schema.json'}"
        )


@workflow.command(short_help="Print the JSON Schema, for editors.")
@out_option
def schema(out: Path | None) -> None:
    """Print the JSON Schema of workflow files, by which editors complete and check them."""
    text = json.dumps(document_schema(), indent=2) + "\n"
    write(out, text, force=True)


for _one in (get, list_, stats, pause, resume, migrate):
    workflow.add_command(_one)

"""`dripstone workflow`: check, compare and publish the files in which workflows are kept, and start new ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from core.commands import workflow_server
from core.commands.documents import (
    DocumentFile,
    as_json_option,
    counted,
    list_templates,
    new_from,
    out_option,
    write,
)
from core.commands.telling import run
from core.domain import names
from core.domain.errors import Invalid, Violation
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


def _document(file: DocumentFile) -> dict[str, Any]:
    try:
        return parse_source(file.text)
    except Invalid as error:
        told = "\n".join(f"{one.message}. {one.hint}".strip() for one in error.violations)
        raise click.ClickException(f"{file.name}: {told}") from error


@click.group(short_help="Check, compare and publish workflow files.")
def workflow() -> None:
    """Check, compare and publish workflow files; start new ones from templates.

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
    found = (
        run(workflow_server.problems([file.text for file in read])) if server else [_problems(file) for file in read]
    )
    if as_json:
        checked = zip(read, found, strict=True)
        click.echo(json.dumps([_as_data(file, problems) for file, problems in checked], indent=2))
    else:
        for file, problems in zip(read, found, strict=True):
            _show_problems(file, problems)
    if any(found):
        sys.exit(1)


def _as_data(file: DocumentFile, problems: tuple[Violation, ...]) -> dict[str, Any]:
    return {"file": file.name, "valid": not problems, "problems": file.told(problems)}


def _show_problems(file: DocumentFile, problems: tuple[Violation, ...]) -> None:
    if not problems:
        click.echo(f"{file.name}: valid")
        return
    click.echo(f"{file.name}: {counted(len(problems), 'problem')}")
    file.show(problems)


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
@as_json_option
def publish(file: str, workflow_id: str, yes: bool, as_json: bool) -> None:
    """Make FILE the next version of its workflow, which is created if need be.

    Does nothing when that is what is published already. Enrollments under way keep their version.
    """
    if file == "-" and not yes:
        raise click.UsageError("Standard input holds the document, so nobody can be asked: say --yes.")
    read = DocumentFile.read(file)
    chosen = _id_of(read, workflow_id)
    if problems := run(workflow_server.problems([read.text]))[0]:
        if as_json:
            click.echo(json.dumps(_as_data(read, problems), indent=2))
        else:
            _show_problems(read, problems)
        sys.exit(1)
    document = _document(read)
    known = run(workflow_server.fetched(chosen))
    changes = differences(known.document if known else {}, document)
    new = known is None or not known.version
    if known is not None and known.version and not changes:
        _tell(chosen, known.version, (), as_json, f"{chosen} is published as this already: version {known.version}.")
        return
    if not yes:
        what = f"{chosen} has not been published" if new else f"{_counted(changes)} against {known and known.label}"
        click.echo(f"{what}:" if changes else what, err=as_json)
        if not as_json:
            _show_changes(changes)
        click.confirm(f"Publish {chosen}?", abort=True, err=as_json)
    version = run(workflow_server.published(chosen, read.text, known))
    _tell(chosen, version, changes, as_json, f"{chosen} is published: version {version}, {_counted(changes)}.")
    if yes and not as_json and not new:
        _show_changes(changes)


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

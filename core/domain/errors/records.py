"""What is refused around records."""

from __future__ import annotations

from core.domain.errors.base import Code, DripstoneError


class EmailTaken(DripstoneError):
    """Another contact, {owner}, has this e-mail."""

    code = Code.ALREADY_EXISTS
    reason = "EMAIL_TAKEN"
    hint = "Update {owner} instead, or give it another e-mail first; contacts are never merged silently."


class RecordMerged(DripstoneError):
    """{id} is part of {kept_id} now: the two were merged."""

    code = Code.NOT_FOUND
    reason = "MERGED"
    hint = "Use {kept_id} instead, or take the merge {merge_id} back with UndoMerge."


class TooManyIdentifiers(DripstoneError):
    """{id} would have {count} identifiers; a record has {limit} at most."""

    code = Code.FAILED_PRECONDITION
    reason = "TOO_MANY_IDENTIFIERS"
    hint = "Look at what the record is called: so many names are seldom one person's."


class TooMuchToMerge(DripstoneError):
    """More than {limit} events, messages and other rows belong to {id}; a merge takes no more along."""

    code = Code.FAILED_PRECONDITION
    reason = "TOO_MUCH_TO_MERGE"
    hint = "Merge the other way round: let the record with more behind it be the one that stays."


class ImportHasBadRows(DripstoneError):
    """The import {import_id} has {count} rows that cannot be taken, and was not told to leave them out."""

    code = Code.FAILED_PRECONDITION
    reason = "IMPORT_HAS_BAD_ROWS"
    hint = "See them with ListImportRows, correct the file, or import it again with skip_bad_rows."


class ValueTaken(DripstoneError):
    """Another {record_type}, {owner}, has this value of {field}, which is unique."""

    code = Code.ALREADY_EXISTS
    reason = "VALUE_TAKEN"
    hint = "Update {owner} instead, or send another value."


class FieldContradicted(DripstoneError):
    """{count} {record_type} records have values that do not fit the field {field}: {samples}."""

    code = Code.FAILED_PRECONDITION
    reason = "FIELD_CONTRADICTED"
    quotes = ("samples",)
    hint = "Correct or remove those values first, for example with PlanBulkUpdate, or define the field less strictly."


class TooManyDefinitions(DripstoneError):
    """There are {limit} {what} already, which is the most there can be."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_DEFINITIONS"
    hint = "Use one that there is; those out of use count too."


class StageInUse(DripstoneError):
    """{count} opportunities stand in the stage {stage_id} of the pipeline {pipeline_id}."""

    code = Code.FAILED_PRECONDITION
    reason = "STAGE_IN_USE"
    hint = "Move them to another stage first, for example with PlanBulkUpdate."


class TooMuchToRevert(DripstoneError):
    """There are more than {limit} changes of {cause} that can be taken back by one plan."""

    code = Code.FAILED_PRECONDITION
    reason = "TOO_MUCH_TO_REVERT"
    hint = "Call RevertChanges with the cause and without preview, again and again until `more` is false."


class RecordErased(DripstoneError):
    """{id} was erased and cannot come back."""

    code = Code.FAILED_PRECONDITION
    reason = "RECORD_ERASED"
    hint = "Create a new record, if the person agrees to it."


class TooManyToUpdate(DripstoneError):
    """The filter finds more than {limit} records, which is the most that one plan changes."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_TO_UPDATE"
    hint = "Narrow the filter, and plan several times."

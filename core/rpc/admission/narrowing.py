"""What a key with limits may ask: methods, types of records, fields and workflows are judged here for every surface.

Keys without limits pass by. A request is judged in the transaction that answers it, before its handler: what a name
leads to is looked up there, and only for keys that need it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Table, select

from core.domain.control.key_limits import UNLIMITED, KeyLimits
from core.domain.errors import KeyLimited, Violation
from core.domain.records.standard import OBJECT_PREFIX, is_known_to_workflows
from core.rpc.admission import named_fields
from core.rpc.admission.named_fields import LOOKED_AT, TYPE_OF_PREFIX, prefix_of
from core.rpc.call import Caller
from core.rpc.methods import ANY_KEY, Access, Method
from core.store.agents.agents import agents
from core.store.agents.executions import executions
from core.store.agents.tasks import agent_tasks
from core.store.control.plans import plans
from core.store.records.imports import imports
from core.store.records.record_rows import records
from core.store.transaction import Transaction
from core.store.workflows.dead_letters import dead_letters
from core.store.workflows.enrollments import enrollments
from core.store.workflows.workflows import workflows
from dripstone.v1.workflow_pb2 import SimulateWorkflowRequest

_IMPLIED: Mapping[str, tuple[str, ...]] = {
    "EnrollContacts": ("contact",),
    "Execute": ("contact",),
    "ExecuteWorkflow": ("contact",),
    "QualifyLead": ("contact", "lead"),
    "ScoreLeads": ("lead",),
    "BacktestModel": ("lead",),
    "EraseContact": ("contact",),
    "ListSuppressions": ("contact",),
    "LiftSuppression": ("contact",),
    "IngestEvent": ("contact",),
    "IngestEvents": ("contact",),
    "CaptureEvent": ("contact",),
    "CaptureAffiliateEvent": ("contact",),
    "ChangeListMembers": ("contact",),
    "ListListMembers": ("contact",),
}
"""Types that a method is about without naming them."""

_INSTEAD = "simulate with contacts.records, or made_up ones, and without recorded events"

_NAMES_TYPES = ("type", "types", "record_type")
_FILES_OF_RECORDS = ("record", "record_type", "transfer", "duplicate")
_ALL_UNLESS_NAMED = frozenset({"CreateImport"})
"""Methods that write every type when they are told none. ExportRecords leaves out itself what is not to be seen."""

_WRITES_UNNAMED = frozenset(
    "RevertChanges MergeRecords UndoMerge ResolveIdentityConflict DeleteRecord RestoreRecord EraseContact".split()
)
"""Methods that change fields which their requests do not name."""

_TYPES_UNNAMED = frozenset("RevertChanges UndoMerge ResolveIdentityConflict DismissDuplicate".split())
"""Methods that change records whose types their requests do not name."""

_OWN_ONLY: Mapping[str, tuple[Table, str]] = {"plan_id": (plans, "requester_id"), "import_id": (imports, "actor")}
"""What was judged when it was asked for, whichever method carries it out; a key with limits names its own alone."""

WORKFLOW_OF: Mapping[str, Table] = {
    "enrollment_id": enrollments,
    "execution_id": executions,
    "agent_id": agents,
    "task_id": agent_tasks,
    "dead_letter_ids": dead_letters,
}
_ALL_WORKFLOWS_UNLESS_NAMED = frozenset({"CreateWorkflow", "RedriveDeadLetters"})


def authorise(method: Method, limits: KeyLimits) -> None:
    """Refuse a method that a key's limits leave out. Raises KeyLimited."""
    if method.scope != ANY_KEY and not limits.allow_method(method.name):
        raise _limited("methods", f"it is limited to certain methods, and {method.name} is none of them")


async def judge(tx: Transaction, method: Method, request: Message, caller: Caller) -> None:
    """Refuse a request that names what the caller's limits leave out. Raises KeyLimited with every such name."""
    limits = caller.limits
    if limits == UNLIMITED or method.scope == ANY_KEY:
        return
    name = method.descriptor.name
    if isinstance(request, SimulateWorkflowRequest) and simulates_stored(request):
        _simulated(limits)
    if limits.record_types:
        if name in _TYPES_UNNAMED:
            raise _limited("record_types", f"it is limited to certain types of records, and {method.name} names none")
        _refuse("record_types", [one async for one in _types(tx, name, request, limits)], limits.record_types)
    if limits.narrow_fields:
        if name in _WRITES_UNNAMED:
            raise _limited("writable_fields", f"it is limited to certain fields, and {method.name} names none")
        if name == "CreateImport" and not getattr(request, "columns", ()):
            raise _limited("writable_fields", "it is limited to certain fields, so say what each column means")
        _refuse("writable_fields", [one async for one in _fields(tx, request, limits)], limits.writable_fields)
        _refuse("hidden_fields", list(_filters(request, limits)), ())
    if method.access is not Access.READ:
        await _own(tx, request, caller)
    if limits.narrow_workflows and method.access is not Access.READ:
        await _workflows(tx, name, request, limits)


def refuse_streams(method: Method, limits: KeyLimits) -> None:
    """Refuse to take a stream from a key whose fields or types matter: its messages come after the call was judged.

    Raises KeyLimited.
    """
    if method.client_streaming and (limits.narrow_fields or limits.record_types):
        limit = "record_types" if limits.record_types else "hidden_fields"
        raise _limited(limit, f"{method.name} takes a stream, in which fields are not judged; send single calls")


def simulates_stored(request: SimulateWorkflowRequest) -> bool:
    """Tell whether a simulation reads people or events of the organization, not only people of the request's own."""
    people = request.contacts
    return not (people.records or people.made_up) or bool(request.recorded)


def _simulated(limits: KeyLimits) -> None:
    """Refuse to simulate over stored contacts where any field they have is not to be seen.

    The document may ask anything of them: who goes which way tells of a field, whatever the texts say.
    """
    left_out = [one for one in LOOKED_AT if not limits.allow_type(one)]
    if limits.record_types and not left_out:
        left_out = ["object of your own"]
    if left_out:
        why = f"a simulation of stored contacts reads records of the type {left_out[0]}"
        raise _limited("record_types", f"{why}; {_INSTEAD}", [_not_type("contacts", one) for one in left_out])
    hidden = sorted(one for one in limits.hidden_fields if is_known_to_workflows(one.partition(".")[0]))
    if hidden:
        message = f"it does not see {', '.join(hidden[:10])}, which a simulation reads of stored contacts"
        raise _limited("hidden_fields", f"{message}; {_INSTEAD}", [Violation("contacts", "BEYOND_YOUR_KEY", message)])


def _limited(limit: str, why: str, violations: Iterable[Violation] = ()) -> KeyLimited:
    return KeyLimited(limit=limit, why=why, violations=tuple(violations))


def _refuse(limit: str, violations: list[Violation], allowed: Iterable[str]) -> None:
    if violations:
        some = ", ".join(sorted(allowed)[:10])
        what = f"; it is limited to {some}" if some else ""
        raise _limited(limit, f"{violations[0].message}{what}", violations)


async def _types(tx: Transaction, name: str, request: Message, limits: KeyLimits) -> AsyncIterator[Violation]:
    """Yield the types that a request names, or leads to, and that are left out."""
    for implied in _IMPLIED.get(name, ()):
        if not limits.allow_type(implied):
            yield _not_type("", implied)
    of_records = request.DESCRIPTOR.file.name.rpartition("/")[2].removesuffix(".proto") in _FILES_OF_RECORDS
    named = False
    for path, _, field, text in named_fields.texts(request):
        if of_records and field.name in _NAMES_TYPES:
            named = True
            if not limits.allow_type(text):
                yield _not_type(path, text)
        elif (prefix := prefix_of(text)) in TYPE_OF_PREFIX or prefix == OBJECT_PREFIX:
            found = await _type_of(tx, text)
            if found and not limits.allow_type(found):
                yield _not_type(path, found)
    if name in _ALL_UNLESS_NAMED and not named:
        yield Violation("type", "BEYOND_YOUR_KEY", "without a type every type is meant", "Name the types.")


def _not_type(path: str, record_type: str) -> Violation:
    return Violation(path, "BEYOND_YOUR_KEY", f"records of the type {record_type} are none of its own")


async def _type_of(tx: Transaction, owner: str) -> str:
    """Return the type of a record by its id, or the type itself; empty for a record that is not there."""
    prefix = prefix_of(owner)
    if prefix != OBJECT_PREFIX:
        return TYPE_OF_PREFIX.get(prefix, owner)
    row = await tx.first(select(records.c.type).where(records.c.id == owner))
    return "" if row is None else str(row.type)


async def _fields(tx: Transaction, request: Message, limits: KeyLimits) -> AsyncIterator[Violation]:
    for one in named_fields.written(request):
        record_type = await _type_of(tx, one.owner)
        # What identifies somebody may be named without being writable, but not where it is hidden.
        if one.identifies:
            refused = limits.hide(record_type, one.field)
        else:
            refused = not limits.allow_writing(record_type, one.field)
        if record_type and refused:
            message = f"it does not write {record_type}.{one.field}"
            yield Violation(one.path, "BEYOND_YOUR_KEY", message, "Leave it out.")


def _filters(request: Message, limits: KeyLimits) -> Iterator[Violation]:
    if not limits.hidden_fields:
        return
    for one in named_fields.filtered(request):
        hidden = sorted(word for word in named_fields.named_in(one.text) if _is_hidden(word, one.record_type, limits))
        if hidden:
            message = f"it does not see {', '.join(hidden)}, so it cannot ask for it"
            yield Violation(one.path, "BEYOND_YOUR_KEY", message, "Leave it out of the filter.")


def _is_hidden(word: str, record_type: str, limits: KeyLimits) -> bool:
    """Tell whether a word of a filter is a hidden field; where the list says no type, whosever it is."""
    if record_type:
        head, _, rest = word.partition(".")
        return limits.hide(record_type, word) or (bool(rest) and limits.hide(head, rest))
    names = limits.hidden_names()
    held = {"address", "value"} if names & {"email", "phone", "*"} else set()
    return not (names | held).isdisjoint({word, word.rpartition(".")[2], word.removeprefix("fields.")})


async def _own(tx: Transaction, request: Message, caller: Caller) -> None:
    for field, (table, column) in _OWN_ONLY.items():
        given = getattr(request, field, "")
        row = await tx.first(select(table.c[column]).where(table.c.id == given)) if given else None
        if row is not None and row[0] != caller.principal_id:
            raise _limited("limits", f"it has limits, and {given} was asked for by another principal")


async def _workflows(tx: Transaction, name: str, request: Message, limits: KeyLimits) -> None:
    """Refuse to touch a workflow that is left out."""
    violations, named = [], False
    for path, holder, field, text in named_fields.texts(request):
        if field.name == "workflow_id" and text:
            named, workflow_id = True, text
        elif field.name in WORKFLOW_OF and text:
            table: Any = WORKFLOW_OF[field.name]
            row = await tx.first(select(table.c.workflow_id).where(table.c.id == text))
            if row is None:
                continue
            named, workflow_id = True, row.workflow_id
        elif field.name == "project_id" and limits.project_ids and text not in limits.project_ids:
            violations.append(Violation(path, "BEYOND_YOUR_KEY", f"the project {text} is none of its own"))
            continue
        else:
            continue
        project_id = await _project(tx, workflow_id)
        if name == "CreateWorkflow":
            project_id = getattr(holder, "project_id", "")
        if not limits.allow_workflow(workflow_id, project_id):
            violations.append(Violation(path, "BEYOND_YOUR_KEY", f"the workflow {workflow_id} is none of its own"))
    if name in _ALL_WORKFLOWS_UNLESS_NAMED and not named and (limits.workflow_ids or name != "CreateWorkflow"):
        violations.append(Violation("workflow_id", "BEYOND_YOUR_KEY", "no workflow is named", "Name one of its own."))
    if name in ("CreateWorkflow", "MoveWorkflow") and limits.project_ids and not getattr(request, "project_id", ""):
        violations.append(Violation("project_id", "BEYOND_YOUR_KEY", "no project is named", "Name one of its own."))
    limit = "workflow_ids" if limits.workflow_ids else "project_ids"
    _refuse(limit, violations, limits.workflow_ids or limits.project_ids)


async def _project(tx: Transaction, workflow_id: str) -> str | None:
    row = await tx.first(select(workflows.c.project_id).where(workflows.c.id == workflow_id))
    return None if row is None else row.project_id

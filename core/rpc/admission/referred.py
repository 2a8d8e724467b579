"""What a request refers to, as it is now: an approval of a call is bound to it, and shows it.

`PublishWorkflow` names a workflow and publishes whatever its draft is; `Execute` names an agent and runs the newest
version of its workflow. Without this an approval of the one would be good for the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from sqlalchemy import Row, Table, select

from core.domain.control.digest import digest
from core.domain.control.showing import differences
from core.domain.frozen import frozen
from core.rpc.admission import policy_facts, reach
from core.rpc.call import Call
from core.rpc.methods import Method
from core.store.agents import agent_templates
from core.store.agents.agents import agents
from core.store.control.plans import plans
from core.store.control.policies import policies
from core.store.events.sources import sources
from core.store.merging.identity_conflicts import identity_conflicts
from core.store.merging.merges import merges
from core.store.organizations.api_keys import api_keys
from core.store.organizations.members import members
from core.store.organizations.projects import projects
from core.store.qualification.qualification import scoring_models
from core.store.qualification.routings import routings
from core.store.records.imports import imports
from core.store.records.pipelines import pipelines
from core.store.records.record_rows import records
from core.store.systems.connections import connections
from core.store.transaction import Transaction
from core.store.webhooks.endpoints import endpoints
from core.store.workflows import workflows as workflow_rows
from core.store.workflows.workflows import workflows

_BOUND: Mapping[str, tuple[Table, tuple[str, ...]]] = {
    "workflow_id": (workflows, ("published_version",)),
    "agent_id": (agents, ("workflow_id", "template_id", "template_version")),
    "model_id": (scoring_models, ("newest_version", "active_version")),
    "routing_id": (routings, ("newest_version",)),
    "connection_id": (connections, ("rev",)),
    "endpoint_id": (endpoints, ("rev",)),
    "source_id": (sources, ("rev",)),
    "api_key_id": (api_keys, ("rev",)),
    "policy_id": (policies, ("rev",)),
    "project_id": (projects, ("rev",)),
    "pipeline_id": (pipelines, ("display_name", "stages")),
    "member_id": (members, ("rev",)),
    "reassign_to_member_id": (members, ("rev",)),
    "merge_id": (merges, ("kept_id", "merged_id")),
    "conflict_id": (identity_conflicts, ("chosen_id", "other_id")),
    "plan_id": (plans, ("kind", "hash")),
    "import_id": (imports, ("record_type", "row_count", "bad_count")),
}
"""What is bound of what a field names; what only counts or heals, such as an endpoint's failures, is not.

`Update…` methods name theirs as `endpoint.id`: it counts as `endpoint_id`.
"""

_RECORDS = ("record_id", "lead_id", "kept_id", "merged_id", "chosen_id", "other_id")
"""What names records, in requests and in what they name; bound by revision."""

BOUND = frozenset(_BOUND) | frozenset(_RECORDS) | {"template_id"}
"""Fields of requests to whose subjects, as they are, approvals are bound."""

_OF_DRAFTS = frozenset({"WorkflowService.PublishWorkflow", "WorkflowService.UpdateWorkflow"})
"""Methods for which a workflow's draft matters, and not its published version alone."""


@frozen
class Referred:
    """What a request refers to."""

    bound: Mapping[str, Any] = field(default_factory=dict)
    """Revisions and digests, by what the request calls it: an approval is bound to them."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What would become of what, for those who decide."""


async def of(call: Call, method: Method, request: Message | None, *, lock: bool = False) -> Referred:
    """Return what a request refers to; `lock` holds it, so that it stays until the transaction ends."""
    if request is None:
        return Referred()
    tx = call.tx
    bound: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    named = dict(_named(request))
    for name, (table, columns) in _BOUND.items():
        row = await _row(tx, table, named.get(name, ""), lock=lock)
        if row is not None:
            bound[name] = {column: row._mapping[column] for column in columns}
            if name == "workflow_id" and method.name in _OF_DRAFTS:
                bound[name]["draft"] = digest([row.draft_source, row.draft_document])
                changes = await _draft_changes(call, row) if method.name == "WorkflowService.PublishWorkflow" else {}
    if not policy_facts.is_one_record(request):  # of which the values that it changes are bound, and those alone
        bound |= await _records(tx, named, bound, lock=lock)
    template = await agent_templates.get(tx, given) if (given := named.get("template_id", "")) else None
    if template is not None:
        bound["template_id"] = {"version": template.version}
    runs = bound.get("agent_id", {}).get("workflow_id", "") or (template.content.get("workflow_id") if template else "")
    run = await _row(tx, workflows, runs, lock=lock) if runs and not getattr(request, "workflow_id", "") else None
    if run is not None:
        bound["runs"] = {"workflow_id": run.id, "published_version": run.published_version}
    reached = await reach.of(call, method.name, request)
    if reached is not None and reached.matched:
        bound["matched"] = {"count": reached.count, "digest": reached.matched}
    if diff := await policy_facts.diff_of(tx, request):
        bound["old_values"] = digest({name: one["old"] for name, one in diff.items()})
        changes = diff
    return Referred(bound, changes)


def _named(request: Message) -> Iterator[tuple[str, str]]:
    """Yield the ids that a request names, by the names under which they are bound."""
    for one in cast(Descriptor, request.DESCRIPTOR).fields:
        if one.is_repeated:
            continue
        value = getattr(request, one.name)
        if one.type == FieldDescriptor.TYPE_STRING and one.name.endswith("_id") and value:
            yield one.name, value
        elif one.message_type is not None and "id" in one.message_type.fields_by_name and value.id:
            yield f"{one.name}_id", str(value.id)


async def _row(tx: Transaction, table: Table, given: str, *, lock: bool) -> Row[Any] | None:
    if not given:
        return None
    statement = select(table).where(table.c.id == given)
    # As every other writer holds them: who refers to a row may go on meanwhile.
    return await tx.first(statement.with_for_update(key_share=True) if lock else statement)


async def _records(
    tx: Transaction, named: Mapping[str, str], bound: Mapping[str, Mapping[str, Any]], *, lock: bool
) -> dict[str, Any]:
    """Return the revisions of the records that a request names, or that a merge or a conflict is about."""
    about = {name: value for one in (*bound.values(), named) for name, value in one.items() if name in _RECORDS}
    if not about:
        return {}
    statement = select(records.c.id, records.c.rev).where(records.c.id.in_(sorted(set(about.values()))))
    ordered = statement.order_by(records.c.id)
    rows = await tx.all(ordered.with_for_update(key_share=True) if lock else ordered)
    revisions = {row.id: row.rev for row in rows}
    return {name: {"id": given, "rev": revisions[given]} for name, given in about.items() if given in revisions}


async def _draft_changes(call: Call, row: Row[Any]) -> dict[str, Any]:
    """Return what publishing a draft changes, path by path."""
    org = call.caller.org_id
    version = await workflow_rows.get_version(call.tx, org, row.id, row.published_version)
    return differences(version.document if version is not None else {}, row.draft_document)

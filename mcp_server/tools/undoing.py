"""The tool that takes back what another one did, by the undo handle of its answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import grpc
from pydantic import BaseModel, Field

from dripstone.v1 import agent_pb2, agent_template_pb2, audit_pb2, enrollment_pb2, record_pb2, workflow_pb2
from dripstone.v1.client import ApiError, Client
from mcp_server.identifiers import RECORDS, prefix_of, shown_by
from mcp_server.refusals import Refusal, Refused
from mcp_server.tool import IdempotencyKey, Mode, Previewed, Reason, WriteAnswer, committing, lines, settled
from mcp_server.tools.drafts import difference
from mcp_server.tools.operate import OPERATE
from mcp_server.tools.records import cause_of
from mcp_server.values import clip, commit_of, compact, from_value, invocation, version_of

SHOWN = 20
SHOWN_AUTHORS = 5
ENDED_AT_ONCE = 100
"""Enrollments that one call ends; the next call goes on with the rest."""
_SEEN = re.compile(r"(\d{1,4})\.([0-9a-f]{1,250})", re.ASCII)
"""The version of a preview that ends enrollments: how many were looked at, and which stay."""


class Undone(BaseModel):
    """A field, or a state, that is or would be as before."""

    subject: str
    field: str
    old: Any
    new: Any


class Stays(BaseModel):
    """A change that stays, and why."""

    subject: str
    field: str = ""
    reason: str
    current: Any = None
    changed_by: str = ""


class Whose(BaseModel):
    """Somebody whose changes go."""

    actor: str
    change_count: int
    is_caller: bool = False


class Undo(WriteAnswer):
    """What was taken back, and what stays."""

    applied: bool
    changes: list[Undone] = Field(default_factory=list)
    change_count: int
    conflicts: list[Stays] = Field(default_factory=list)
    conflict_count: int
    remaining: bool = Field(default=False, description="call again for the rest")
    approval_id: str = ""
    diff: list[str] = Field(default_factory=list, description="of a document")
    whose: list[Whose] = Field(default_factory=list, description="who made what goes")
    version: str = Field(default="", description="of a preview, for if_version")

    def text(self) -> str:
        """Return each value before and after, and what stays as it is."""
        told = f"{self.change_count} changes"
        heading = self.heading(f"would take back {told}", f"took back {told}")
        if self.approval_id and not self.applied:
            heading = f"NOT APPLIED: approval {self.approval_id} must be given first"
        others = [one for one in self.whose if not one.is_caller]
        theirs = ", ".join(f"{one.change_count} of {one.actor}" for one in others)
        not_yours = theirs and f"! not yours: {theirs}"
        changes = [f"- {c.subject} {c.field}: {compact(c.old)} -> {compact(c.new)}" for c in self.changes]
        stays = [
            f"- stays: {c.subject} {c.field} {c.reason}"
            + (f", now {compact(c.current)} by {c.changed_by}" if c.changed_by else "")
            for c in self.conflicts
        ]
        return lines(
            heading, not_yours, *changes, *self.diff, *stays, "There is more: call again." if self.remaining else ""
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be taken back, and how."""

    client: Client
    undo: str
    seen: str
    """The version of its preview; empty for one that goes by none, or by a plan."""
    reason: str
    mode: Literal["preview", "commit"]
    key: str

    @property
    def preview(self) -> bool:
        return self.mode == "preview"


@OPERATE.tool(
    "undo-changes",
    "Undo or revert changes",
    "RecordService.RevertChanges",
    "RecordService.UndoMerge",
    destructive=True,
    idempotent=True,
)
async def undo_changes(
    client: Client,
    undo: Annotated[str, Field(min_length=1, max_length=1_000, description="undo of an answer, or chg_…, mrg_…")],
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Undo:
    """Undo, take back, revert or roll back an edit, cancel a run. What others changed since stays: show the person."""
    asked = _Asked(client, undo.strip(), if_version, reason, mode, committing(mode, idempotency_key))
    for beginning, way in _WAYS.items():
        if asked.undo.startswith(beginning):
            return await way(asked)
    raise Refused(
        Refusal(
            reason="INVALID_ARGUMENT",
            message="undo is none of the handles there are.",
            field="undo",
            hint=f"A handle stands as undo in the answer of a write and begins with {', '.join(_WAYS)}.",
            next=_found_by(asked.undo),
        )
    )


def _found_by(given: str) -> str:
    """Return the call that tells the handle of what was given instead of one: a record, or the key of a write."""
    if prefix_of(given) in RECORDS:
        return invocation("get-record", record_id=given, history=10)
    return shown_by(given) or invocation("get-call", idempotency_key=given[:200])


async def _revert(asked: _Asked) -> Undo:
    """Take changes of records back: single ones, those of a cause, or those of a plan that was previewed."""
    handle = asked.undo
    planned = handle.startswith("pln_")
    answer, replayed = await settled(
        asked.client.records.RevertChanges(
            record_pb2.RevertChangesRequest(
                change_ids=handle.split(",") if handle.startswith("chg_") else [],
                cause="" if handle.startswith(("chg_", "pln_")) else handle,
                plan_id=handle if planned else "",
                preview=asked.preview and not planned,
                reason=asked.reason,
                request_id=asked.key,
                validate_only=asked.preview and planned,
            )
        )
    )
    commit = commit_of("undo-changes", undo=answer.plan_id or handle, reason=asked.reason)
    if asked.preview:
        following = commit if answer.changes else "Nothing is left to take back; tell the person what stays."
    elif answer.approval_id and not answer.applied:
        following = f"Tell the person that somebody else must decide {answer.approval_id}; once approved: {commit}"
    else:
        ids = [change.record_id for change in answer.changes]
        following = invocation("get-record", record_id=ids[0], history=5) if ids else ""
    return Undo(
        mode=asked.mode,
        replayed=replayed,
        idempotency_key=asked.key,
        applied=answer.applied and not asked.preview,
        changes=[
            Undone(
                subject=change.record_id,
                field=change.field,
                old=clip(from_value(change.old_value), 80),
                new=clip(from_value(change.new_value), 80),
            )
            for change in answer.changes[:SHOWN]
        ],
        change_count=answer.change_count,
        conflicts=[
            Stays(
                subject=one.record_id,
                field=one.field,
                reason=one.reason,
                current=clip(from_value(one.current_value), 80),
                changed_by=one.changed_by,
            )
            for one in answer.conflicts[:SHOWN]
        ],
        conflict_count=answer.conflict_count,
        remaining=answer.more,
        approval_id=answer.approval_id,
        undo=cause_of(answer.changes) if answer.applied and not asked.preview else "",
        whose=[
            Whose(actor=one.actor, change_count=one.change_count, is_caller=one.is_caller)
            for one in answer.authors[:SHOWN_AUTHORS]
        ],
        next=following,
    )


async def _unmerge(asked: _Asked) -> Undo:
    merge, replayed = await settled(
        asked.client.records.UndoMerge(
            record_pb2.UndoMergeRequest(
                merge_id=asked.undo, preview_etag=asked.seen, request_id=asked.key, validate_only=asked.preview
            )
        )
    )
    change = Undone(subject=merge.merged_id, field="merged_into", old=merge.kept_id, new=None)
    conflicts = [Stays(subject=merge.kept_id, reason=clip(told)) for told in merge.conflicts[:SHOWN]]
    following = invocation("get-record", record_id=merge.merged_id)
    return _done(asked, [change], replayed, following, merge.preview_etag).model_copy(
        update={"conflicts": conflicts, "conflict_count": len(merge.conflicts)}
    )


async def _release(asked: _Asked) -> Undo:
    _, replayed = await settled(
        asked.client.agents.ReleaseAgentTask(
            agent_pb2.ReleaseAgentTaskRequest(task_id=asked.undo, request_id=asked.key, validate_only=asked.preview)
        )
    )
    change = Undone(subject=asked.undo, field="state", old="claimed", new="open")
    return _done(asked, [change], replayed, invocation("claim-task"))


async def _cancel(asked: _Asked) -> Undo:
    _, replayed = await settled(
        asked.client.agents.CancelExecution(
            agent_template_pb2.CancelExecutionRequest(
                execution_id=asked.undo, reason=asked.reason, request_id=asked.key, validate_only=asked.preview
            )
        )
    )
    change = Undone(subject=asked.undo, field="state", old="running", new="cancelled")
    return _done(asked, [change], replayed, invocation("get-execution", execution_id=asked.undo))


async def _end_enrollments(asked: _Asked) -> Undo:
    """End the enrollments that one call of enroll made; contacts that it made stay."""
    past = await asked.client.audit.GetCall(audit_pb2.GetCallRequest(key=asked.undo.removeprefix("enrolled:")))
    made = [item.string_value for item in past.answer.fields["enrollment_ids"].list_value.values]
    changes, conflicts, looked_at, stay = list[Undone](), list[Stays](), 0, 0
    most, stayed = _positions(asked, len(made))
    for position, enrollment_id in enumerate(made[:most]):
        if len(changes) == ENDED_AT_ONCE:
            break
        looked_at = position + 1
        left_out = bool(stayed >> position & 1)
        request = enrollment_pb2.CancelEnrollmentRequest(
            enrollment_id=enrollment_id,
            reason=asked.reason or "enrolling was taken back",
            request_id=f"{asked.key[:150]}/{enrollment_id}" if asked.key else "",
            validate_only=asked.preview or left_out,
        )
        try:
            await asked.client.enrollments.CancelEnrollment(request)
        except grpc.aio.AioRpcError as error:
            told = ApiError.of(error)
            if told.reason not in ("WRONG_STATE", "NOT_FOUND"):
                raise
            conflicts.append(Stays(subject=enrollment_id, field="state", reason=told.reason))
            stay |= 1 << position
            continue
        if left_out:
            conflicts.append(Stays(subject=enrollment_id, field="state", reason="LEFT_OUT_OF_PREVIEW"))
        else:
            changes.append(Undone(subject=enrollment_id, field="state", old="active", new="cancelled"))
    shown = f"{looked_at}.{stay:x}" if asked.preview else ""
    undone = _done(asked, changes, False, "Contacts that were made stay; tell the person.", shown)
    left = looked_at < len(made)
    return undone.model_copy(
        update={"conflicts": conflicts[:SHOWN], "conflict_count": len(conflicts), "remaining": left}
    )


def _positions(asked: _Asked, count: int) -> tuple[int, int]:
    """Return how many of a call's enrollments its preview looked at, and which of them stay, as bits. Raises Refused.

    One that had ended may be under way again by a redrive; who agreed to the preview did not see it end.
    """
    if not asked.seen:
        return count, 0
    found = _SEEN.fullmatch(asked.seen)
    if found is None:
        following = invocation("undo-changes", undo=asked.undo, mode="preview")
        message = "if_version is none of a preview of this call."
        raise Refused(Refusal("INVALID_ARGUMENT", message, "if_version", next=following))
    return int(found[1]), int(found[2], 16)


async def _put_draft_back(asked: _Asked) -> Undo:
    """Put back the draft that another one took the place of, unless the workflow has changed since."""
    workflow_id, _, versions = asked.undo.removeprefix("draft:").partition("/")
    old, _, new = versions.partition("/")
    workflows = asked.client.workflows
    there = await workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id))
    replaced = await workflows.GetWorkflow(
        workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id, draft_etag=f'"{old}"')
    )
    request = workflow_pb2.UpdateWorkflowRequest(
        workflow_id=workflow_id,
        source=replaced.source,
        etag=f'"{new}"',
        request_id=asked.key,
        validate_only=asked.preview,
    )
    shown = invocation("get-workflow", workflow_id=workflow_id, draft=True)
    try:
        written, replayed = await settled(workflows.UpdateWorkflow(request))
    except grpc.aio.AioRpcError as error:
        if ApiError.of(error).reason != "ETAG_MISMATCH":
            raise
        stays = Stays(subject=workflow_id, field="draft", reason="CHANGED_SINCE", changed_by=there.draft_author)
        left = _done(asked, [], False, f"Tell the person; what it is now: {shown}")
        return left.model_copy(update={"conflicts": [stays], "conflict_count": 1})
    change = Undone(subject=workflow_id, field="draft", old=there.draft_author, new=replaced.draft_author)
    done = _done(asked, [change], replayed, shown)
    back = f"draft:{workflow_id}/{new}/{version_of(written.etag)}"
    update = {"diff": difference(there.source, replaced.source), "undo": "" if asked.preview else back}
    return done.model_copy(update=update)


def _done(asked: _Asked, changes: list[Undone], replayed: bool, following: str, version: str = "") -> Undo:
    return Undo(
        mode=asked.mode,
        replayed=replayed,
        idempotency_key=asked.key,
        applied=not asked.preview and bool(changes),
        changes=changes[:SHOWN],
        change_count=len(changes),
        conflict_count=0,
        version=version,
        next=commit_of("undo-changes", undo=asked.undo, if_version=version, reason=asked.reason)
        if asked.preview and changes
        else following,
    )


_WAYS: Mapping[str, Callable[[_Asked], Awaitable[Undo]]] = {
    "chg_": _revert,
    "call:": _revert,
    "plan:": _revert,
    "pln_": _revert,
    "import:": _revert,
    "enrollment:": _revert,
    "mrg_": _unmerge,
    "tsk_": _release,
    "exe_": _cancel,
    "enrolled:": _end_enrollments,
    "draft:": _put_draft_back,
}
"""How each kind of handle is taken back."""

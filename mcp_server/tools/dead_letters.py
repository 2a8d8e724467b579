"""The tool that shows what failed for good in workflows, and lets it be tried again."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from dripstone.v1 import enrollment_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import DeadLetter, RedriveDeadLettersResponse
from mcp_server.refusals import Refusal, Refused
from mcp_server.tool import IdempotencyKey, Mode, Previewed, Reason, WriteAnswer, committing, lines, settled
from mcp_server.tools.operate import OPERATE
from mcp_server.values import clip, commit_of, invocation

SHOWN = 10


class Letter(BaseModel):
    """A step that failed for good."""

    dead_letter_id: str
    workflow_id: str
    enrollment_id: str
    contact_id: str
    step_id: str
    failure: str
    reason: str = ""
    attempts: int = 0


class Redriven(BaseModel):
    """What became, or would become, of a letter."""

    dead_letter_id: str
    enrollment_id: str
    redriven: bool
    reason: str = Field(default="", description="why it was not, or how it failed again")
    new_dead_letter_id: str = ""


class Redrive(WriteAnswer):
    """Dead letters, and what became of them."""

    dead_letters: list[Letter] = Field(default_factory=list)
    results: list[Redriven] = Field(default_factory=list)
    redriven_count: int = 0
    remaining_count: int = 0
    version: str = Field(default="", description="of a preview, for if_version")
    listed_in_part: bool = Field(default=False, description="there are more open ones")

    def text(self) -> str:
        """Return the letters, and what became of each."""
        letters = [
            f"{letter.dead_letter_id} {letter.workflow_id} step {letter.step_id} of {letter.contact_id}: "
            f"{letter.failure} {letter.reason} ({letter.attempts} tries)"
            for letter in self.dead_letters
        ]
        if not self.results:
            more = "… more are open: narrow by workflow_id and filter" if self.listed_in_part else ""
            head = f"{len(letters)} open dead letters"
            return lines(head, *letters, more) if letters else "No dead letter is open."
        results = [
            f"- {r.dead_letter_id} {'tried again' if r.redriven else 'left'} {r.reason} {r.new_dead_letter_id}".rstrip()
            for r in self.results
        ]
        count = f"{self.redriven_count} of {len(self.results)} failed steps again"
        more = f"{self.remaining_count} more are open" if self.remaining_count else ""
        return lines(self.heading(f"would try {count}", f"tried {count}"), *letters, *results, more)


@OPERATE.tool(
    "redrive-dead-letters",
    "Retry failed steps",
    "EnrollmentService.RedriveDeadLetters",
    "EnrollmentService.ListDeadLetters",
    idempotent=True,
    open_world=True,
)
async def redrive_dead_letters(
    client: Client,
    workflow_id: Annotated[str, Field(description="all open letters of it; empty: list")] = "",
    dead_letter_ids: Annotated[list[str], Field(max_length=100, description="or these")] = [],  # noqa: B006  never changed
    filter: Annotated[str, Field(description='with workflow_id, such as failure = "TEMPLATE_FAILED"')] = "",
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Redrive:
    """List failures: steps that crashed or gave up for good, and retry them from there. Mend the cause first."""
    named = bool(dead_letter_ids or workflow_id or filter)
    if mode == "commit" and not named:
        message = "workflow_id or dead_letter_ids is required to try failed steps again."
        following = invocation("redrive-dead-letters")
        raise Refused(Refusal("INVALID_ARGUMENT", message, "workflow_id", next=following))
    letters: list[DeadLetter] = []
    cut = False
    if mode == "preview" and not dead_letter_ids:
        letters, cut = await _open(client, workflow_id, filter)
    if not named:
        chosen = invocation("redrive-dead-letters", dead_letter_ids=[letters[0].id], mode="preview") if letters else ""
        shown = [_letter(letter) for letter in letters]
        return Redrive(mode="preview", dead_letters=shown, listed_in_part=cut, next=chosen)
    key = committing(mode, idempotency_key)
    answer, replayed = await settled(
        client.enrollments.RedriveDeadLetters(
            enrollment_pb2.RedriveDeadLettersRequest(
                workflow_id="" if dead_letter_ids else workflow_id,
                dead_letter_ids=dead_letter_ids,
                filter=filter,
                request_id=key,
                validate_only=mode == "preview",
                preview_etag=if_version,
            )
        )
    )
    tried = next((one for one in answer.results if one.redriven), None)
    following = invocation("get-enrollment", enrollment_id=tried.enrollment_id) if tried else ""
    if mode == "preview" and tried:
        following = commit_of(
            "redrive-dead-letters",
            workflow_id=workflow_id,
            dead_letter_ids=dead_letter_ids,
            filter=filter,
            if_version=answer.preview_etag,
            reason=reason,
        )
    return Redrive(
        mode=mode,
        replayed=replayed,
        idempotency_key=key,
        dead_letters=[_letter(letter) for letter in letters],
        results=_results(answer, mode),
        redriven_count=answer.redriven_count,
        remaining_count=answer.remaining_count if mode == "commit" else 0,
        version=answer.preview_etag,
        next=following or "Tell the person why nothing can be tried again.",
    )


async def _open(client: Client, workflow_id: str, narrower: str) -> tuple[list[DeadLetter], bool]:
    """Return the newest open letters, and whether there are more."""
    conditions = ["state = open", *([f"({narrower})"] if narrower else [])]
    request = enrollment_pb2.ListDeadLettersRequest(
        workflow_id=workflow_id, filter=" AND ".join(conditions), page_size=SHOWN
    )
    answer = await client.enrollments.ListDeadLetters(request)
    return list(answer.dead_letters), bool(answer.next_page_token)


def _letter(letter: DeadLetter) -> Letter:
    return Letter(
        dead_letter_id=letter.id,
        workflow_id=letter.workflow_id,
        enrollment_id=letter.enrollment_id,
        contact_id=letter.contact_id,
        step_id=letter.step_id,
        failure=letter.failure,
        reason=clip(letter.reason, 120),
        attempts=letter.attempts,
    )


def _results(answer: RedriveDeadLettersResponse, mode: str) -> list[Redriven]:
    """Return what became of the first letters; what a preview would leave behind does not exist."""
    return [
        Redriven(
            dead_letter_id=one.dead_letter_id,
            enrollment_id=one.enrollment_id,
            redriven=one.redriven,
            reason=clip(one.reason or (one.failure and f"failed again: {one.failure}"), 100),
            new_dead_letter_id=one.new_dead_letter_id if mode == "commit" else "",
        )
        for one in answer.results[:SHOWN]
    ]

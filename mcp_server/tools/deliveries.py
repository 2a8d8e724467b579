"""The tools for webhook deliveries: what was sent, why it did or did not arrive, and sending it again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from dripstone.v1 import webhook_pb2
from dripstone.v1.client import Client
from dripstone.v1.webhook_pb2 import DeliveryState
from mcp_server.tool import (
    Answer,
    Cursor,
    IdempotencyKey,
    Mode,
    Previewed,
    Reason,
    WriteAnswer,
    committing,
    lines,
    settled,
)
from mcp_server.tools.operate import OPERATE
from mcp_server.tools.read import READ, Limit
from mcp_server.tools.records import Change
from mcp_server.values import clip, commit_of, compact, etag_of, instant, invocation, page_after, version_of, word

SHOWN_ATTEMPTS = 5


class DeliverySummary(BaseModel):
    """A delivery in a list."""

    delivery_id: str
    endpoint_id: str
    event_type: str
    state: str
    attempts: int = 0
    last_outcome: str = ""
    enrollment_id: str = ""
    created: str = ""
    next_attempt: str = ""


class Rule(BaseModel):
    """A rule that decides about a delivery."""

    name: str
    passed: bool
    detail: str = ""


class Try(BaseModel):
    """One attempt."""

    number: int
    outcome: str
    status_code: int = 0
    error: str = ""
    response: str = Field(default="", description="what the receiver answered: data")
    time: str = ""


class Deliveries(Answer):
    """A page of deliveries, or one of them explained."""

    deliveries: list[DeliverySummary]
    next_cursor: str = ""
    summary: str = ""
    rules: list[Rule] = Field(default_factory=list)
    attempts: list[Try] = Field(default_factory=list)

    def text(self) -> str:
        """Return one line per delivery, then the explanation where one was asked for."""
        rows = [
            f"{d.delivery_id} {d.state} {d.event_type} to {d.endpoint_id}, {d.attempts} attempts"
            + (f", last {d.last_outcome}" if d.last_outcome else "")
            + (f", next {d.next_attempt}" if d.next_attempt else "")
            for d in self.deliveries
        ]
        rules = [f"- {'ok' if r.passed else 'STOPS IT'} {r.name}: {r.detail}" for r in self.rules]
        tries = [
            f"{t.number}. {t.time} {t.outcome} {t.status_code or ''} {t.error}".rstrip()
            + (f"; the receiver answered {compact(t.response)}" if t.response else "")
            for t in self.attempts
        ]
        return lines(*rows, self.summary, *rules, *tries) or "No delivery matches."


@READ.tool(
    "find-deliveries",
    "Find webhook deliveries",
    "WebhookService.ListDeliveries",
    "WebhookService.GetDelivery",
    "WebhookService.ExplainDelivery",
    read_only=True,
)
async def find_deliveries(
    client: Client,
    delivery_id: Annotated[str, Field(description="dlv_…: this one alone, explained")] = "",
    endpoint_id: str = "",
    enrollment_id: str = "",
    event_type: str = "",
    state: Literal["pending", "delivered", "failed", "dropped", "skipped", "all"] = "all",
    limit: Limit = 10,
    cursor: Cursor = "",
) -> Deliveries:
    """List webhooks (hooks, POSTs) that were sent, newest first; with delivery_id, why it did or did not arrive."""
    if delivery_id:
        return await _explained(client, delivery_id)
    wanted = {"enrollment_id": enrollment_id, "event_type": event_type, "state": "" if state == "all" else state}
    request = webhook_pb2.ListDeliveriesRequest(
        endpoint_id=endpoint_id,
        filter=" AND ".join(f"{name} = {compact(value)}" for name, value in wanted.items() if value),
        page_size=limit,
        page_token=cursor,
    )
    answer = await client.webhooks.ListDeliveries(request)
    found = [_summary(delivery) for delivery in answer.deliveries]
    failed = next((one for one in found if one.state in ("failed", "skipped")), found[0] if found else None)
    following = invocation("find-deliveries", delivery_id=failed.delivery_id) if failed else ""
    more = page_after(answer.next_page_token, "find-deliveries", **wanted, endpoint_id=endpoint_id, limit=limit)
    return Deliveries(deliveries=found, next_cursor=answer.next_page_token, more=more, next=following)


async def _explained(client: Client, delivery_id: str) -> Deliveries:
    delivery = await client.webhooks.GetDelivery(webhook_pb2.GetDeliveryRequest(delivery_id=delivery_id))
    why = await client.webhooks.ExplainDelivery(
        webhook_pb2.ExplainDeliveryRequest(endpoint_id=delivery.endpoint_id, message_id=delivery.message_id)
    )
    stopped = _state(delivery) in ("failed", "skipped")
    following = invocation("redeliver", delivery_id=delivery_id, mode="preview") if stopped else ""
    return Deliveries(
        deliveries=[_summary(delivery)],
        summary=clip(why.summary, 400),
        rules=[Rule(name=rule.name, passed=rule.passed, detail=clip(rule.detail)) for rule in why.rules],
        attempts=[
            Try(
                number=attempt.number,
                outcome=attempt.outcome,
                status_code=attempt.status_code,
                error=clip(attempt.error),
                response=clip(attempt.response),
                time=instant(attempt.start_time),
            )
            for attempt in delivery.attempts[-SHOWN_ATTEMPTS:]
        ],
        next=f"Mend what stops it first; then {following}" if following and why.first_failing else following,
    )


class Redelivery(WriteAnswer):
    """A delivery that is sent again."""

    delivery_id: str
    changes: list[Change] = Field(default_factory=list)
    version: str = Field(default="", description="of a preview, for if_version")

    def text(self) -> str:
        """Return what is sent again."""
        states = "; ".join(f"{c.field} {c.old} -> {c.new}" for c in self.changes)
        told = f"{self.delivery_id} once more, under the same message id ({states})"
        return self.heading(f"would send {told}", f"sends {told}")


@OPERATE.tool(
    "redeliver",
    "Resend a delivery",
    "WebhookService.Redeliver",
    "WebhookService.GetDelivery",
    idempotent=True,
    open_world=True,
)
async def redeliver(
    client: Client,
    delivery_id: Annotated[str, Field(description="dlv_…")],
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Redelivery:
    """Resend (retry, push) a webhook or hook to its endpoint. Find out with find-deliveries why it failed first."""
    before = await client.webhooks.GetDelivery(webhook_pb2.GetDeliveryRequest(delivery_id=delivery_id))
    preview, key = mode == "preview", committing(mode, idempotency_key)
    if preview and not if_version:
        if_version = version_of(before.etag)  # the commit that follows is refused where it was tried since
    after, replayed = await settled(
        client.webhooks.Redeliver(
            webhook_pb2.RedeliverRequest(
                delivery_id=delivery_id, etag=etag_of(if_version), request_id=key, validate_only=preview
            )
        )
    )
    following = invocation("find-deliveries", delivery_id=delivery_id)
    if preview:
        following = commit_of("redeliver", delivery_id=delivery_id, if_version=if_version, reason=reason)
    return Redelivery(
        mode=mode,
        replayed=replayed,
        idempotency_key=key,
        delivery_id=delivery_id,
        changes=[Change(field="state", old=_state(before), new=_state(after))],
        version=if_version if preview else "",
        next=following,
    )


def _state(delivery: webhook_pb2.Delivery) -> str:
    return word(DeliveryState.Name(delivery.state), "DELIVERY_STATE_")


def _summary(delivery: webhook_pb2.Delivery) -> DeliverySummary:
    return DeliverySummary(
        delivery_id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        event_type=delivery.event_type,
        state=_state(delivery),
        attempts=delivery.attempt_count,
        last_outcome=delivery.last_outcome,
        enrollment_id=delivery.enrollment_id,
        created=instant(delivery.create_time),
        next_attempt=instant(delivery.next_attempt_time),
    )

"""Handlers of AuditService: what was done and cost, by day."""

from __future__ import annotations

from datetime import date, timedelta

from core.domain.agents import prices
from core.domain.errors import Invalid, Violation, invalid
from core.domain.nearest import did_you_mean
from core.rpc.call import Call
from core.rpc.convert import to_struct
from core.store.agents import agents
from core.store.control import usage as store
from core.store.control.usage import Line
from core.store.organizations import api_keys, members, organizations
from core.store.workflows import workflows
from dripstone.v1 import audit_pb2 as pb

USUAL_DAYS, MOST_DAYS = 30, 366
MOST_LINES = 5_000
GROUPS = (store.PRINCIPAL, store.WORKFLOW, store.AGENT)
_FIRST = date(1970, 1, 1)


async def get_usage(request: pb.GetUsageRequest, call: Call) -> pb.GetUsageResponse:
    """Return what each principal, workflow or agent did on each day; ungrouped, all principals as one."""
    kind = request.group_by
    if kind and kind not in GROUPS:
        hint = did_you_mean(kind, GROUPS, f"Use {', '.join(GROUPS)}, or leave it out.")
        raise invalid("group_by", "UNKNOWN_VALUE", f"nothing is grouped by {kind[:40]}", hint)
    if request.subject_id and not kind:
        raise invalid("subject_id", "CONFLICT", "says whose use, but not of what kind it is", "Give group_by too.")
    first, last = _days(request, call)
    found = await store.lines(
        call.tx, call.caller.org_id, kind or store.PRINCIPAL, first, last, request.subject_id if kind else ""
    )
    lines = found if kind else _together(found)
    if len(lines) > MOST_LINES:
        message, hint = f"they have more than {MOST_LINES:,} lines", "Ask for fewer days, or for one subject_id."
        raise invalid("start_day", "TOO_MANY_LINES", message, hint)
    named = await _names(call, kind, {line.subject_id for line in found}) if kind else {}
    organization = await organizations.get(call.tx)
    return pb.GetUsageResponse(
        lines=[line_message(line, named.get(line.subject_id, "")) for line in lines],
        cost=prices.told(sum(line.cost for line in lines)),
        currency=organization.cost_currency,
    )


def line_message(line: Line, display_name: str) -> pb.UsageLine:
    """Return a line as the contract has it; how long things took is told elsewhere."""
    counts = {name: number for name, number in line.counts.items() if ":" not in name}
    return pb.UsageLine(
        day=(_FIRST + timedelta(days=line.day)).isoformat(),
        subject_id=line.subject_id,
        display_name=display_name,
        counts=to_struct(counts),
        cost=prices.told(line.cost),
    )


def _days(request: pb.GetUsageRequest, call: Call) -> tuple[int, int]:
    problems: list[Violation] = []
    today = (call.now.date() - _FIRST).days

    def day(name: str, usual: int) -> int:
        text = getattr(request, name)
        if not text:
            return usual
        try:
            return (date.fromisoformat(text) - _FIRST).days
        except ValueError:
            problems.append(Violation(name, "NOT_A_DATE", f"`{text}` is no day", "Write it as 2026-03-02."))
            return usual

    last = day("end_day", today)
    first = day("start_day", last - USUAL_DAYS + 1)
    if not problems and not 0 <= last - first < MOST_DAYS:
        message = "the first day is after the last" if first > last else f"more than {MOST_DAYS} days"
        problems.append(Violation("start_day", "OUT_OF_RANGE", message, "Ask for fewer days, the first one first."))
    if problems:
        raise Invalid(*problems)
    return first, last


def _together(lines: list[Line]) -> list[Line]:
    """Return one line a day for the whole organization."""
    days: dict[int, tuple[dict[str, int], float]] = {}
    for line in lines:
        counts, cost = days.get(line.day, ({}, 0.0))
        for name, number in line.counts.items():
            counts[name] = counts.get(name, 0) + number
        days[line.day] = (counts, cost + line.cost)
    return [Line(day, "", counts, cost) for day, (counts, cost) in days.items()]


async def _names(call: Call, kind: str, subject_ids: set[str]) -> dict[str, str]:
    """Return how those are called who are still there."""
    if kind == store.WORKFLOW:
        return await workflows.titles(call.tx, subject_ids)
    if kind == store.AGENT:
        return await agents.display_names(call.tx, subject_ids)
    return {**await members.display_names(call.tx, subject_ids), **await api_keys.display_names(call.tx, subject_ids)}

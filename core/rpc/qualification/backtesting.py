"""Handler of QualificationService that tries a model on history: each lead scored by what was known at its moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.qualification.backtest import POSITIVE, Backtest, Report, before_the_end, ended
from core.domain.qualification.facts import LeadFacts
from core.domain.qualification.model import ScoringModel
from core.domain.qualification.parse import compiled
from core.domain.qualification.score import score
from core.domain.records.changes import value_at
from core.domain.records.fields import check_path
from core.domain.workflow import own_kinds
from core.rpc.call import Call
from core.rpc.qualification.batch_scoring import BETWEEN_LOOKS, lead_filter, note_scored
from core.rpc.qualification.qualifying import DEFAULT_MODEL, load_model, unknown_model
from core.store.qualification import lead_facts, lead_stream
from core.store.qualification import qualification as store
from core.store.qualification.lead_facts import Needs, Wanted
from core.store.qualification.lead_stream import Which
from core.store.records import record_schema
from core.store.records.record_rows import Record
from core.store.transaction import Transaction
from dripstone.v1 import qualification_pb2 as pb

USUAL_LEADS = 10_000
MOST_LEADS = 100_000
LONGEST_LEAD_TIME = timedelta(days=3_660)
_BEFORE = timedelta(microseconds=1)
"""The outcome itself is never among what was known."""


@frozen
class _Outcome:
    """The field that says how a lead ended."""

    record: str
    field: str
    positive: frozenset[Any]

    @property
    def path(self) -> str:
        """Return it as expressions name it."""
        return f"{self.record}.{self.field}"

    def of(self, lead: Record, contact: Record | None) -> bool | None:
        """Return whether a lead ended well; None while it has not ended."""
        record = lead if self.record == "lead" else contact
        value = value_at(record.fields, self.field) if record is not None else None
        return ended(self.path, value, self.positive)


async def backtest_model(request: pb.BacktestModelRequest, call: Call) -> AsyncIterator[pb.BacktestProgress]:
    """Yield how far it is after each portion of leads, and at last the result."""
    outcome = _outcome(request)
    async with call.parts.database.read(call.caller.org_id) as tx:
        model, active = await _models(tx, request)
        which = Which(await lead_filter(tx, request.filter))
        total = min(await lead_stream.count(tx, which), request.limit or USUAL_LEADS)
    trial = Backtest(model, active)
    needs = Needs.of([model, active] if active is not None else [model])
    lead_time = request.lead_time.ToTimedelta() if request.HasField("lead_time") else None
    done, before = 0, ""
    try:
        while done < total:
            async with call.parts.database.read(call.caller.org_id) as tx:
                leads = await lead_stream.portion(tx, which, before, min(lead_facts.AT_ONCE, total - done))
                wanted, ends = await _at_their_moment(tx, leads, outcome, lead_time)
                known = await lead_facts.load(tx, wanted, needs)
            if lead_time is None:
                known = [_as_made(facts, outcome) for facts in known]
            if not leads:
                break  # some have gone meanwhile
            done, before = done + len(leads), leads[-1].id
            trial.left_out += len(leads) - len(wanted)
            await _take(trial, known, ends)
            yield pb.BacktestProgress(done_count=done, total_count=total)
    finally:
        await note_scored(call, done)
    yield pb.BacktestProgress(done_count=done, total_count=done, result=_message(trial.report()))


def _as_made(facts: LeadFacts, outcome: _Outcome) -> LeadFacts:
    contact, lead = (before_the_end(one, outcome.path) for one in (facts.contact, facts.lead))
    return replace(facts, contact=contact, lead=lead)


async def _take(trial: Backtest, known: Sequence[LeadFacts], ends: Sequence[bool]) -> None:
    for number, (facts, good) in enumerate(zip(known, ends, strict=True)):
        if number % BETWEEN_LOOKS == 0:
            await asyncio.sleep(0)  # others are served in between
        before = score(trial.active, facts) if trial.active is not None else None
        trial.add(score(trial.model, facts), good, before)


async def _at_their_moment(
    tx: Transaction, leads: Sequence[Record], outcome: _Outcome, lead_time: timedelta | None
) -> tuple[list[Wanted], list[bool]]:
    """Return those leads that have ended, each as of its moment, and how they ended."""
    pairs = [
        (lead, contact, outcome.of(lead, contact)) for lead, contact in await lead_facts.leads_with_contacts(tx, leads)
    ]
    over = [(lead, contact, good) for lead, contact, good in pairs if good is not None]
    ended_at: dict[str, datetime] = {}
    if lead_time is not None:
        keys = {lead.id if outcome.record == "lead" else lead.contact_id or "" for lead, _, _ in over}
        ended_at = dict(await lead_facts.last_set(tx, keys, outcome.field))
    wanted: list[Wanted] = []
    ends: list[bool] = []
    for lead, contact, good in over:
        moment = lead.created_at
        if lead_time is not None:
            at = ended_at.get(lead.id if outcome.record == "lead" else lead.contact_id or "")
            if at is None or at - lead_time < lead.created_at:
                continue  # nobody knows when it ended, or there was no lead so long before
            moment = at - max(lead_time, _BEFORE)
        wanted.append(Wanted(lead, contact, moment, past=True))
        ends.append(good)
    return wanted, ends


async def _models(tx: Transaction, request: pb.BacktestModelRequest) -> tuple[ScoringModel, ScoringModel | None]:
    """Return what is tried, and the active version where that is another one."""
    model_id = request.model_id or DEFAULT_MODEL
    row = await store.get_active(tx, model_id)
    active = compiled(row.source, own_kinds.from_json(row.own_kinds)) if row is not None else None
    if request.source:
        own = own_kinds.of((await record_schema.of(tx)).custom_kinds)
        model = compiled(request.source, compiled(request.source, own).own)  # the active one, where it is the same
    elif row is None:
        raise await unknown_model(tx, model_id)
    else:
        model = (await load_model(tx, model_id, request.version)).rules
    return model, None if active is model else active


def _outcome(request: pb.BacktestModelRequest) -> _Outcome:
    """Return what says how a lead ended. Raises Invalid with everything that is wrong with the request."""
    problems = []
    record, _, field = request.outcome_field.partition(".")
    if record not in ("lead", "contact"):
        record, field = "lead", request.outcome_field
    if problem := check_path(record, field, "outcome_field"):
        problems.append(problem)
    if request.source and request.version:
        hint = "Leave out the version, or the source."
        problems.append(Violation("version", "NOT_ALLOWED", "a draft has no version", hint))
    if request.version < 0:
        problems.append(Violation("version", "OUT_OF_RANGE", "must be 0 or more", "Send 0 for the active one."))
    if not 0 <= request.limit <= MOST_LEADS:
        message = f"must be from 0 to {MOST_LEADS:,}"
        problems.append(Violation("limit", "OUT_OF_RANGE", message, f"Send 0 for {USUAL_LEADS:,}."))
    if request.HasField("lead_time") and not timedelta() <= request.lead_time.ToTimedelta() <= LONGEST_LEAD_TIME:
        message = "must be from nothing to ten years"
        problems.append(Violation("lead_time", "OUT_OF_RANGE", message, "Such as 2592000s, which is 30 days."))
    if problems:
        raise Invalid(*problems)
    return _Outcome(record, field, frozenset(request.positive_values) or frozenset(POSITIVE))


def _message(report: Report) -> pb.BacktestResult:
    return pb.BacktestResult(
        lead_count=report.leads,
        positive_count=report.positive,
        auc=None if report.auc is None else float(report.auc),
        score_buckets=[
            pb.ScoreBucket(from_score=one.start, to_score=one.end, count=one.count, positive_count=one.positive)
            for one in report.buckets
        ],
        calibration_rows=[
            pb.CalibrationRow(
                tier=one.tier,
                count=one.count,
                positive_count=one.positive,
                rate=one.rate,
                low=one.low,
                high=one.high,
            )
            for one in report.calibration
        ],
        tier_moves=[pb.TierMove(from_tier=before, to_tier=after, count=count) for before, after, count in report.moves],
        mean_score_change=float(report.mean_change),
        left_out_count=report.left_out,
        unmet_rules=report.unmet,
    )

"""Handler of QualificationService that scores many leads portion by portion, tells how far it is, changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from core.domain import filters
from core.domain.errors import Invalid, Violation
from core.domain.qualification.facts import LeadFacts
from core.domain.qualification.model import ScoringModel
from core.domain.qualification.score import score
from core.rpc.call import Call
from core.rpc.convert import from_timestamp
from core.rpc.qualification.qualification_messages import DECISIONS
from core.rpc.qualification.qualifying import load_model
from core.rpc.writing import written
from core.store.control import usage
from core.store.qualification import lead_facts, lead_stream
from core.store.qualification.lead_facts import Needs, Wanted
from core.store.qualification.lead_stream import Which
from core.store.records import record_schema
from core.store.transaction import Transaction
from dripstone.v1 import qualification_pb2 as pb

MOST_LEADS = 1_000_000
BETWEEN_LOOKS = 25
"""Leads that are scored between two looks at what else there is to serve: a few milliseconds."""


async def score_leads(request: pb.ScoreLeadsRequest, call: Call) -> AsyncIterator[pb.ScoreLeadsProgress]:
    """Yield what leads score, newest first; those that are named and not there come with an error."""
    as_of = from_timestamp(request.as_of) if request.HasField("as_of") else call.now
    _check(request, as_of > call.now)
    past = request.HasField("as_of")
    async with call.parts.database.read(call.caller.org_id) as tx:
        model = (await load_model(tx, request.model_id, request.version)).rules
        which = Which(await lead_filter(tx, request.filter), tuple(request.lead_ids))
        total = await lead_stream.count(tx, which)
    total = min(total, request.limit or MOST_LEADS)
    needs = Needs.of([model])
    done, before, unseen = 0, "", set(request.lead_ids)
    try:
        while done < total:
            async with call.parts.database.read(call.caller.org_id) as tx:
                leads = await lead_stream.portion(tx, which, before, min(lead_facts.AT_ONCE, total - done))
                pairs = await lead_facts.leads_with_contacts(tx, leads)
                wanted = [Wanted(lead, contact, as_of, past) for lead, contact in pairs]
                known = await lead_facts.load(tx, wanted, needs)
            if not leads:
                break  # some have gone meanwhile
            done, before = done + len(leads), leads[-1].id
            unseen -= {lead.id for lead in leads}
            scores = await scored(model, known)
            yield pb.ScoreLeadsProgress(scores=scores, done_count=done, total_count=total)
    finally:
        await note_scored(call, done)
    lost = [pb.LeadScore(lead_id=one, error="There is no such lead.") for one in sorted(unseen)]
    if lost or not done:
        yield pb.ScoreLeadsProgress(scores=lost, done_count=done, total_count=done)


async def note_scored(call: Call, count: int) -> None:
    """Count scored leads for whoever had them scored, also where the client went before the end."""

    async def noted(tx: Transaction) -> None:
        caller = call.caller
        await usage.note_call(tx, caller.org_id, caller.principal_id, caller.agent_id, {"scored": count})

    if count:
        await call.parts.under_way.to_its_end(written(call.parts.database, call.caller.org_id, noted))


async def scored(model: ScoringModel, known: Sequence[LeadFacts]) -> list[pb.LeadScore]:
    """Return what leads score; others are served in between."""
    found = []
    for number, facts in enumerate(known):
        if number % BETWEEN_LOOKS == 0:
            await asyncio.sleep(0)
        result = score(model, facts)
        found.append(
            pb.LeadScore(
                lead_id=facts.lead.id,
                contact_id=facts.contact.id,
                decision=DECISIONS[result.decision.value],
                score=result.score,
                fit=result.fit,
                engagement=result.engagement,
                tier=result.tier,
                confidence=result.confidence,
            )
        )
    return found


async def lead_filter(tx: Transaction, text: str) -> filters.Expression | None:
    """Return a filter on leads, read by the organization's fields. Raises Invalid."""
    return filters.parse(text, (await record_schema.of(tx)).of("lead").filter_kinds())


def _check(request: pb.ScoreLeadsRequest, ahead: bool) -> None:
    problems = []
    if request.lead_ids and request.filter:
        problems.append(Violation("filter", "ONE_OF", "and lead_ids cannot both be given", "Send one of the two."))
    if ahead:
        problems.append(Violation("as_of", "IN_THE_FUTURE", "is later than now", "Leave it out for now."))
    if request.version < 0:
        problems.append(Violation("version", "OUT_OF_RANGE", "must be 0 or more", "Send 0 for the active one."))
    if not 0 <= request.limit <= MOST_LEADS:
        message = f"must be from 0 to {MOST_LEADS:,}"
        problems.append(Violation("limit", "OUT_OF_RANGE", message, "Send 0 for all leads."))
    if problems:
        raise Invalid(*problems)

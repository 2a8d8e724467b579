"""Merges that nobody asked for: an event that carries an e-mail and a person id of two who cannot be told apart.

They are merges like any other: written down, listed, and taken back by UndoMerge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from core.domain.records import merging as rules
from core.domain.records.identity import MOST_IDENTIFIERS, Identifier
from core.domain.records.merging import Known
from core.store.merging import identity_conflicts, merges
from core.store.merging.merging import is_too_much, lock_work, merge
from core.store.records import identifiers
from core.store.records.record_rows import hold
from core.store.transaction import Transaction

_log = structlog.get_logger()

Told = tuple[Mapping[Identifier, str], str]
"""Whose the identifiers of one event are, and the event as a cause."""


async def join(tx: Transaction, told: Iterable[Told], actor: str) -> int:
    """Merge the contacts that events name by e-mail and by person id, where that is safe; return how many merges."""
    pairs: dict[tuple[str, str], str] = {}
    for found, cause in told:
        pair = rules.pair_of(found)
        if pair is not None:
            pairs.setdefault(pair, cause)
    if not pairs:
        return 0
    apart = await identity_conflicts.kept_apart(tx, pairs) | await merges.parted(tx, pairs)
    merged = 0
    for (by_email, by_person_id), cause in sorted(pairs.items()):
        if frozenset((by_email, by_person_id)) in apart or not await _is_safe(tx, by_email, by_person_id, lock=False):
            continue
        if await is_too_much(tx, by_person_id):
            continue
        await lock_work(tx, by_email, by_person_id)
        if await _is_safe(tx, by_email, by_person_id, lock=True):
            row = await merge(tx, by_email, by_person_id, actor=actor, cause=cause)
            _log.info("two contacts are one", merge=row.id, kept=by_email, merged=by_person_id)
            merged += 1
    return merged


async def _is_safe(tx: Transaction, by_email: str, by_person_id: str, *, lock: bool) -> bool:
    """Tell whether two contacts may become one; with `lock` they cannot change any more until the commit."""
    emails: dict[str, object] = {}
    if lock:
        held = await hold(tx, [(tx.org_id, by_email), (tx.org_id, by_person_id)])
        if len(held) < 2:
            return False
        emails = {record.id: record.fields.get("email") for record in held.values()}
    known = await identifiers.of_records(tx, (by_email, by_person_id))
    if sum(map(len, known.values())) > MOST_IDENTIFIERS:
        return False
    one, other = (Known(record_id, emails.get(record_id), known[record_id]) for record_id in (by_email, by_person_id))
    return rules.may_join(one, other)

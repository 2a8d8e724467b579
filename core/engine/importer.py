"""The loop that carries imports on, slice by slice; every process may run it, and a killed one loses nothing."""

from __future__ import annotations

import structlog

from core.domain.errors import BudgetExhausted
from core.engine import importing
from core.store.control import budgets
from core.store.control.budgets import Spender
from core.store.database import Database, is_outage
from core.store.records import imports
from core.store.records.imports import ImportState

_log = structlog.get_logger()


class Importer:
    """Carries on every import that is being checked or carried out."""

    def __init__(self, database: Database):
        self._database = database

    async def turn(self) -> int:
        """Carry each import on by one slice; return how many rows that were."""
        async with self._database.system() as tx:
            found = await imports.under_way(tx)
        return sum([await self._carry_on(row.org_id, row.id) for row in found])

    async def _carry_on(self, org_id: str, import_id: str) -> int:
        try:
            return await self._slice(org_id, import_id)
        except BudgetExhausted as spent:
            return await self._what_is_left(org_id, import_id, spent)
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("a slice of an import failed; its rows are tried one by one", import_id=import_id)
        return await self._one_by_one(org_id, import_id)

    async def _slice(self, org_id: str, import_id: str, most: int = 0) -> int:
        async with self._database.write(org_id) as tx:
            import_ = await imports.take(tx, import_id)
            if import_ is None:
                return 0
            done = await importing.carry_on(tx, import_, most)
            await budgets.charge(tx, Spender(import_.actor, import_.actor_kind, import_.agent_id), tx.spent)
            return max(done, 1)  # what comes to its end has done something, too, and something may follow from it

    async def _what_is_left(self, org_id: str, import_id: str, spent: BudgetExhausted) -> int:
        """Carry on by as many rows as the budget has room for; the next turn finds it empty, and stops."""
        if left := int(spent.variables["left"]):
            try:
                return await self._slice(org_id, import_id, left)
            except BudgetExhausted as further:  # somebody else has taken of it meanwhile
                spent = further
        return await self._stop(org_id, import_id, f"{spent.message} {spent.way_out}")

    async def _stop(self, org_id: str, import_id: str, why: str) -> int:
        """Stop where a budget is spent; StartImport goes on once there is more of it."""
        async with self._database.write(org_id) as tx:
            if await imports.take(tx, import_id) is not None:
                await imports.note(tx, import_id, state=ImportState.FAILED, error=why)
        return 1

    async def _one_by_one(self, org_id: str, import_id: str) -> int:
        """Carry on row by row, so that one that fails stops no other."""
        done = 0
        for _ in range(importing.WRITTEN_AT_ONCE):
            try:
                more = await self._slice(org_id, import_id, 1)
            except BudgetExhausted as spent:
                return done + await self._what_is_left(org_id, import_id, spent)
            except Exception as error:
                if is_outage(error):
                    raise
                _log.exception("a row of an import failed", import_id=import_id)
                more = await self._leave_out(org_id, import_id)
            done += more
            if not more:
                break
        return done

    async def _leave_out(self, org_id: str, import_id: str) -> int:
        async with self._database.write(org_id) as tx:
            import_ = await imports.take(tx, import_id)
            if import_ is None:
                return 0
            await importing.refuse_next(tx, import_)
            return 1

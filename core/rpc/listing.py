"""A page of a list: how the listing methods of the contract that take a filter answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Row, Select, Table

from core.store import paging
from core.store.filtering import filtered
from core.store.transaction import Transaction


class ListRequest(Protocol):
    """What every such request has."""

    @property
    def filter(self) -> str: ...  # noqa: D102 -- the contract describes the fields
    @property
    def page_size(self) -> int: ...  # noqa: D102
    @property
    def page_token(self) -> str: ...  # noqa: D102


async def listed(
    tx: Transaction,
    request: ListRequest,
    statement: Select[Any],
    table: Table,
    fields: Mapping[str, str],
    *,
    within: str = "",
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of the rows that fit the request's filter, newest first, and the token of the next page.

    `fields` are the columns to filter by, and their kinds. `within` is what else narrows the list, such as the id of a
    workflow: a token is good for that list alone.

    Raises Invalid for a filter that cannot be read, and for a token of another list.
    """
    return await paging.page(
        tx,
        filtered(statement, table, request.filter, fields),
        table.c.id,
        request.page_size,
        request.page_token,
        filter_text=f"{within}|{request.filter}",
    )

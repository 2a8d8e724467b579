"""One question to the store for all who wait for an answer: however many strangers ask, they take one connection.

So nobody has to be turned away before it is known who they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")

MOST_AT_ONCE = 500
"""Keys in one question."""


@dataclass(slots=True)
class _Question(Generic[_Key, _Found]):
    keys: set[_Key] = field(default_factory=set)
    answer: Mapping[_Key, _Found] | Exception | None = None
    """None until it was asked."""


class Together(Generic[_Key, _Found]):
    """Asks for one set of keys at a time; keys that come meanwhile go into the next question."""

    def __init__(self, ask: Callable[[frozenset[_Key]], Awaitable[Mapping[_Key, _Found]]]):
        self._ask = ask
        self._turn = asyncio.Lock()
        self._next: _Question[_Key, _Found] = _Question()

    async def find(self, key: _Key) -> _Found | None:
        """Return what a key stands for, or None. Raises what asking raised, for all who wait for the same answer."""
        question = self._next
        question.keys.add(key)
        if len(question.keys) >= MOST_AT_ONCE:
            self._next = _Question()
        async with self._turn:
            if question.answer is None:
                if self._next is question:
                    self._next = _Question()
                question.answer = await self._answer(question)
        if isinstance(question.answer, Exception):
            raise question.answer
        return question.answer.get(key)

    async def _answer(self, question: _Question[_Key, _Found]) -> Mapping[_Key, _Found] | Exception:
        try:
            return await self._ask(frozenset(question.keys))
        except Exception as error:
            return error

"""How many streams of messages a process serves at once, so that no organization takes the room of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from core.domain.errors import TooManyStreams

MOST_OF_AN_ORGANIZATION = 32
MOST_OF_A_PROCESS = 256


class StreamPlaces:
    """Counts the streams that are open."""

    def __init__(self, of_an_organization: int = MOST_OF_AN_ORGANIZATION, of_a_process: int = MOST_OF_A_PROCESS):
        self._of_an_organization = of_an_organization
        self._of_a_process = of_a_process
        self._open: Counter[str] = Counter()

    @contextmanager
    def take(self, org_id: str) -> Iterator[None]:
        """Take a place for as long as the context lasts. Raises TooManyStreams where there is none."""
        if self._open[org_id] >= self._of_an_organization:
            raise TooManyStreams(whose="The organization", limit=self._of_an_organization)
        if self._open.total() >= self._of_a_process:
            raise TooManyStreams(whose="This process", limit=self._of_a_process)
        self._open[org_id] += 1
        try:
            yield
        finally:
            self._open[org_id] -= 1
            if not self._open[org_id]:
                del self._open[org_id]

"""A receiver that keeps books: which messages arrived, how often, each with a signature that holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from tests.receiver import Receiver

Answer = Callable[[str, str, Mapping[str, Any]], object]
"""What to answer to a message's id, type and data; nothing for an empty answer."""


class Ledger:
    """Keeps every message that was accepted, by id, after checking its signature with the public library."""

    def __init__(self, receiver: Receiver, answer: Answer = lambda *_: None) -> None:
        self.secret = ""
        self.types: dict[str, str] = {}
        self.arrivals: Counter[str] = Counter()
        self.bodies: dict[str, str] = {}
        self.url = receiver.url
        self._answer = answer
        receiver.answers["/"] = self.enter

    async def enter(self, request: web.Request) -> web.Response:
        """Enter a message; what comes again must say the same."""
        body = await request.text()
        payload = Webhook(self.secret).verify(body, {k.lower(): v for k, v in request.headers.items()})
        message_id = request.headers["webhook-id"]
        assert self.bodies.setdefault(message_id, body) == body, "a repetition says something else"
        self.types[message_id] = payload["type"]
        self.arrivals[message_id] += 1
        answer = self._answer(message_id, payload["type"], payload["data"])
        return web.Response(status=204) if answer is None else web.json_response(answer)

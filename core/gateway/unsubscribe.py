"""The page behind the link in every message that is not transactional: `/u/{token}`.

Looking changes nothing: mail scanners open every link. A POST unsubscribes at once, from a button or from a mail
program (RFC 8058). The page needs no script, fetches nothing, and says the same whether the address is still known or
not.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal
from urllib.parse import parse_qs

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from core.domain.errors import RateLimited
from core.domain.frozen import frozen
from core.domain.messaging import addresses, unsubscribe
from core.domain.messaging.consent import EVERY
from core.domain.messaging.unsubscribe import Link
from core.gateway.peers import peer_of
from core.gateway.together import Together
from core.rpc.admission.limits import RateLimiter
from core.rpc.call import Parts
from core.rpc.writing import written
from core.store.control import audit
from core.store.database import is_outage
from core.store.events import refusing
from core.store.events.refusing import ONE_CLICK, PAGE, Said
from core.store.messages import consent, outgoing
from core.store.organizations import organizations
from core.store.records import records
from core.store.transaction import EVERY_ORGANIZATION, Transaction

LONGEST_BODY = 8 * 1024
PER_LINK_AND_SECOND = 3.0
WRONG_A_SECOND = 50.0
"""Wrong links of one peer. A true one is answered whatever else its peer, or anybody, sends."""

_BODY_SECONDS = 20
_MOST_SECRETS = 10_000

Choice = Literal["purpose", "everything", "resubscribe"]

_log = structlog.get_logger()

_STYLE = (
    "body{font:1.1rem/1.6 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}h1{font-size:1.5rem}form{margin:0 0 1rem}button{font:inherit;padding:.6rem 1rem;width:100%;"
    "text-align:left;border:2px solid #1a4f8b;border-radius:.4rem;background:#fff;color:#1a4f8b;cursor:pointer}"
    "button:focus-visible{outline:3px solid #c60;outline-offset:2px}"
    "@media (prefers-color-scheme:dark){body{background:#161616;color:#eee}"
    "button{background:#161616;color:#9cc7f5;border-color:#9cc7f5}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Robots-Tag": "noindex, nofollow",
}


@frozen
class _About:
    """What the page tells of a link."""

    organization: str
    address: str
    """Where the message went, or the contact's address now; empty where neither is known any more."""
    enrollment_id: str = ""
    workflow_id: str = ""


def unsubscribing(parts: Parts) -> Sequence[BaseRoute]:
    """Return the routes of the page."""
    return (Route("/u/{token}", _Page(parts).answer, methods=["GET", "POST"]),)


class _Page:
    """Answers for one link at a time."""

    def __init__(self, parts: Parts):
        self._database = parts.database
        self._under_way = parts.under_way
        self._per_link = RateLimiter(parts.clock, PER_LINK_AND_SECOND)
        self._wrong = RateLimiter(parts.clock, WRONG_A_SECOND)
        self._secrets: dict[str, bytes] = {}
        self._unknown = Together(self._look_up)

    async def answer(self, request: Request) -> Response:
        """Answer one request; while the database is away, whoever asks is told to come again."""
        try:
            return await (self.act if request.method == "POST" else self.show)(request)
        except Exception as error:
            if not is_outage(error):
                raise
            _log.error("the database does not answer", method="unsubscribe", error=type(error).__name__)
            body = "<p>Nothing was changed. Try again in a moment.</p>"
            return _answer("Not now", body, 503, {"Retry-After": "5"})

    async def show(self, request: Request) -> Response:
        """Tell whose messages these are, and offer to end them."""
        refused, link = await self._admit(request)
        if link is None:
            return refused
        about = await self._under_way.to_its_end(self._looked(link))
        return _answer("Unsubscribe", _offer(link, about))

    async def act(self, request: Request) -> Response:
        """Do what the button says; without one, end messages of the link's purpose."""
        refused, link = await self._admit(request)
        if link is None:
            return refused
        try:
            choice, by = await _choice(request)
        except _TooLong:
            return _answer("That is too much", "<p>Use the buttons of the page.</p>", 413)
        except TimeoutError:
            return _answer("That took too long", "<p>Use the buttons of the page.</p>", 408)
        except ClientDisconnect:
            return Response(status_code=400)
        if choice is None:
            return _answer("There is no such choice", "<p>Use the buttons of the page.</p>", 400)
        about = await self._under_way.to_its_end(self._carried_out(link, choice, by))
        _log.info("unsubscribe link used", org=link.org_id, message=link.message_id, choice=choice, by=by)
        return _answer("Done", _result(link, about, choice))

    async def _looked(self, link: Link) -> _About:
        async with self._database.read(link.org_id) as tx:
            return await _about(tx, link)

    async def _carried_out(self, link: Link, choice: Choice, by: str) -> _About:
        async def work(tx: Transaction) -> _About:
            about = await _about(tx, link)
            await _do(tx, link, about, choice, by)
            what = "Resubscribe" if choice == "resubscribe" else "Unsubscribe"
            summary = f"{what.lower()}d a contact by the link of a message"
            how = {"cause": f"message:{link.message_id}", "actor": by, "surface": "http"}
            await audit.by_system(tx, link.org_id, what, subject_id=link.contact_id, summary=summary, **how)
            return about

        return await written(self._database, link.org_id, work)

    async def _admit(self, request: Request) -> tuple[Response, Link | None]:
        """Return what the link is about, or why nothing is done; a wrong link looks like any page there is not.

        Nothing is counted before the signature was looked at: who makes links up keeps nobody from theirs.
        """
        missing = _answer("There is no such page", "<p>Check the link in the message.</p>", 404)
        token = str(request.path_params["token"])
        unproved = unsubscribe.read(token)
        secret = None if unproved is None else await self._secret_of(unproved.link.org_id)
        link = None if unproved is None or secret is None else unproved.prove(secret)
        try:
            if link is None:
                self._wrong.admit(peer_of(request))
            else:
                self._per_link.admit(token)
        except RateLimited as error:
            wait = {"Retry-After": str(max(1, round(error.retry_after or 1)))}
            return _answer("Too many requests", "<p>Wait a moment, then try again.</p>", 429, wait), None
        return missing, link

    async def _secret_of(self, org_id: str) -> bytes | None:
        """Return what an organization signs its links with; it never changes."""
        if org_id not in self._secrets:
            found = await self._unknown.find(org_id)
            if found is None:
                return None
            if len(self._secrets) >= _MOST_SECRETS:
                self._secrets.pop(next(iter(self._secrets)))
            self._secrets[org_id] = found
        return self._secrets[org_id]

    async def _look_up(self, org_ids: frozenset[str]) -> Mapping[str, bytes]:
        async def found() -> Mapping[str, bytes]:
            async with self._database.read(EVERY_ORGANIZATION) as tx:
                return await consent.secrets_there(tx, org_ids)

        return await self._under_way.to_its_end(found())


class _TooLong(Exception):
    """The body is longer than any form of ours."""


async def _choice(request: Request) -> tuple[Choice | None, str]:
    """Return what is asked for, None for what there is not, and by whom."""
    body = b""
    async with asyncio.timeout(_BODY_SECONDS):
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_BODY:
                raise _TooLong
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return "purpose", ONE_CLICK  # mail programs may send multipart/form-data
    try:
        form = parse_qs(body.decode("ascii", "replace"), max_num_fields=20)
    except ValueError:  # more fields than any form of ours has
        return None, PAGE
    match form.get("choice"):
        case None:
            return "purpose", ONE_CLICK
        case ["purpose" | "everything" | "resubscribe" as choice]:
            return choice, PAGE
        case _:
            return None, PAGE


async def _about(tx: Transaction, link: Link) -> _About:
    name = (await organizations.get(tx)).display_name
    message = await outgoing.about(tx, link.message_id)
    if message is not None:
        return _About(name, message.recipient, message.enrollment_id, message.workflow_id)
    contact = await records.get(tx, link.contact_id)
    field = addresses.OWN_FIELDS.get(link.channel, "")
    return _About(name, str(contact.fields.get(field) or "") if contact is not None else "")


async def _do(tx: Transaction, link: Link, about: _About, choice: Choice, by: str) -> None:
    said = Said(
        actor=by,
        cause=f"message:{link.message_id}",
        contact_id=link.contact_id,
        address=about.address,
        channel=link.channel,
        purpose=link.purpose,
        reason=f"chose {choice} by the link of a message",
        message_id=link.message_id,
        enrollment_id=about.enrollment_id,
        workflow_id=about.workflow_id,
    )
    if choice == "resubscribe":
        await refusing.resubscribe(tx, said)
    else:
        await refusing.unsubscribe(tx, said, everything=choice == "everything")


def _offer(link: Link, about: _About) -> str:
    whom = f" to <strong>{escape(addresses.masked(about.address))}</strong>" if about.address else ""
    what = escape(_spoken(link.purpose))
    return (
        f"<p>{escape(about.organization)} sends {what} messages by {escape(link.channel)}{whom}.</p>"
        "<p>Nothing has changed yet. What would you like?</p>"
        + _button("purpose", f"Send me no more {what} messages")
        + _button("everything", "Send me no more messages at all, save what I need, such as receipts")
        + _button("resubscribe", f"Send me {what} messages")
    )


def _result(link: Link, about: _About, choice: Choice) -> str:
    what = escape(_spoken(link.purpose))
    told = {
        "purpose": f"You get no more {what} messages from {escape(about.organization)} by {escape(link.channel)}.",
        "everything": f"You get no more messages from {escape(about.organization)}, save what you need.",
        "resubscribe": f"{escape(about.organization)} may send you {what} messages again.",
    }[choice]
    undo = (
        _button("purpose", f"Send me no more {what} messages")
        if choice == "resubscribe"
        else _button("resubscribe", f"That was a mistake: send me {what} messages")
    )
    return f'<p role="status">{told}</p>{undo}'


def _spoken(purpose: str) -> str:
    return "all kinds of" if purpose == EVERY else purpose.replace("_", " ")


def _button(choice: str, text: str) -> str:
    return (
        f'<form method="post"><input type="hidden" name="choice" value="{choice}">'
        f'<button type="submit">{text}</button></form>'
    )


def _answer(title: str, body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><style>{_STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>'
    )
    return HTMLResponse(page, status, {**_HEADERS, **(headers or {})})

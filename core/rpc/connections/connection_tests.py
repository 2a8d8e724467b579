"""Handler of ConnectionService that tries a connection: shows the request of a sample, and sends it where asked."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from core import ids
from core.delivery.authenticated import send_as
from core.delivery.carrier import answer_of
from core.delivery.send_result import SendResult
from core.domain.connections import call as calls
from core.domain.connections import result, sample
from core.domain.connections.call import NotRendered, Request
from core.domain.connections.sample import Carried
from core.domain.connections.settings import MASKED, Settings, without_secrets
from core.domain.errors import NotFound, WrongConnectionKind
from core.domain.webhooks import authentication, classify
from core.domain.webhooks.authentication import Authentication, ClientCertificate, OAuth2
from core.domain.webhooks.classify import Outcome
from core.rpc.call import Call
from core.rpc.convert import to_duration
from core.store.merging import merges
from core.store.records import records
from core.store.systems import connections
from dripstone.v1 import connection_pb2 as pb

_SECRET_NAME = re.compile(r"(?i)auth|key|token|secret|passw|signature|cookie|credential")


async def test_connection(request: pb.TestConnectionRequest, call: Call) -> pb.TestConnectionResponse:
    """Show the request of a sample message, without secrets; sent, it counts towards no limit and stores nothing."""
    parts = call.parts
    async with parts.database.read(call.caller.org_id) as tx:
        row = await connections.get(tx, request.connection_id)
        if row is None:
            raise NotFound(kind="connection", id=request.connection_id)
        if row.kind != connections.CHANNEL:
            raise WrongConnectionKind(connection_id=row.id, kind=row.kind, wanted=connections.CHANNEL)
        person = await records.get(tx, request.contact_id) if request.contact_id else None
        if request.contact_id and (person is None or person.type != "contact"):
            gone = await merges.kept_by(tx, request.contact_id)
            raise gone or NotFound(kind="contact", id=request.contact_id)
    settings = connections.opened(connections.settings(row), parts.vault, call.caller.org_id, row.id)
    message = Carried(
        ids.mint("msg", call.now),
        settings.channel,
        request.to or sample.SAMPLE.to,
        request.text or sample.SAMPLE.text,
    )
    values = sample.made_up(message, call.now)
    if person is not None:
        values = sample.values(message, {**person.fields, "id": person.id}, sample.MADE_UP_ENROLLMENT, call.now)
    try:
        made = calls.render(settings.call, values, message.id, parts.webhook_sender.destinations)
    except NotRendered as error:
        code = classify.CODE_FAILED if request.send else 0
        return pb.TestConnectionResponse(code=code, message=f"The request cannot be made: {error}.")
    shown = _shown(made, settings.auth)
    if not request.send:
        shown.message = "This request was shown, not sent."
        return shown
    sent = await send_as(
        parts.webhook_sender,
        (call.caller.org_id, row.id),
        settings.auth,
        made.url,
        made.headers,
        made.body.encode(),
        call.now,
        method=made.method,
    )
    return _judged(shown, settings, sent)


def _shown(made: Request, auth: Authentication | None) -> pb.TestConnectionResponse:
    headers = {name: MASKED if _is_secret(name) else value for name, value in made.headers.items()}
    if auth is not None and not isinstance(auth, ClientCertificate):
        scheme = next(iter(authentication.authorization(auth).values()), "Bearer").split(" ")[0]
        headers["authorization"] = f"{'Bearer' if isinstance(auth, OAuth2) else scheme} {MASKED}"
    headers = {name: without_secrets(value, auth) for name, value in headers.items()}
    return pb.TestConnectionResponse(
        request_line=f"{made.method} {without_secrets(_url_shown(made.url), auth)}",
        headers=headers,
        body=without_secrets(made.body, auth),
    )


def _is_secret(name: str) -> bool:
    return name != calls.IDEMPOTENCY_KEY and _SECRET_NAME.search(name) is not None


def _url_shown(url: str) -> str:
    """Return a URL without the values of what look like secrets in its query."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if not any(_is_secret(name) for name, _ in pairs):
        return url
    masked = urlencode([(name, MASKED if _is_secret(name) else value) for name, value in pairs], safe="*")
    return parts._replace(query=masked).geturl()


def _judged(shown: pb.TestConnectionResponse, settings: Settings, sent: SendResult) -> pb.TestConnectionResponse:
    answer = answer_of(settings, sent)
    shown.ok = answer.verdict == "sent"
    shown.status_code = sent.status_code
    shown.response = without_secrets(sent.response_text, settings.auth)
    shown.duration.CopyFrom(to_duration(sent.duration.total_seconds()))
    named = f", as {answer.provider_id}" if answer.provider_id else ""
    not_json = result.reads_body(settings.result) and isinstance(result.read_body(sent.response_text), str)
    unread = "; the answer is not JSON, and the result mapping reads its body" if sent.status_code and not_json else ""
    shown.message = f"{answer.outcome}{named}{unread}."
    if shown.ok:
        shown.code = classify.CODE_OK
    elif sent.outcome is Outcome.DESTINATION_NOT_ALLOWED:
        shown.code = classify.CODE_FORBIDDEN
    else:
        shown.code = classify.CODE_NOT_JSON if unread else classify.CODE_FAILED
    return shown

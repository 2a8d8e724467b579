"""A request to a tenant's URL, authenticated in the way its owner chose; the whole of it within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from core.delivery.http import WebhookSender
from core.delivery.oauth import NoToken, Owner, no_token
from core.delivery.send_result import SendResult
from core.domain.webhooks import authentication
from core.domain.webhooks.authentication import Authentication, ClientCertificate, OAuth2

UNAUTHORIZED = 401


async def send_as(
    sender: WebhookSender,
    owner: Owner,
    auth: Authentication | None,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    *,
    method: str = "POST",
) -> SendResult:
    """Send a body and return what came of it; `owner` is whose token it is, where one must be fetched."""
    if isinstance(auth, OAuth2):
        return await _send_with_token(sender, owner, auth, url, headers, body, now, method)
    certificate = auth if isinstance(auth, ClientCertificate) else None
    signed_in = {**headers, **authentication.authorization(auth)}
    return await sender.send(url, signed_in, body, method=method, certificate=certificate)


async def _send_with_token(
    sender: WebhookSender,
    owner: Owner,
    auth: OAuth2,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    method: str,
) -> SendResult:
    loop = asyncio.get_running_loop()
    begun = loop.time()

    def left() -> float:
        return begun + sender.deadline_seconds - loop.time()

    async def attempt(refused: str = "") -> tuple[SendResult, str]:
        """Send with a token; return what came of it, and the token where a newer one may help."""
        try:
            async with asyncio.timeout(left()):
                token = await sender.tokens.token(owner, auth, now, seconds=left(), refused=refused)
        except TimeoutError:
            raise no_token("it took too long") from None
        signed_in = {**headers, **authentication.authorization(auth, token.text)}
        result = await sender.send(url, signed_in, body, method=method, seconds=left())
        may_be_old = result.status_code == UNAUTHORIZED and not token.new
        return result, token.text if may_be_old else ""

    try:
        result, old = await attempt()
        if old:
            result, _ = await attempt(old)
    except NoToken as error:
        return SendResult(error.ruling, timedelta(seconds=loop.time() - begun), error=error.sentence)
    return replace(result, duration=timedelta(seconds=loop.time() - begun))

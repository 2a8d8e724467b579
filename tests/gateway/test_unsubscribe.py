"""The unsubscribe page: looking changes nothing, one click ends it, and only who got the message learns anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.clock import ManualClock
from core.domain.effects import SendMessage
from core.domain.messaging.unsubscribe import Link, token
from core.gateway.unsubscribe import LONGEST_BODY
from core.store.database import Database
from core.store.messages import consent, outgoing, suppressions
from core.store.messages.outgoing import NewMessage
from core.store.organizations.organizations import organizations
from core.store.records import records
from core.store.transaction import Transaction
from tests.gateway.serving import Gateway
from tests.somebody import somebody

pytestmark = pytest.mark.anyio

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


class Page:
    """A link in a message, and who follows it: a browser without a key."""

    def __init__(self, gateway: Gateway, database: Database, link: Link, secret: bytes):
        self.gateway, self.database, self.link, self.secret = gateway, database, link, secret
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=gateway.app), base_url="http://core")

    @property
    def path(self) -> str:
        return f"/u/{token(self.link, self.secret)}"

    async def stored(self) -> tuple[dict[tuple[str, str], bool], list[tuple[str, str]], Any]:
        """Return answers, suppressions and the contact's field."""
        async with self.database.read(self.link.org_id) as tx:
            answers = {(one.channel, one.purpose): one.granted for one in await consent.answers_of(tx, "cnt_1")}
            rows, _ = await suppressions.page(tx, 10, "")
            contact = await records.get(tx, "cnt_1")
        stopped = [(row.address, row.purpose) for row in rows]
        return answers, stopped, None if contact is None else contact.fields.get("unsubscribed")


@pytest.fixture
async def page(gateway: Gateway, database: Database) -> AsyncIterator[Page]:
    org = gateway.org_id
    effect = SendMessage("msg_1", "email", "marketing", "cnt_1", "ada@example.com", "Hi", "Hello")
    async with database.system() as tx:
        await somebody(tx, org, "cnt_1", "enr_1", email="ada@example.com")
        await outgoing.create_many(tx, [NewMessage(org, "enr_1", "nurture", "mail", effect)])
        secret = (await consent.secrets(tx, [org]))[org]
    opened = Page(gateway, database, Link(org, "cnt_1", "msg_1", "email", "marketing"), secret)
    yield opened
    await opened.http.aclose()


NOTHING: tuple[dict[tuple[str, str], bool], list[tuple[str, str]], Any] = ({}, [], None)
ENDED = ({("email", "marketing"): False}, [("ada@example.com", "marketing")], None)


async def test_looking_changes_nothing_however_often(page: Page) -> None:
    for verb in ("GET", "HEAD", "GET"):
        answer = await page.http.request(verb, page.path)
        assert answer.status_code == 200
    assert await page.stored() == NOTHING
    assert "Example sends marketing messages by email to <strong>a***@e***.com</strong>." in answer.text
    assert "ada" not in answer.text
    assert re.findall(r'name="choice" value="(\w+)"', answer.text) == ["purpose", "everything", "resubscribe"]


async def test_the_page_fetches_nothing_runs_nothing_and_is_kept_by_nobody(page: Page) -> None:
    answer = await page.http.get(page.path)
    policy = answer.headers["content-security-policy"]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; form-action 'self'; base-uri 'none'; "
        r"frame-ancestors 'none'",
        policy,
    )
    for name, value in {
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-robots-tag": "noindex, nofollow",
        "x-content-type-options": "nosniff",
        "content-type": "text/html; charset=utf-8",
    }.items():
        assert answer.headers[name] == value
    assert not re.search(r"<script|src=|href=|url\(|@import|\son\w+=|http", answer.text)


class _Outline(HTMLParser):
    """What somebody hears who cannot see the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.language = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "html":
            self.language = dict(attrs).get("lang") or ""


async def test_the_page_can_be_read_aloud(page: Page) -> None:
    outline = _Outline()
    outline.feed((await page.http.get(page.path)).text)
    assert outline.language == "en"
    assert (outline.tags.count("h1"), outline.tags.count("main"), outline.tags.count("title")) == (1, 1, 1)
    assert outline.tags.count("button") == outline.tags.count("form") == 3


@pytest.mark.parametrize(
    "body",
    [
        {"data": ONE_CLICK},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"content": b"", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b"List-Unsubscribe=One-Click"},
    ],
)
async def test_one_click_unsubscribes_at_once_and_is_not_sent_elsewhere(page: Page, body: dict[str, Any]) -> None:
    answer = await page.http.post(page.path, **body)
    assert answer.status_code == 200
    assert await page.stored() == ENDED
    async with page.database.read(page.link.org_id) as tx:
        (said,) = await consent.changes_of(tx, "cnt_1")
    assert (said.actor, said.cause) == ("one_click", "message:msg_1")


async def test_a_second_click_says_the_same_and_changes_nothing(page: Page) -> None:
    first = await page.http.post(page.path, data=ONE_CLICK)
    again = await page.http.post(page.path, data=ONE_CLICK)
    assert (again.status_code, again.text) == (200, first.text)
    async with page.database.read(page.link.org_id) as tx:
        assert len(await consent.changes_of(tx, "cnt_1")) == 1


async def test_the_buttons_do_what_they_say(page: Page) -> None:
    answer = await page.http.post(page.path, data={"choice": "purpose"})
    assert "You get no more marketing messages from Example by email." in answer.text
    assert await page.stored() == ENDED
    answer = await page.http.post(page.path, data={"choice": "everything"})
    assert "You get no more messages from Example, save what you need." in answer.text
    answers, stopped, field = await page.stored()
    assert (answers["*", "*"], field) == (False, True)
    assert sorted(stopped) == [("ada@example.com", "*"), ("ada@example.com", "marketing")]
    page.gateway.pipeline.parts.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]  # turned by hand
    answer = await page.http.post(page.path, data={"choice": "resubscribe"})
    assert "Example may send you marketing messages again." in answer.text
    answers, stopped, field = await page.stored()
    assert (answers["email", "marketing"], stopped, field) == (True, [], None)


@pytest.mark.parametrize("body", [{"choice": "delete"}, {"choice": ["purpose", "everything"]}, {"choice": "<b>"}])
async def test_what_no_button_says_is_refused(page: Page, body: Any) -> None:
    answer = await page.http.post(page.path, data=body)
    assert answer.status_code == 400
    assert await page.stored() == NOTHING


async def test_a_form_with_more_fields_than_any_of_ours_is_refused(page: Page) -> None:
    answer = await page.http.post(page.path, data={f"field_{number}": "x" for number in range(40)})
    assert answer.status_code == 400
    assert await page.stored() == NOTHING


async def test_a_body_longer_than_any_form_is_refused(page: Page) -> None:
    answer = await page.http.post(page.path, content=b"x" * (LONGEST_BODY + 1))
    assert answer.status_code == 413
    assert await page.stored() == NOTHING


async def test_a_wrong_link_is_no_page_and_tells_nothing(page: Page) -> None:
    good = page.path
    signed_by_another = f"/u/{token(page.link, bytes(32))}"
    of_nobody = f"/u/{token(replace(page.link, org_id='org_nobody'), page.secret)}"
    wrong = [good[:-1] + ("A" if good[-1] != "A" else "B"), good + "A", signed_by_another, of_nobody, "/u/x", "/u/%00"]
    answers = [await page.http.request(verb, path) for path in wrong for verb in ("GET", "POST")]
    assert {one.status_code for one in answers} == {404}
    assert len({one.text for one in answers}) == 1
    assert await page.stored() == NOTHING


async def test_who_is_gone_gets_the_same_answer(page: Page) -> None:
    before = await page.http.get(page.path)
    async with page.database.write(page.link.org_id) as tx:
        await tx.run(records.records.update().where(records.records.c.id == "cnt_1").values(deleted_at=tx.now))
    assert (await page.http.get(page.path)).text == before.text
    answer = await page.http.post(page.path, data=ONE_CLICK)
    assert answer.status_code == 200
    assert await page.stored() == ({}, [("ada@example.com", "marketing")], None)
    page.link = replace(page.link, contact_id="cnt_gone", message_id="msg_gone")
    unknown = await page.http.post(page.path, data=ONE_CLICK)
    assert (unknown.status_code, unknown.text) == (200, answer.text)


async def test_a_hostile_name_is_text(page: Page) -> None:
    async with page.database.system() as tx:
        await tx.run(organizations.update().values(display_name="<script>alert(1)</script>"))
        await tx.run(outgoing.outgoing_messages.update().values(recipient="<img src=x>@e.com"))
    for answer in (await page.http.get(page.path), await page.http.post(page.path, data=ONE_CLICK)):
        assert "<script>" not in answer.text
        assert "<img" not in answer.text
    assert "&lt;script&gt;" in answer.text


async def test_who_tries_too_often_waits(page: Page, clock: ManualClock) -> None:
    answers = [await page.http.post(page.path, data=ONE_CLICK) for _ in range(8)]
    assert [one.status_code for one in answers] == [200] * 6 + [429] * 2
    assert answers[-1].headers["retry-after"] == "1"
    other = f"/u/{token(replace(page.link, message_id='msg_2'), page.secret)}"
    assert (await page.http.get(other)).status_code == 200  # others are not held up
    clock.advance(timedelta(seconds=1))
    assert (await page.http.get(page.path)).status_code == 200


def forged(page: Page, count: int) -> list[str]:
    return [f"/u/{token(replace(page.link, org_id=f'org_{number}'), page.secret)}" for number in range(count)]


async def test_who_makes_links_up_keeps_nobody_from_theirs(page: Page) -> None:
    """Not even in a process that has never seen the organization of the true link, from the same address."""
    for _ in range(3):
        answers = [(await page.http.post(one)).status_code for one in forged(page, 110)]
        assert answers.count(429) >= 10
    assert (await page.http.get(page.path)).status_code == 200
    assert (await page.http.post(page.path, data=ONE_CLICK)).status_code == 200
    assert await page.stored() == ENDED


async def test_a_flood_of_made_up_links_asks_the_store_in_few_questions(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    there = consent.secrets_there

    async def counted(tx: Transaction, orgs: Iterable[str]) -> dict[str, bytes]:
        asked.append(len(list(orgs)))
        return await there(tx, orgs)

    monkeypatch.setattr(consent, "secrets_there", counted)
    flood = [page.http.get(one) for one in forged(page, 200)]
    answers = await asyncio.gather(*flood, page.http.get(page.path))
    assert answers[-1].status_code == 200
    assert {one.status_code for one in answers[:-1]} == {404, 429}
    assert len(asked) <= 20
    assert sum(asked) == 201


async def test_wrong_links_of_one_address_limit_no_other_address(page: Page) -> None:
    wrong = [(await page.http.get(one)).status_code for one in forged(page, 110)]
    assert wrong == [404] * 100 + [429] * 10
    elsewhere = httpx2.ASGITransport(app=page.gateway.app, client=("2001:db8::1", 1))
    async with httpx2.AsyncClient(transport=elsewhere, base_url="http://core") as other:
        assert (await other.get("/u/x")).status_code == 404


async def test_a_database_that_is_away_asks_to_come_again(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(consent, "secrets_there", away)
    answer = await page.http.post(page.path, data=ONE_CLICK)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Try again" in answer.text
    monkeypatch.undo()
    assert (await page.http.post(page.path, data=ONE_CLICK)).status_code == 200


async def test_other_verbs_are_refused(page: Page) -> None:
    assert (await page.http.request("DELETE", page.path)).status_code == 405


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(blacklist_characters="/?#", blacklist_categories=["Cs"]), min_size=1, max_size=200))
async def test_no_token_breaks_the_page(page: Page, clock: ManualClock, text: str) -> None:
    clock.advance(timedelta(seconds=1))
    assert (await page.http.get(f"/u/{quote(text, safe='')}")).status_code in (404, 307)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data", ""]))
async def test_no_body_breaks_the_page(page: Page, clock: ManualClock, body: bytes, kind: str) -> None:
    clock.advance(timedelta(seconds=1))
    answer = await page.http.post(page.path, content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code in (200, 400)

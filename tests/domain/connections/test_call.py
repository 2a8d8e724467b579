"""Calls: what may be declared, and what each message makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.connections import call, sample
from core.domain.connections.call import Call, NotRendered, normal
from core.domain.connections.sample import Carried
from core.domain.webhooks.addresses import Destinations

DESTINATIONS = Destinations()
DM = normal(
    Call(
        method="",
        url="https://api.example.com/v1/people/{{ message.to }}/messages?from=acme",
        headers={"X-Step": "{{ enrollment.step_id }}", "X-Empty": "{{ contact.custom.nothing }}"},
        body='{"text": "{{ message.text }}", "n": {{ message.ordinal }}}',
        content_type="",
    )
)
CONTACT = {"id": "cnt_1", "email": "ada@example.com", "custom": {}}
ENROLLMENT = {"id": "enr_1", "key": "", "workflow_id": "w", "step_id": "first_dm"}


def made(declared: Call, **changed: Any) -> call.Request:
    message = Carried(**{"id": "msg_1", "channel": "dm", "to": "@ada", "text": "hi", **changed})
    return call.render(declared, sample.values(message, CONTACT, ENROLLMENT), message.id, DESTINATIONS)


def problems(declared: Call) -> list[tuple[str, str]]:
    return [(one.field, one.reason) for one in call.check(normal(declared), DESTINATIONS, "call")]


def test_a_message_becomes_a_request() -> None:
    assert problems(DM) == []
    assert made(DM, text='"\n') == call.Request(
        "POST",
        "https://api.example.com/v1/people/%40ada/messages?from=acme",
        {"X-Step": "first_dm", "content-type": "application/json", "idempotency-key": "msg_1"},
        '{"text": "\\"\\n", "n": 1}',
    )


@given(st.text(min_size=1, max_size=40))
def test_no_address_leads_to_another_place(to: str) -> None:
    try:
        url = made(DM, to=to).url
    except NotRendered:
        return
    head, tail = "https://api.example.com/v1/people/", "/messages?from=acme"
    assert url.startswith(head)
    assert url.endswith(tail)
    assert not set(url[len(head) : -len(tail)]) & set("/?#")


@pytest.mark.parametrize("to", [".", "..", "%2e%2e", ""])
def test_a_path_cannot_be_walked_up(to: str) -> None:
    if to == "%2e%2e":
        assert "/%252e%252e/" in made(DM, to=to).url
        return
    with pytest.raises(NotRendered, match="part of the URL's path"):
        made(DM, to=to)


def test_a_form_keeps_its_fields() -> None:
    form = replace(DM, content_type=call.FORM, body="to={{ message.to }}&text={{ message.text }}")
    assert problems(form) == []
    assert parse_qs(made(form, text="a&to=b c+ü\n").body) == {"to": ["@ada"], "text": ["a&to=b c+ü\n"]}


def test_a_header_is_one_line_of_ascii() -> None:
    headed = replace(DM, headers={"X-Text": "{{ message.text }}"})
    assert made(headed, text="a\r\nX-Other: b").headers["X-Text"] == "a X-Other: b"
    with pytest.raises(NotRendered, match="X-Text would not be plain ASCII"):
        made(headed, text="ü")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "GET"}, [("call.method", "METHOD_NOT_ALLOWED")]),
        ({"url": ""}, [("call.url", "REQUIRED")]),
        ({"url": "https://{{ message.to }}.example.com/"}, [("call.url", "URL_HOST_COMPUTED")]),
        ({"url": "https://api.example.com{{ message.to }}"}, [("call.url", "URL_HOST_COMPUTED")]),
        ({"url": "{{ message.to }}"}, [("call.url", "URL_HOST_COMPUTED")]),
        ({"url": "https://api.example.com@{{ message.to }}/"}, [("call.url", "URL_HOST_COMPUTED")]),
        ({"url": "https://127.0.0.1/{{ message.to }}"}, [("call.url", "DESTINATION_NOT_ALLOWED")]),
        ({"url": "http://api.example.com/"}, [("call.url", "URL_NOT_HTTPS")]),
        ({"url": "https://api.example.com/{{ mesage.to }}"}, [("call.url", "TEMPLATE_UNKNOWN_NAME")]),
        ({"headers": {"Authorization": "x"}}, [("call.headers[Authorization]", "HEADER_RESERVED")]),
        ({"headers": {"Host": "x"}}, [("call.headers[Host]", "HEADER_RESERVED")]),
        ({"headers": {"Idempotency-Key": "x"}}, [("call.headers[Idempotency-Key]", "HEADER_RESERVED")]),
        ({"headers": {"X A": "x"}}, [("call.headers[X A]", "HEADER_MALFORMED")]),
        ({"headers": {"X-A": "a\nb"}}, [("call.headers[X-A]", "HEADER_VALUE_MALFORMED")]),
        ({"headers": {"X-A": "1", "x-a": "2"}}, [("call.headers[x-a]", "DUPLICATE")]),
        ({"headers": {"X-A": "{{ contct.email }}"}}, [("call.headers[X-A]", "TEMPLATE_UNKNOWN_NAME")]),
        ({"body": "{% if %}"}, [("call.body", "TEMPLATE_SYNTAX")]),
        ({"body": " "}, [("call.body", "REQUIRED")]),
        ({"body": "\x01"}, [("call.body", "CONTROL_CHARACTER")]),
        ({"body": '{"a": {{ message.text }}}'}, [("call.body", "CALL_CANNOT_BE_MADE")]),
        ({"body": "text"}, [("call.body", "CALL_CANNOT_BE_MADE")]),
        ({"content_type": "json"}, [("call.content_type", "CONTENT_TYPE_MALFORMED")]),
        ({"method": "get", "url": "", "body": ""},
         [("call.method", "METHOD_NOT_ALLOWED"), ("call.url", "REQUIRED"), ("call.body", "REQUIRED")]),
    ],
)  # fmt: skip
def test_everything_that_is_wrong_is_told_at_once(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert problems(replace(DM, **changes)) == expected

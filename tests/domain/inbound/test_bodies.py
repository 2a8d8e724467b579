"""Bodies of every form become messages; what cannot be read becomes one with its fault, never an error."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.inbound import bodies
from core.domain.inbound.bodies import Message
from core.domain.inbound.request import Arrived

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
CE = {"specversion": "1.0", "id": "A234-1234-1234", "source": "/mycontext", "type": "com.example.someevent"}


def read(body: bytes | str | Any, content_type: str = JSON, **headers: str) -> list[Message]:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    named = {"content-type": content_type} if content_type else {}
    return bodies.read(Arrived(raw, {**named, **{name.replace("_", "-"): value for name, value in headers.items()}}))


def one(body: Any, content_type: str = JSON, **headers: str) -> Message:
    (message,) = read(body, content_type, **headers)
    return message


@pytest.mark.parametrize(
    ("body", "content_type", "value"),
    [
        (b'{"a": 1}', JSON, {"a": 1}),
        (b'{"a": 1}', "", {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        (b'{"a": 1}', "application/vnd.api+json", {"a": 1}),
        (b'{"a": 1}', "text/plain", {"a": 1}),
        (b"a=1&b=x+y&b=%C3%BC&c=", FORM, {"a": "1", "b": ["x y", "ü"], "c": ""}),
        (b'payload={"action":"opened"}', FORM, {"action": "opened"}),
        (b"payload=none", FORM, {"payload": "none"}),
        (b'payload={"a":1}&b=2', FORM, {"payload": '{"a":1}', "b": "2"}),
        (b"", JSON, {}),
        (b"", FORM, {}),
        (b"<a/>", "application/xml", "<a/>"),
        (b'"text"', JSON, "text"),
        (b"[1, 2]", JSON, [1, 2]),
        (b"[]", JSON, []),
        (b'{"n": 9223372036854775807, "m": 9223372036854775808}', JSON, {"n": 2**63 - 1, "m": "9223372036854775808"}),
        (b'{"n": ' + b"1" * 5000 + b"}", JSON, {"n": "1" * 5000}),
        (b"NaN", "text/plain", "NaN"),
        (b'{"a\\u0000b": "x\\u0000y\\ud800z"}', JSON, {"ab": "xyz"}),
    ],
)
def test_a_body_becomes_a_value(body: bytes, content_type: str, value: Any) -> None:
    message = one(body, content_type)
    assert (message.fault, message.body, message.event) == (None, value, None)


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "reason"),
    [
        (b"{", JSON, {}, "NOT_JSON"),
        (b"a=1", "", {}, "NOT_JSON"),
        (b'{"a": 1} x', "application/vnd.api+json", {}, "NOT_JSON"),
        (b"\xff\xfe", JSON, {}, "NOT_UTF8"),
        (b"\xff", "application/octet-stream", {}, "NOT_UTF8"),
        (b"[" * 40 + b"]" * 40, JSON, {}, "TOO_DEEP"),
        (b"[" * 200_000, JSON, {}, "TOO_DEEP"),
        (b'{"a":' * 5_000, "text/plain", {}, "TOO_DEEP"),
        (b"\x1f\x8b", JSON, {"content_encoding": "gzip"}, "UNSUPPORTED_ENCODING"),
        (b"&".join(b"a=1" for _ in range(1_001)), FORM, {}, "TOO_MANY_ITEMS"),
        (b"[" + b"{}," * 1_000 + b"{}]", JSON, {}, "TOO_MANY_ITEMS"),
    ],
)
def test_what_cannot_be_read_is_kept_with_its_fault(
    body: bytes, content_type: str, headers: dict[str, str], reason: str
) -> None:
    message = one(body, content_type, **headers)
    assert message.fault is not None
    assert (message.fault.field, message.fault.reason, message.kept.body) == ("body", reason, body)


@pytest.mark.parametrize(
    ("body", "content_type", "place"),
    [
        (b"NaN", JSON, "body"),
        (b'{"n": 1, "m": {"x": [1.5, -Infinity]}}', JSON, "body.m.x[1]"),
        (b'[{"a": 1}, {"a\\u0000b": 1e999}]', JSON, "body[1].ab"),
        (b'{"' + b"k" * 100 + b'": Infinity}', "application/vnd.api+json", "body." + "k" * 64),
        (b"payload={%22a%22:NaN}", FORM, "body.a"),
    ],
)
def test_a_number_that_json_has_not_is_told_with_its_place(body: bytes, content_type: str, place: str) -> None:
    (message,) = bodies.read(Arrived(body, {"content-type": content_type}, {}))
    assert message.fault is not None
    assert (message.fault.reason, message.fault.field, message.kept.body) == ("NOT_FINITE", place, body)


def test_a_list_of_objects_is_a_list_of_messages() -> None:
    messages = read([{"a": 1}, {"a": 2}], webhook_id="msg_1")
    assert [(message.body, message.item) for message in messages] == [({"a": 1}, 0), ({"a": 2}, 1)]
    again = bodies.read(messages[1].kept)
    assert [(message.body, message.headers) for message in again] == [({"a": 2}, messages[1].headers)]


def test_a_structured_cloudevent_is_recognised_with_and_without_its_media_type() -> None:
    sent = {**CE, "time": "2018-04-05T17:31:00Z", "subject": None, "number": 5, "data": {"much": "wow"}}
    for content_type in ("application/cloudevents+json; charset=utf-8", JSON, "", "text/plain"):
        message = one(sent, content_type)
        assert message.event is not None
        assert (message.event.name, message.event.time) == ("com.example.someevent", "2018-04-05T17:31:00Z")
        assert message.event.message_id == "/mycontext#A234-1234-1234"
        assert (message.body, message.fault) == ({"much": "wow"}, None)
        assert message.headers["ce-number"] == "5"
        assert "ce-subject" not in message.headers
        assert bodies.read(message.kept)[0].body == message.body, "what is kept is the same message"


def test_a_binary_cloudevent_is_recognised_by_its_headers() -> None:
    headers = {f"ce-{name}": value for name, value in CE.items()} | {"ce-subject": "Euro%20%E2%82%AC%20%00x"}
    (message,) = bodies.read(Arrived(b'[{"much": "wow"}, {}]', {"content-type": JSON, **headers}))
    assert message.event is not None
    assert (message.event.name, message.body) == ("com.example.someevent", [{"much": "wow"}, {}])
    assert message.headers["ce-subject"] == "Euro € x"
    (empty,) = bodies.read(Arrived(b"", headers))
    assert (empty.body, empty.fault) == (None, None)


def test_a_batch_of_cloudevents_is_many_messages() -> None:
    batch = [{**CE, "id": "1", "data": 1}, {**CE, "id": "2"}, 5, {**CE, "source": ""}]
    messages = read(batch, "application/cloudevents-batch+json")
    assert [message.body for message in messages] == [1, None, None, None]
    assert [message.fault and message.fault.field for message in messages] == [None, None, "body", "body.source"]
    assert read([], "application/cloudevents-batch+json") == []
    for message in messages:
        (again,) = bodies.read(message.kept)
        assert (again.body, again.event, again.fault) == (message.body, message.event, message.fault)


@pytest.mark.parametrize(
    ("kind", "encoded", "data", "reason"),
    [
        ("application/json", base64.b64encode(b'{"a": 1}').decode(), {"a": 1}, None),
        ("", base64.b64encode(b'{"a": 1e999}').decode(), None, "NOT_FINITE"),
        ("image/png", "AAAA", {"data_base64": "AAAA"}, None),
        ("application/json", base64.b64encode(b"[" * 5_000).decode(), {"data_base64": ...}, None),
        ("application/json", "/w==", {"data_base64": "/w=="}, None),
        ("application/json", "no base64!", None, "BAD_CLOUDEVENT"),
        ("application/json", 5, None, "BAD_CLOUDEVENT"),
    ],
)
def test_binary_data_is_decoded_where_it_is_json(kind: str, encoded: Any, data: Any, reason: str | None) -> None:
    message = one({**CE, "datacontenttype": kind, "data_base64": encoded})
    expected = {"data_base64": encoded} if data == {"data_base64": ...} else data
    assert (message.body, message.fault and message.fault.reason) == (expected, reason)


def test_secrets_are_neither_shown_to_mappings_nor_kept() -> None:
    headers = {"authorization": "Bearer x", "cookie": "x", "x-api-key": "x", "x-gitlab-token": "x", "x-topic": "t"}
    (message,) = bodies.read(Arrived(b"{}", headers, {"token": "x", "page": "2"}))
    assert (message.headers, message.query) == ({"x-topic": "t"}, {"page": "2"})
    assert (message.kept.headers, message.kept.query) == ({"x-topic": "t"}, {"page": "2"})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()) | st.sampled_from(list(CE)), inner)
    ),
    max_leaves=20,
)
content_types = st.sampled_from(
    [JSON, FORM, "", "text/plain", "application/cloudevents+json", "application/cloudevents-batch+json", "image/png"]
) | st.text(st.characters(max_codepoint=255), max_size=30)
raw_bodies = (
    st.binary(max_size=300)
    | values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.text(max_size=5), st.text(max_size=20)).map(lambda form: urlencode(form).encode())
)
some_headers = st.dictionaries(
    st.sampled_from(["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "webhook-id", "content-encoding"]),
    st.text(st.characters(max_codepoint=255), max_size=20),
)


def test_what_is_kept_is_read_again_as_it_was_read_first() -> None:
    arrived = Arrived(b"{}", {"content-encoding": "\0", "content-type": "application/json\0"})
    (message,) = bodies.read(arrived)
    assert bodies.read(message.kept) == [message]


@given(body=raw_bodies, content_type=content_types, headers=some_headers)
def test_any_bytes_become_messages_that_every_database_keeps(
    body: bytes, content_type: str, headers: dict[str, str]
) -> None:
    for message in bodies.read(Arrived(body, {**headers, "content-type": content_type})):
        for part in (message.body, message.headers, message.event and dict(message.event.attributes)):
            text = json.dumps(part, ensure_ascii=False, allow_nan=False)
            assert "\\u0000" not in text
            text.encode()
        (again, *more) = bodies.read(message.kept)
        assert not more
        assert (again.body, again.headers, again.fault) == (message.body, message.headers, message.fault)

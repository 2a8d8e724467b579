"""What the usual systems send is an event without a mapping; with one, it is what that says or a clear fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.inbound import bodies, mapping
from core.domain.inbound.mapping import Mapped, MappingRules
from core.domain.inbound.request import Arrived
from core.domain.inbound.settings import rules_of, stored_rules, stored_verifier, verifier_of
from core.domain.inbound.verifiers import HmacForm, Kind, Verifier
from core.domain.records.ingestion import IncomingEvent

CE = {"specversion": "1.0", "id": "1", "source": "/orders", "type": "order.paid", "time": "2026-03-02T08:00:00Z"}
ORDER = {"id": 7, "customer": {"email": "ada@example.com", "name": "Ada"}, "total": 12.5, "at": 1772442000}


def mapped(body: Any, rules: MappingRules | None = None, kind: Kind = Kind.NONE, **headers: str) -> Mapped:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    message, *_ = bodies.read(Arrived(raw, named, {"campaign": "spring"}))
    return mapping.apply(rules or MappingRules(), kind, message, "crm")


def event(name: str, fields: Any, at: str = "", message_id: str = "", **more: Any) -> IncomingEvent:
    return IncomingEvent("action", name, "crm", fields, created_at=at, message_id=message_id, **more)


STANDARD = {"type": "user.created", "timestamp": "2026-03-02T08:00:00Z", "data": {"email": "ada@example.com"}}
GITHUB = {"action": "opened", "number": 7}
STRIPE = {"id": "evt_1", "type": "invoice.paid", "created": 1772442000, "data": {"object": {}}}
SLACK = {"type": "event_callback", "event_id": "Ev1", "event_time": 1772442000, "event": {"type": "app_mention"}}
DRIPPI = {"event": "reply.received", "user_id": "u", "created_at": "2026-03-02T08:00:00Z", "data": {"text": "hi"}}
AT = "2026-03-02T09:00:00+00:00"

BY_CONVENTION: list[tuple[str, Any, Kind, dict[str, str], IncomingEvent]] = [
    (
        "Standard Webhooks",
        STANDARD,
        Kind.STANDARD_WEBHOOKS,
        {"webhook_id": "msg_1", "webhook_signature": "v1,x"},
        event("user.created", STANDARD["data"], "2026-03-02T08:00:00Z", "msg_1"),
    ),
    (
        "Standard Webhooks under the older names",
        STANDARD,
        Kind.STANDARD_WEBHOOKS,
        {"svix_id": "msg_1", "svix_signature": "v1,x", "webhook_id": "unsigned"},
        event("user.created", STANDARD["data"], "2026-03-02T08:00:00Z", "msg_1"),
    ),
    ("Stripe", STRIPE, Kind.STRIPE, {}, event("invoice.paid", STRIPE, AT, "evt_1")),
    (
        "GitHub",
        GITHUB,
        Kind.GITHUB,
        {"x_github_event": "issues", "x_github_delivery": "72d3162e"},
        event("issues.opened", GITHUB, "", "72d3162e"),
    ),
    ("GitHub's ping", {"zen": "x"}, Kind.GITHUB, {"x_github_event": "ping"}, event("ping", {"zen": "x"})),
    (
        "Shopify",
        {"id": 1},
        Kind.SHOPIFY,
        {"x_shopify_topic": "orders/create", "x_shopify_webhook_id": "b54557e4"},
        event("orders/create", {"id": 1}, "", "b54557e4"),
    ),
    ("Slack", SLACK, Kind.SLACK, {}, event("app_mention", SLACK, AT, "Ev1")),
    (
        "an envelope by other names",
        DRIPPI,
        Kind.HMAC,
        {},
        event("reply.received", {"text": "hi"}, "2026-03-02T08:00:00Z"),
    ),
    ("a CloudEvent", {**CE, "data": {"a": 1}}, Kind.NONE, {}, event("order.paid", {"a": 1}, CE["time"], "/orders#1")),
    ("a CloudEvent without data", CE, Kind.NONE, {}, event("order.paid", {}, CE["time"], "/orders#1")),
    (
        "a CloudEvent of a text",
        {**CE, "data": "x"},
        Kind.NONE,
        {},
        event("order.paid", {"data": "x"}, CE["time"], "/orders#1"),
    ),
    ("a body that says what it is", {"event": "x", "id": "5"}, Kind.BEARER, {}, event("x", {"event": "x", "id": "5"})),
]


@pytest.mark.parametrize(
    ("body", "kind", "headers", "expected"),
    [case[1:] for case in BY_CONVENTION],
    ids=[case[0] for case in BY_CONVENTION],
)
def test_what_the_usual_systems_send_needs_no_mapping(
    body: Any, kind: Kind, headers: dict[str, str], expected: IncomingEvent
) -> None:
    assert mapped(body, None, kind, **headers) == Mapped(expected, message_id=expected.message_id)


def test_an_id_of_a_thing_is_no_id_of_a_message() -> None:
    """Two events about one contact would be taken for repeats of each other."""
    assert mapped({"type": "contact.updated", "id": "42"}).message_id == ""


def test_the_id_that_is_signed_goes_before_attributes_in_headers() -> None:
    """Who catches a request that is signed could else send it again and again, each time as another CloudEvent."""
    headers = {f"ce_{name}": CE[name] for name in ("specversion", "source", "type")}
    signed = {"webhook_id": "msg_1", "webhook_signature": "v1,x"}
    again = [mapped({"a": 1}, None, Kind.STANDARD_WEBHOOKS, ce_id=one, **headers, **signed) for one in ("1", "2")]
    assert [one.message_id for one in again] == ["msg_1", "msg_1"]
    body = {**CE, "id": "1"}  # attributes in the body are signed with it
    assert mapped(body, None, Kind.STANDARD_WEBHOOKS, **signed).message_id == "/orders#1"


def test_two_producers_may_use_the_same_cloudevents_id() -> None:
    ids = {mapped({**CE, "source": source}).message_id for source in ("/orders", "/invoices")}
    assert len(ids) == 2


def test_a_mapping_says_what_is_what() -> None:
    rules = MappingRules(
        event_type='"conversion"',
        event_name='"order." + headers["x-topic"]',
        fields=(
            ("email", "body.customer.email"),
            ("first_name", "body.customer.name"),
            ("amount", "body.total * 2.0"),
            ("campaign", "query.campaign"),
            ("vat", "body.customer.vat_id"),
        ),
        occur_time="body.at",
        message_id="headers['x-id']",
        person_id="body.id",
        when="body.total > 10.0",
    )
    fields = {"email": "ada@example.com", "first_name": "Ada", "amount": 25.0, "campaign": "spring"}
    expected = IncomingEvent("conversion", "order.paid", "crm", fields, "", "7", "", AT, "d-1")
    assert mapped(ORDER, rules, x_topic="paid", x_id="d-1") == Mapped(expected, message_id="d-1")
    assert mapping.problems(rules) == ()


def test_what_when_does_not_want_is_left_out() -> None:
    named = {"event_name": '"x"'}
    assert mapped(ORDER, MappingRules(when="body.total > 100.0", **named)).left_out
    assert mapped(ORDER, MappingRules(when='body.kind == "test"', **named)).left_out, "what is not there does not hold"
    assert mapped(ORDER, MappingRules(when="!has(body.kind)", **named)).event is not None


@pytest.mark.parametrize(
    ("body", "rules", "field", "reason"),
    [
        (ORDER, {}, "mapping.event_name", "NO_EVENT_NAME"),
        ([1], {"event_name": '"x"'}, "body", "NOT_AN_OBJECT"),
        (b"{", {}, "body", "NOT_JSON"),
        ({**CE, "type": ""}, {}, "body.type", "BAD_CLOUDEVENT"),
        (5, {}, "mapping.event_name", "NO_EVENT_NAME"),
        (ORDER, {"event_name": "body.kind"}, "mapping.event_name", "MAPPING_FAILED"),
        (ORDER, {"event_name": "body.customer"}, "mapping.event_name", "MAPPING_FAILED"),
        (ORDER, {"event_name": "body.id"}, "mapping.event_name", "MAPPING_FAILED"),
        (ORDER, {"event_name": '"x"', "event_type": "body.kind"}, "mapping.event_type", "MAPPING_FAILED"),
        (ORDER, {"event_name": '"x"', "message_id": "body.customer"}, "mapping.message_id", "MAPPING_FAILED"),
        (ORDER, {"event_name": '"x"', "message_id": "body.total"}, "mapping.message_id", "MAPPING_FAILED"),
        (ORDER, {"event_name": '"x"', "person_id": "body.none"}, "mapping.person_id", "MAPPING_FAILED"),
        (ORDER, {"event_name": '"x"', "occur_time": "body.customer"}, "mapping.occur_time", "NOT_AN_INSTANT"),
        (ORDER, {"event_name": '"x"', "occur_time": "-5"}, "mapping.occur_time", "NOT_AN_INSTANT"),
        (ORDER, {"event_name": '"x"', "occur_time": "1e300"}, "mapping.occur_time", "NOT_AN_INSTANT"),
        (
            ORDER,
            {"event_name": '"x"', "fields": (("a", "body.x"), ("b", "body.y"))},
            "mapping.fields",
            "NOTHING_MAPPED",
        ),
        (ORDER, {"event_name": '"x"', "fields": (("a", "body.id / 0"),)}, "mapping.fields[a]", "MAPPING_FAILED"),
        (ORDER, {"event_name": '"x"', "when": "body.id / 0 == 1"}, "mapping.when", "MAPPING_FAILED"),
        ({"type": "x", "big": "y" * 300_000}, {}, "fields", "TOO_LARGE"),
        ({**STRIPE, "created": "soon"}, {"occur_time": "body.created.x"}, "mapping.occur_time", "MAPPING_FAILED"),
    ],
)
def test_what_cannot_be_an_event_says_why(body: Any, rules: dict[str, Any], field: str, reason: str) -> None:
    found = mapped(body, MappingRules(**rules))
    assert (found.event, found.left_out) == (None, False)
    assert found.fault is not None
    assert (found.fault.field, found.fault.reason) == (field, reason)


def test_what_does_not_fit_is_known_by_its_message_id_all_the_same() -> None:
    rules = MappingRules(event_name="body.kind", message_id="body.customer.email")
    assert mapped(ORDER, rules).message_id == "ada@example.com"
    assert mapped(b"{", kind=Kind.GITHUB, x_github_delivery="d-1").message_id == "d-1"


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("body.at", AT),
        ("string(body.at)", AT),
        ("timestamp('2026-03-02T09:00:00Z')", AT),
        ("'2026-03-02T09:00:00Z'", "2026-03-02T09:00:00Z"),
        ("double(body.at) + 0.5", "2026-03-02T09:00:00.500000+00:00"),
    ],
)
def test_times_are_iso_or_seconds(written: str, at: str) -> None:
    found = mapped(ORDER, MappingRules(event_name='"x"', occur_time=written))
    assert found.event is not None
    assert found.event.created_at == at


def test_an_id_that_is_too_long_becomes_its_hash() -> None:
    one, other = (mapped({"type": "x"}, webhook_id="m" * 300 + end).message_id for end in "ab")
    assert (len(one), one[:7], one == other) == (71, "sha256:", False)


def test_everything_wrong_with_a_mapping_is_told_with_its_place() -> None:
    rules = MappingRules(
        event_type='"laed"',
        event_name="body.type +",
        fields=(("email", "bodi.email"), ("", "body.x"), ("ok", "body.ok")),
        occur_time="now",
        when="1 + 1",
    )
    assert [(one.field, one.reason) for one in mapping.problems(rules)] == [
        ("mapping.event_name", "EXPRESSION_SYNTAX"),
        ("mapping.when", "EXPRESSION_TYPE"),
        ("mapping.occur_time", "EXPRESSION_UNKNOWN_NAME"),
        ("mapping.fields[email]", "EXPRESSION_UNKNOWN_NAME"),
        ("mapping.fields[]", "BAD_NAME"),
        ("mapping.event_type", "UNKNOWN_EVENT_TYPE"),
    ]
    hints = {one.field: one.hint for one in mapping.problems(rules)}
    assert hints["mapping.fields[email]"] == "Names begin with body, headers, query."
    assert hints["mapping.event_type"].startswith("Did you mean lead?")
    many = MappingRules(fields=tuple((f"f{number}", "body.x") for number in range(101)))
    assert [one.reason for one in mapping.problems(many)] == ["TOO_MANY_ITEMS"]


def test_settings_survive_being_stored() -> None:
    rules = MappingRules(event_name='"x"', fields=(("b", "body.b"), ("a", "body.a")))
    verifier = Verifier(Kind.HMAC, ("s", "t"), HmacForm("X-Signature"), "c")
    assert rules_of(json.loads(json.dumps(stored_rules(rules)))) == rules
    assert verifier_of(json.loads(json.dumps(stored_verifier(verifier)))) == verifier
    assert (stored_rules(MappingRules()), stored_verifier(Verifier())) == (None, None)
    assert (rules_of(None), verifier_of(None)) == (MappingRules(), Verifier())


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
KEYS = st.sampled_from(["type", "event", "data", "timestamp", "created", "id", "event_id", "event_time", *CE])


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5)


documents = st.recursive(leaves, containers, max_leaves=12)
WHOLE = MappingRules(
    event_type="body.event",
    event_name="body.type",
    fields=(("all", "body"), ("one", "body.data.id"), ("sum", "body.id + body.id")),
    occur_time="body.timestamp",
    message_id="body.id",
    person_id="body.event_id",
    when='has(body.type) || body.event == "x"',
)


@given(body=documents, kind=st.sampled_from(list(Kind)), rules=st.sampled_from([MappingRules(), WHOLE]))
def test_any_document_is_an_event_or_left_out_or_a_fault(body: Any, kind: Kind, rules: MappingRules) -> None:
    found = mapped(body, rules, kind, x_github_event="x", webhook_id="m")
    assert [found.event is not None, found.left_out, found.fault is not None].count(True) == 1
    if found.event is not None:
        json.dumps(found.event.fields, allow_nan=False)
        assert len(found.event.message_id) <= 200

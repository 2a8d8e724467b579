"""Every option of an endpoint: what is taken, and everything that is wrong told at once, with its place."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.webhooks import endpoint_options
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.authentication import Basic, ClientCertificate
from core.domain.webhooks.bodies import PayloadFormat
from core.domain.webhooks.endpoint_options import Options, Surroundings
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.signing import ExtraSignature, SignatureFormat
from core.domain.webhooks.states import EndpointKind, Ordering
from tests.domain.webhooks.certificates import certificate_pem, key_pem

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PLAIN = Options(
    kind=EndpointKind.PUSH,
    url="https://hooks.example.com/in",
    description="",
    event_types=(),
    filter="",
    headers={},
    auth=None,
    extra_signatures=(),
    payload_format=PayloadFormat.STANDARD,
    retry_preset=Preset.STANDARD,
    retry_delays=(),
    rate_per_second=0,
    max_in_flight=0,
    ordering=Ordering.BEST_EFFORT,
)
EVERYTHING = [field.name for field in fields(Options)]
HEX, STAMPED, V1A = SignatureFormat.SHA256_HEX, SignatureFormat.TIMESTAMPED, SignatureFormat.V1A
CERTIFICATE = ClientCertificate(certificate_pem("client"), key_pem("client"))


def check(options, prefix=""):
    return endpoint_options.check(options, EVERYTHING, Surroundings(Destinations(plain_http=True), NOW, prefix))


def found(**changes):
    return [(one.field, one.reason) for one in check(replace(PLAIN, **changes))[1]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": EndpointKind.PULL, "url": ""},
        {"event_types": ("deal.won", "lead.qualified")},
        {"filter": 'event.type == "deal.won" && event.data.amount > 100'},
        {"filter": 'event.time > timestamp("2026-01-31T00:00:00Z")'},
        {"headers": {"X-Team": "sales", "traceparent": "00-ab-cd-01", "Cookie": "a=b"}},
        {"headers": {f"X-{number}": "1" for number in range(20)}},
        {"auth": Basic("user", "pass")},
        {"auth": CERTIFICATE},
        {"extra_signatures": (ExtraSignature(V1A), ExtraSignature(HEX, "X-Drippi-Signature"))},
        {"extra_signatures": (ExtraSignature(STAMPED, "Stripe-Signature"), ExtraSignature(HEX, "X-Hub-Signature-256"))},
        {"retry_delays": (timedelta(seconds=1), timedelta(days=7))},
        {"rate_per_second": 0.001},
        {"rate_per_second": 1_000.0},
        {"max_in_flight": 256},
    ],
)
def test_what_is_right_is_taken_as_it_is(changes):
    options, violations = check(replace(PLAIN, **changes))
    assert violations == []
    assert options == replace(PLAIN, **changes)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"url": ""}, [("url", "URL_MALFORMED")]),
        ({"url": "https://10.0.0.1/"}, [("url", "DESTINATION_NOT_ALLOWED")]),
        ({"kind": EndpointKind.PULL}, [("url", "CONFLICT")]),
        ({"event_types": ("deal.won", "Deal")}, [("event_types[1]", "EVENT_TYPE_MALFORMED")]),
        ({"filter": "event.data.amount >"}, [("filter", "EXPRESSION_SYNTAX")]),
        ({"filter": "event.data.amount"}, []),
        ({"filter": "event.type"}, [("filter", "EXPRESSION_TYPE")]),
        ({"filter": "event.typ == 'x'"}, [("filter", "EXPRESSION_UNKNOWN_NAME")]),
        ({"filter": "x" * 2_001}, [("filter", "EXPRESSION_TOO_LONG")]),
        ({"headers": {f"X-{number}": "1" for number in range(21)}}, [("headers", "TOO_MANY_ITEMS")]),
        ({"headers": {"Host": "x"}}, [("headers[Host]", "HEADER_RESERVED")]),
        ({"headers": {"content-LENGTH": "1"}}, [("headers[content-LENGTH]", "HEADER_RESERVED")]),
        ({"headers": {"Content-Type": "text/plain"}}, [("headers[Content-Type]", "HEADER_RESERVED")]),
        ({"headers": {"Transfer-Encoding": "chunked"}}, [("headers[Transfer-Encoding]", "HEADER_RESERVED")]),
        ({"headers": {"Authorization": "Basic x"}}, [("headers[Authorization]", "HEADER_RESERVED")]),
        ({"headers": {"Webhook-Id": "1"}}, [("headers[Webhook-Id]", "HEADER_RESERVED")]),
        ({"headers": {"webhook-anything": "1"}}, [("headers[webhook-anything]", "HEADER_RESERVED")]),
        ({"headers": {"": "1"}}, [("headers[]", "HEADER_MALFORMED")]),
        ({"headers": {"X Team": "1"}}, [("headers[X Team]", "HEADER_MALFORMED")]),
        ({"headers": {"X-Té": "1"}}, [("headers[X-Té]", "HEADER_MALFORMED")]),
        ({"headers": {"X:": "1"}}, [("headers[X:]", "HEADER_MALFORMED")]),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, [("headers[X-A]", "HEADER_VALUE_MALFORMED")]),
        ({"headers": {"X-A": "1\n"}}, [("headers[X-A]", "HEADER_VALUE_MALFORMED")]),
        ({"headers": {"X-A": ""}}, [("headers[X-A]", "HEADER_VALUE_MALFORMED")]),
        ({"headers": {"X-A": " a"}}, [("headers[X-A]", "HEADER_VALUE_MALFORMED")]),
        ({"headers": {"X-A": "é"}}, [("headers[X-A]", "HEADER_VALUE_MALFORMED")]),
        ({"headers": {"X-A": "\0"}}, [("headers[X-A]", "HEADER_VALUE_MALFORMED")]),
        ({"headers": {"X-A": "a" * 2_001}}, [("headers[X-A]", "TOO_LONG")]),
        ({"headers": {"X-A": "1", "x-a": "2"}}, [("headers[x-a]", "DUPLICATE")]),
        ({"auth": Basic("", "x")}, [("auth.basic.username", "REQUIRED")]),
        ({"kind": EndpointKind.PULL, "url": "", "auth": Basic("a", "x")}, [("auth", "CONFLICT")]),
        ({"url": "http://hooks.example.com/", "auth": CERTIFICATE}, [("auth.mtls", "CONFLICT")]),
        ({"extra_signatures": (ExtraSignature(HEX),)}, [("extra_signatures[0].header", "REQUIRED")]),
        ({"extra_signatures": (ExtraSignature(V1A, "X-A"),)}, [("extra_signatures[0].header", "CONFLICT")]),
        (
            {"extra_signatures": (ExtraSignature(HEX, "X-A"), ExtraSignature(STAMPED, "x-a"))},
            [("extra_signatures[1].header", "DUPLICATE")],
        ),
        (
            {"extra_signatures": (ExtraSignature(V1A), ExtraSignature(V1A))},
            [("extra_signatures[1].header", "DUPLICATE")],
        ),
        (
            {"extra_signatures": (ExtraSignature(HEX, "X-A"),), "headers": {"x-A": "1"}},
            [("extra_signatures[0].header", "DUPLICATE")],
        ),
        (
            {"extra_signatures": (ExtraSignature(HEX, "webhook-signature"), ExtraSignature(STAMPED, "Host"))},
            [("extra_signatures[0].header", "HEADER_RESERVED"), ("extra_signatures[1].header", "HEADER_RESERVED")],
        ),
        (
            {"extra_signatures": tuple(ExtraSignature(HEX, f"X-{number}") for number in range(5))},
            [("extra_signatures", "TOO_MANY_ITEMS")],
        ),
        (
            {"retry_delays": (timedelta(0), timedelta(seconds=5), timedelta(days=7, seconds=1))},
            [("retry_delays[0]", "OUT_OF_RANGE"), ("retry_delays[2]", "OUT_OF_RANGE")],
        ),
        ({"retry_delays": (timedelta(seconds=1),) * 21}, [("retry_delays", "TOO_MANY_ITEMS")]),
        ({"rate_per_second": -1}, [("rate_per_second", "OUT_OF_RANGE")]),
        ({"rate_per_second": 1_000.5}, [("rate_per_second", "OUT_OF_RANGE")]),
        ({"rate_per_second": float("nan")}, [("rate_per_second", "OUT_OF_RANGE")]),
        ({"max_in_flight": -1}, [("max_in_flight", "OUT_OF_RANGE")]),
        ({"max_in_flight": 257}, [("max_in_flight", "OUT_OF_RANGE")]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(changes, wrong):
    assert found(**changes) == wrong


def test_everything_is_told_at_once_with_the_prefix_of_the_request():
    options = replace(PLAIN, url="x", filter="!", headers={"Host": "x"}, rate_per_second=-1, max_in_flight=-1)
    places = [one.field for one in check(options, "endpoint.")[1]]
    assert places == [
        "endpoint.url",
        "endpoint.filter",
        "endpoint.headers[Host]",
        "endpoint.rate_per_second",
        "endpoint.max_in_flight",
    ]


def test_only_the_fields_that_change_are_judged():
    options = replace(PLAIN, url="https://10.0.0.1/", filter="!")
    around = Surroundings(Destinations(), NOW)
    assert [one.field for one in endpoint_options.check(options, ["filter"], around)[1]] == ["filter"]
    assert endpoint_options.check(options, ["description"], around) == (options, [])


def test_new_headers_are_judged_beside_the_signatures_that_are_there():
    options = replace(PLAIN, headers={"x-signed": "1"}, extra_signatures=(ExtraSignature(HEX, "X-Signed"),))
    wrong = endpoint_options.check(options, ["headers"], Surroundings(Destinations(), NOW))[1]
    assert [(one.field, one.reason) for one in wrong] == [("extra_signatures[0].header", "DUPLICATE")]


def test_a_url_is_kept_in_normal_form_and_event_types_once():
    options, _ = check(replace(PLAIN, url="HTTPS://Hooks.Example.com:443/in", event_types=("a.b", "a.b")))
    assert (options.url, options.event_types) == ("https://hooks.example.com/in", ("a.b",))


@given(name=st.text(max_size=30), value=st.text(max_size=30))
def test_no_header_that_is_taken_breaks_out_of_its_line_or_takes_one_of_ours(name, value):
    _, violations = check(replace(PLAIN, headers={name: value}))
    if not violations:
        assert name.isascii()
        assert not set(name) & set("\r\n\0: ")
        assert not set(value) & set("\r\n\0")
        assert value == value.strip() != ""
        lowered = name.lower()
        assert lowered not in endpoint_options.OF_HTTP | endpoint_options.OF_AUTHENTICATION
        assert not lowered.startswith("webhook-")

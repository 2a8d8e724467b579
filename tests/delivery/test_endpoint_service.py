"""Every option of an endpoint through its handlers: set, shown, changed, and at work in what a receiver gets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from core.domain.errors import Invalid
from core.domain.webhooks import signing
from core.store.webhooks import endpoints
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.conftest import ORG
from tests.delivery.service import Service, reasons
from tests.domain.webhooks.certificates import certificate_pem, key_pem

pytestmark = [pytest.mark.anyio, pytest.mark.one_database]
URL = "https://hooks.example.com/in"
OAUTH2 = pb.OAuth2Auth(token_url="https://id.example.com/token", client_id="client", client_secret="hidden", scope="x")
EVERYTHING = {
    "description": "CRM",
    "event_types": ["deal.won"],
    "retry_preset": pb.RETRY_PRESET_QUICK,
    "filter": "event.data.amount > 100",
    "headers": {"X-Team": "sales"},
    "auth": pb.EndpointAuth(basic=pb.BasicAuth(username="user", password="hidden")),
    "extra_signatures": [
        pb.ExtraSignature(format=pb.SIGNATURE_FORMAT_V1A),
        pb.ExtraSignature(format=pb.SIGNATURE_FORMAT_SHA256_HEX, header="X-Drippi-Signature"),
        pb.ExtraSignature(format=pb.SIGNATURE_FORMAT_TIMESTAMPED, header="X-Stamped"),
    ],
    "payload_format": pb.PAYLOAD_FORMAT_EVENT,
    "retry_delays": [Duration(seconds=1), Duration(seconds=90)],
    "rate_per_second": 2.5,
    "max_in_flight": 3,
    "ordering": pb.ORDERING_BY_CONTACT,
}


@pytest.fixture
async def service(outbox, sender):
    return Service(outbox, sender)


def without_password(values):
    return {**values, "auth": pb.EndpointAuth(basic=pb.BasicAuth(username="user"))}


async def test_every_option_is_kept_and_shown_but_for_what_is_secret(service):
    created = (await service.create(URL, **EVERYTHING)).endpoint
    assert created == await service.endpoint(created.id)
    shown = pb.Endpoint(
        id=created.id,
        url=URL,
        state=pb.ENDPOINT_STATE_ACTIVE,
        kind=pb.ENDPOINT_KIND_PUSH,
        verification=pb.VERIFICATION_NOT_REQUIRED,
        etag='"1"',
        create_time=created.create_time,
        update_time=created.update_time,
        public_key=created.public_key,
        **without_password(EVERYTHING),
    )
    assert created == shown
    assert created.public_key.startswith("whpk_")


async def test_what_is_left_out_has_its_default(service):
    created = (await service.create(URL)).endpoint
    assert created == pb.Endpoint(
        id=created.id,
        url=URL,
        state=pb.ENDPOINT_STATE_ACTIVE,
        kind=pb.ENDPOINT_KIND_PUSH,
        verification=pb.VERIFICATION_NOT_REQUIRED,
        retry_preset=pb.RETRY_PRESET_STANDARD,
        payload_format=pb.PAYLOAD_FORMAT_STANDARD,
        ordering=pb.ORDERING_BEST_EFFORT,
        etag='"1"',
        create_time=created.create_time,
        update_time=created.update_time,
    )


async def test_everything_wrong_is_told_at_once(service):
    with pytest.raises(Invalid) as caught:
        await service.create(
            "https://10.0.0.1/",
            filter="!",
            headers={"Host": "x"},
            auth=pb.EndpointAuth(bearer=pb.BearerAuth()),
            rate_per_second=-1,
        )
    assert reasons(caught) == [
        ("url", "DESTINATION_NOT_ALLOWED"),
        ("filter", "EXPRESSION_SYNTAX"),
        ("headers[Host]", "HEADER_RESERVED"),
        ("auth.bearer.token", "REQUIRED"),
        ("rate_per_second", "OUT_OF_RANGE"),
    ]


@pytest.mark.parametrize("name", list(EVERYTHING))
async def test_each_option_can_be_changed_alone_and_cleared(service, name):
    endpoint = (await service.create(URL)).endpoint
    changed = await service.update(pb.Endpoint(id=endpoint.id, **{name: EVERYTHING[name]}), name)
    expected = pb.Endpoint()
    expected.CopyFrom(endpoint)
    expected.MergeFrom(pb.Endpoint(**{name: without_password(EVERYTHING)[name]}))
    expected.etag, expected.public_key = '"2"', changed.public_key
    assert changed == expected
    cleared = await service.update(pb.Endpoint(id=endpoint.id), name)
    endpoint.etag = '"3"'
    assert cleared == endpoint


@pytest.mark.parametrize("name", list(EVERYTHING))
async def test_what_is_set_is_changed_where_no_mask_is_given(service, name):
    endpoint = (await service.create(URL)).endpoint
    changed = await service.update(pb.Endpoint(id=endpoint.id, **{name: EVERYTHING[name]}))
    assert getattr(changed, name) == getattr(pb.Endpoint(**without_password(EVERYTHING)), name)


async def test_what_was_read_can_be_written_back_and_keeps_its_secrets(service, outbox):
    endpoint = (await service.create(URL, **EVERYTHING)).endpoint
    endpoint.description = "another"
    endpoint.ClearField("state")
    written = await service.update(endpoint)
    assert (written.description, written.public_key) == ("another", endpoint.public_key)
    row = await outbox.endpoint_row(endpoint.id)
    assert row.auth == {"scheme": "basic", "username": "user", "password": "hidden"}


@pytest.mark.parametrize(
    ("auth", "given", "kept"),
    [
        (
            pb.EndpointAuth(oauth2=OAUTH2),
            pb.EndpointAuth(oauth2=pb.OAuth2Auth(token_url="https://evil.example.com/")),
            False,
        ),
        (pb.EndpointAuth(bearer=pb.BearerAuth(token="hidden")), pb.EndpointAuth(bearer=pb.BearerAuth()), True),
        (
            pb.EndpointAuth(bearer=pb.BearerAuth(token="hidden")),
            pb.EndpointAuth(basic=pb.BasicAuth(username="u")),
            False,
        ),
    ],
)
async def test_a_secret_is_kept_only_for_what_it_was_given_for(service, outbox, auth, given, kept):
    endpoint = (await service.create(URL, auth=auth)).endpoint
    if kept:
        await service.update(pb.Endpoint(id=endpoint.id, auth=given), "auth")
    else:
        with pytest.raises(Invalid):
            await service.update(pb.Endpoint(id=endpoint.id, auth=given), "auth")
    assert "hidden" in json.dumps((await outbox.endpoint_row(endpoint.id)).auth)


@pytest.mark.parametrize(
    ("url", "moves"),
    [
        ("https://hooks.example.com/elsewhere", False),
        ("https://hooks.example.com:80/in", True),
        ("https://evil.example.com/in", True),
    ],
)
async def test_an_endpoint_that_moves_to_another_host_takes_no_credentials_along(service, url, moves):
    endpoint = (await service.create(URL, auth=EVERYTHING["auth"])).endpoint
    if not moves:
        assert (await service.update(pb.Endpoint(id=endpoint.id, url=url))).url == url
        return
    with pytest.raises(Invalid) as caught:
        await service.update(pb.Endpoint(id=endpoint.id, url=url))
    assert reasons(caught) == [("endpoint.auth", "AUTH_NEEDED_AGAIN")]
    with pytest.raises(Invalid):
        await service.update(pb.Endpoint(id=endpoint.id, url=url, auth=endpoint.auth))
    again = pb.EndpointAuth(basic=pb.BasicAuth(username="user", password="new"))
    assert (await service.update(pb.Endpoint(id=endpoint.id, url=url, auth=again))).url == url


async def test_a_client_certificate_may_move_because_its_key_is_never_sent(service):
    shown = pb.MtlsAuth(certificate=certificate_pem("client"), private_key=key_pem("client"))
    endpoint = (await service.create(URL, auth=pb.EndpointAuth(mtls=shown))).endpoint
    assert endpoint.auth.mtls == pb.MtlsAuth(certificate=certificate_pem("client"))
    moved = await service.update(pb.Endpoint(id=endpoint.id, url="https://other.example.com/"))
    assert moved.url == "https://other.example.com/"


@pytest.mark.parametrize(
    "name", ["kind", "verification", "public_key", "failing_since_time", "disable_progress_percent"]
)
async def test_what_the_core_itself_says_cannot_be_changed(service, name):
    endpoint = (await service.create(URL)).endpoint
    with pytest.raises(Invalid) as caught:
        await service.update(pb.Endpoint(id=endpoint.id), name)
    assert reasons(caught) == [("update_mask.paths[0]", "UNKNOWN_FIELD")]


async def test_an_endpoint_that_fetches_has_no_url_and_no_auth(service):
    endpoint = (await service.create(kind=pb.ENDPOINT_KIND_PULL)).endpoint
    assert (endpoint.kind, endpoint.url) == (pb.ENDPOINT_KIND_PULL, "")
    with pytest.raises(Invalid) as caught:
        await service.create(URL, kind=pb.ENDPOINT_KIND_PULL, auth=EVERYTHING["auth"], require_verification=True)
    assert reasons(caught) == [("url", "CONFLICT"), ("auth", "CONFLICT"), ("require_verification", "CONFLICT")]
    with pytest.raises(Invalid) as caught:
        await service.update(pb.Endpoint(id=endpoint.id, url=URL))
    assert reasons(caught) == [("endpoint.url", "CONFLICT")]


@pytest.mark.parametrize("name", ["rate_per_second", "max_in_flight"])
async def test_an_endpoint_that_fetches_has_no_limit_that_nobody_would_keep_to(service, name):
    with pytest.raises(Invalid) as caught:
        await service.create(kind=pb.ENDPOINT_KIND_PULL, **{name: EVERYTHING[name]})
    assert reasons(caught) == [(name, "CONFLICT")]
    endpoint = (await service.create(kind=pb.ENDPOINT_KIND_PULL)).endpoint
    with pytest.raises(Invalid) as caught:
        await service.update(pb.Endpoint(id=endpoint.id, **{name: EVERYTHING[name]}))
    assert reasons(caught) == [(f"endpoint.{name}", "CONFLICT")]
    (violation,) = caught.value.violations
    assert "sets its own pace" in violation.message
    assert "max_in_flight where you stream" in violation.hint
    assert await service.update(pb.Endpoint(id=endpoint.id), name) == await service.endpoint(endpoint.id)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"url": URL, "idle_limit": Duration(seconds=60)}, "CONFLICT"),
        ({"kind": pb.ENDPOINT_KIND_PULL, "idle_limit": Duration(seconds=59)}, "OUT_OF_RANGE"),
        ({"kind": pb.ENDPOINT_KIND_PULL, "idle_limit": Duration(seconds=30 * 86_400 + 1)}, "OUT_OF_RANGE"),
        ({"kind": pb.ENDPOINT_KIND_PULL, "idle_limit": Duration()}, "OUT_OF_RANGE"),
    ],
)
async def test_only_an_endpoint_that_fetches_is_temporary_and_for_a_time_that_makes_sense(service, values, reason):
    with pytest.raises(Invalid) as caught:
        await service.create(**values)
    assert reasons(caught) == [("idle_limit", reason)]


async def test_a_temporary_endpoint_shows_when_it_ends(service, outbox):
    endpoint = (await service.create(kind=pb.ENDPOINT_KIND_PULL, idle_limit=Duration(seconds=90))).endpoint
    assert endpoint.idle_limit == Duration(seconds=90)
    assert endpoint.expire_time.ToDatetime(UTC) == outbox.clock.now() + timedelta(seconds=90)
    lasting = (await service.create(kind=pb.ENDPOINT_KIND_PULL)).endpoint
    assert not lasting.HasField("idle_limit")
    assert not lasting.HasField("expire_time")


async def test_a_key_pair_is_made_when_it_is_first_needed_and_kept(service, outbox):
    endpoint = (await service.create(URL)).endpoint
    assert endpoint.public_key == ""
    signs = [pb.ExtraSignature(format=pb.SIGNATURE_FORMAT_V1A)]
    first = await service.update(pb.Endpoint(id=endpoint.id, extra_signatures=signs))
    assert first.public_key == signing.public_key(endpoints.seed_of(await outbox.endpoint_row(endpoint.id)))
    stopped = await service.update(pb.Endpoint(id=endpoint.id), "extra_signatures")
    assert stopped.public_key == ""
    again = await service.update(pb.Endpoint(id=endpoint.id, extra_signatures=signs))
    assert again.public_key == first.public_key


async def test_a_receiver_gets_every_header_signature_and_form_that_was_asked_for(service, outbox, receiver):
    values = {name: value for name, value in EVERYTHING.items() if name not in ("rate_per_second", "filter")}
    created = await service.create(receiver.url, **values)
    await outbox.emit(data={"contact_id": "cnt_1", "text": "é\u2028\U0001f600"})
    await outbox.dispatcher.drain()
    (request,) = receiver.received
    (delivery,) = await service.deliveries()
    body = (await service.delivery(delivery.id)).payload
    assert request.body == body.encode()
    assert json.loads(body) == {
        "event": "deal.won",
        "user_id": ORG,
        "created_at": "2026-03-02T09:00:00Z",
        "data": {"contact_id": "cnt_1", "text": "é\u2028\U0001f600"},
    }
    now = outbox.clock.now()
    signing.verify(created.secret, request.headers, request.body, now)
    signing.verify(created.endpoint.public_key, request.headers, request.body, now)
    assert request.headers["x-drippi-signature"] == signing.sha256_hex([created.secret], request.body)
    assert request.headers["x-stamped"] == signing.timestamped([created.secret], now, request.body)
    assert request.headers["x-team"] == "sales"
    assert request.headers["authorization"] == "Basic dXNlcjpoaWRkZW4="
    assert (request.headers["webhook-sequence"], delivery.sequence) == ("1", 1)


async def test_own_waits_between_attempts_are_kept_to(service, outbox, receiver):
    receiver.answers["/"] = 500
    await service.create(receiver.url, retry_delays=[Duration(seconds=10), Duration(seconds=1000)])
    await outbox.emit()
    await outbox.dispatcher.drain()
    for seconds in (7, 6, 700, 600, 100_000):
        await outbox.later(seconds=seconds)
    assert (len(receiver.received), (await outbox.only()).state) == (3, "failed")


async def test_a_changed_url_begins_anew_and_proves_nothing(service, outbox, receiver):
    receiver.answers["/"] = 500
    endpoint = (await service.create(receiver.url)).endpoint
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await service.endpoint(endpoint.id)).HasField("failing_since_time")
    async with outbox.database.write(ORG) as tx:
        row = await endpoints.get(tx, endpoint.id)
        assert row is not None
        await endpoints.verify(tx, [(ORG, endpoint.id, row.challenge)])
    moved = await service.update(pb.Endpoint(id=endpoint.id, url=receiver.base + "/other"))
    assert not moved.HasField("failing_since_time")
    assert moved.verification == pb.VERIFICATION_UNVERIFIED


async def test_enabling_by_hand_is_told_to_the_others(service, outbox):
    endpoint = (await service.create(URL)).endpoint
    other = (await service.create("https://ops.example.com/", event_types=["endpoint.enabled"])).endpoint
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint.id, {"state": "disabled", "disabled_reason": "gone"})
    await service.update(pb.Endpoint(id=endpoint.id, state=pb.ENDPOINT_STATE_ACTIVE))
    (row,) = await outbox.rows()
    assert (row.endpoint_id, row.event_type) == (other.id, "endpoint.enabled")


async def test_pausing_and_resuming_does_not_shorten_the_hour_of_an_endpoint_that_is_not_verified(service, outbox):
    endpoint = (await service.create(URL, require_verification=True)).endpoint
    until = outbox.clock.now() + timedelta(minutes=50)
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint.id, {"gate_until": until, "gate_reason": "unverified"})
    for state in (pb.ENDPOINT_STATE_PAUSED, pb.ENDPOINT_STATE_ACTIVE):
        await service.update(pb.Endpoint(id=endpoint.id, state=state))
    await service.update(pb.Endpoint(id=endpoint.id, url="https://other.example.com/"))
    row = await outbox.endpoint_row(endpoint.id)
    assert (row.gate_until, row.gate_reason) == (until, "unverified")


texts = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)


@given(data=st.dictionaries(texts, json_values))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_signed_bytes_are_stored_bytes_are_received_bytes(service, outbox, receiver, sender, data):
    if not hasattr(outbox, "created"):
        outbox.created = {
            path: await service.create(f"{receiver.base}/{path}", payload_format=form)
            for path, form in (("a", pb.PAYLOAD_FORMAT_STANDARD), ("b", pb.PAYLOAD_FORMAT_EVENT), ("c", 3))
        }
    receiver.received.clear()
    message_id = await outbox.emit(data=data)
    await outbox.dispatcher.drain()
    deliveries = await service.deliveries(filter=f'message_id = "{message_id}"')
    stored = {one.endpoint_id: (await service.delivery(one.id)).payload.encode() for one in deliveries}
    assert len(receiver.received) == len(stored) == 3
    for request in receiver.received:
        created = outbox.created[request.path[1:]]
        assert request.body == stored[created.endpoint.id]
        signing.verify(created.secret, request.headers, request.body, outbox.clock.now())
        read = json.loads(request.body)
        if request.path != "/c":
            assert read["data"] == data


async def test_the_public_verifier_takes_what_arrives(service, outbox, receiver):
    outbox.clock.advance(datetime.now(UTC) - outbox.clock.now())  # it reads the machine's clock
    created = await service.create(receiver.url, extra_signatures=EVERYTHING["extra_signatures"])
    await outbox.emit(data={"text": "é"})
    await outbox.dispatcher.drain()
    (request,) = receiver.received
    assert Webhook(created.secret).verify(request.body, request.headers)["data"] == {"text": "é"}

"""Malformed bodies, queries and headers: everything that is wrong, where, and the way out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.serving import Gateway, detail

pytestmark = pytest.mark.anyio

BULK = "/api/v1/workflows/onboarding/enrollments/bulk"
JSON = {"content-type": "application/json"}
NO_DURATION = detail(
    "grace_period", "INVALID_DURATION", "is not a duration", "Write seconds with an s, such as 3600s or 0.5s."
)


BAD_BODIES: list[tuple[str, bytes, list[dict[str, str]]]] = [
    ("a list", b"[]", [detail("body", "WRONG_TYPE", "must be an object, not a list", 'Write it as {"field": value}.')]),
    (
        "a number",
        b"7",
        [detail("body", "WRONG_TYPE", "must be an object, not a number", 'Write it as {"field": value}.')],
    ),
    ("null", b"null", [detail("body", "WRONG_TYPE", "must be an object, not null", 'Write it as {"field": value}.')]),
    (
        "an unfinished object",
        b'{"contacts": [}',
        [detail("body", "NOT_JSON", "is not JSON; the fault is at line 1, column 15", "Send a JSON object.")],
    ),
    ("NaN", b'{"timezone": NaN}', [detail("body", "NOT_JSON", "is not JSON: it has no NaN", "Leave the field out.")]),
    (
        "a number of 5,000 digits",
        b'{"timezone": ' + b"9" * 5000 + b"}",
        [detail("body", "NOT_JSON", "has a number with too many digits", "Send it as text.")],
    ),
    (
        "bytes that are not UTF-8",
        b'{"timezone": "\xff"}',
        [detail("body", "NOT_UTF8", "is not UTF-8 from byte 14 on", "Encode it as UTF-8.")],
    ),
    (
        "a body without end",
        b'{"contacts": ' + b"[" * 100_000,
        [detail("body", "TOO_DEEP", "is nested too deep", "Send fewer levels.")],
    ),
    (
        "unknown fields, one of them nearly right",
        b'{"contacts": [{"email": "a@example.com", "frist_name": "A"}], "timzone": "UTC", "xyzzy": 1}',
        [
            detail(
                "contacts[0].frist_name",
                "UNKNOWN_FIELD",
                "is not a field here",
                "Did you mean first_name?",
                "first_name",
            ),
            detail("timzone", "UNKNOWN_FIELD", "is not a field here", "Did you mean timezone?", "timezone"),
            detail(
                "xyzzy",
                "UNKNOWN_FIELD",
                "is not a field here",
                "There are: contacts, preview_etag, request_id, timezone, validate_only, workflow_id.",
            ),
        ],
    ),
    (
        "wrong types all over",
        b'{"contacts": [{"email": 7, "variables": [], "external_ref": "x"}, 3], "timezone": {}, "validateOnly": "no"}',
        [
            detail("contacts[0].email", "WRONG_TYPE", "must be text, not a number", "Put it in quotes."),
            detail(
                "contacts[0].variables", "WRONG_TYPE", "must be an object, not a list", 'Write it as {"name": value}.'
            ),
            detail(
                "contacts[0].external_ref", "WRONG_TYPE", "must be an object, not text", 'Write it as {"field": value}.'
            ),
            detail("contacts[1]", "WRONG_TYPE", "must be an object, not a number", 'Write it as {"field": value}.'),
            detail("timezone", "WRONG_TYPE", "must be text, not an object", "Put it in quotes."),
            detail("validate_only", "WRONG_TYPE", "must be true or false, not text", "Write true or false."),
        ],
    ),
    (
        "an object where a list belongs",
        b'{"contacts": {"email": "a@example.com"}}',
        [detail("contacts", "WRONG_TYPE", "must be a list, not an object", "Write it in square brackets.")],
    ),
    (
        "names given twice",
        b'{"contacts": [{"email": "a@x.org", "email": "b@x.org"}], "request_id": "1", "requestId": "2"}',
        [
            detail("contacts[0].email", "GIVEN_TWICE", "is given twice", "Give it once."),
            detail("request_id", "GIVEN_TWICE", "is given twice, also as requestId", "Give it once."),
        ],
    ),
    (
        "free-form values that cannot be kept as they are",
        b'{"contacts": [{"variables": {"a": {"b": 9007199254740993, "b2": 1e999}, "c": ["\\ud800"], "d": 1, "d": 2}}]}',
        [
            detail("contacts[0].variables.d", "GIVEN_TWICE", "is given twice", "Give it once."),
            detail(
                "contacts[0].variables.a.b",
                "OUT_OF_RANGE",
                "is a whole number above 2^53, which JSON cannot carry",
                "Send it as text.",
            ),
            detail("contacts[0].variables.a.b2", "OUT_OF_RANGE", "is too large a number"),
            detail(
                "contacts[0].variables.c[0]",
                "INVALID_TEXT",
                "has half of a surrogate pair",
                "Send the whole character.",
            ),
        ],
    ),
    (
        "names with half of a surrogate pair, which the answer has to spell out",
        b'{"contacts": [{"email": "x@b.co", "variables": {"\\ud800": 1}}], "\\udfff": 1}',
        [
            detail(
                "contacts[0].variables.\\ud800",
                "INVALID_TEXT",
                "has half of a surrogate pair",
                "Send the whole character.",
            ),
            detail(
                "\\udfff",
                "UNKNOWN_FIELD",
                "is not a field here",
                "There are: contacts, preview_etag, request_id, timezone, validate_only, workflow_id.",
            ),
        ],
    ),
    (
        "another workflow than the path's",
        b'{"workflow_id": "other", "contacts": [{"email": "a@example.com"}]}',
        [detail("workflow_id", "CONTRADICTION", "differs from the path", "Say the same, or leave it to the path.")],
    ),
    (
        "nothing where something is required",
        b"{}",
        [detail("contacts", "REQUIRED", "is required and missing", "Set contacts.")],
    ),
]


@pytest.mark.parametrize(("name", "body", "details"), BAD_BODIES, ids=[case[0] for case in BAD_BODIES])
async def test_a_bad_body_is_refused_with_everything_that_is_wrong(
    gateway: Gateway, name: str, body: bytes, details: list[dict[str, str]]
) -> None:
    answer = await gateway.http.post(BULK, content=body, headers=JSON | {"X-Request-Id": "r-1"})
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    first = details[0]
    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "code": 400,
            "status": "INVALID_ARGUMENT",
            "reason": "INVALID_ARGUMENT",
            "message": f"The request is not well formed: {first['field']}: {first['message']}{more}",
            "hint": "Correct the named fields and call again.",
            "request_id": "r-1",
            "details": details,
        }
    }
    assert gateway.seen == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "pagesize=3",
            detail(
                "pagesize",
                "UNKNOWN_FIELD",
                "is not a query parameter of this route",
                "Did you mean page_size?",
                "page_size",
            ),
        ),
        (
            "workflow_id=w",
            detail(
                "workflow_id",
                "UNKNOWN_FIELD",
                "is not a query parameter of this route",
                "There are: filter, page_size, page_token.",
            ),
        ),
        (
            "page_size=many",
            detail("page_size", "WRONG_TYPE", "must be a whole number, not text", "Write digits without quotes."),
        ),
        (
            "page_size=",
            detail("page_size", "WRONG_TYPE", "must be a whole number, not text", "Write digits without quotes."),
        ),
        (
            "page_size=1.5",
            detail("page_size", "WRONG_TYPE", "must be a whole number, not text", "Write digits without quotes."),
        ),
        ("page_size=4294967296", detail("page_size", "OUT_OF_RANGE", "must be between -2147483648 and 2147483647")),
        ("page_size=-1", detail("page_size", "NEGATIVE", "must not be negative", "Leave it out for 50.")),
        ("page_size=1&pageSize=2", detail("page_size", "GIVEN_TWICE", "is given twice", "Give it once.")),
        ("filter=%FF", detail("query", "NOT_UTF8", "is not UTF-8", "Percent-encode it as UTF-8.")),
        ("x=1&" * 300, detail("query", "TOO_MANY_ITEMS", "has more than 200 parameters")),
    ],
)
async def test_a_bad_query_is_refused(gateway: Gateway, query: str, expected: dict[str, str]) -> None:
    answer = await gateway.http.get(f"/api/v1/workflows/onboarding/enrollments?{query}")
    assert (answer.status_code, answer.json()["error"]["details"]) == (400, [expected])
    assert gateway.seen == []


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        (
            "PATCH",
            "/api/v1/webhooks/ep_1",
            {"retry_preset": "quik"},
            detail(
                "retry_preset",
                "UNKNOWN_VALUE",
                "is not one of its values",
                "Did you mean quick? Use one of standard, quick.",
                "quick",
            ),
        ),
        (
            "PATCH",
            "/api/v1/webhooks/ep_1",
            {"retry_preset": 2},
            detail("retry_preset", "WRONG_TYPE", "must be a name, not a number", "Use one of standard, quick."),
        ),
        (
            "PATCH",
            "/api/v1/webhooks/ep_1",
            {"id": "ep_2"},
            detail("id", "CONTRADICTION", "differs from the path", "Say the same, or leave it to the path."),
        ),
        (
            "PATCH",
            "/api/v1/webhooks/ep_1",
            {"url": "x" * 2049},
            detail("url", "TOO_LONG", "has 2049 characters, at most 2048 are accepted"),
        ),
        (
            "PATCH",
            "/api/v1/webhooks/ep_1?validate_only=yes",
            {},
            detail("validate_only", "WRONG_TYPE", "must be true or false, not text", "Write true or false."),
        ),
        (
            "POST",
            "/api/v1/webhooks/ep_1/rotate_secret",
            {"grace_period": "1 day"},
            NO_DURATION,
        ),
        (
            "POST",
            "/api/v1/webhooks/ep_1/rotate_secret",
            {"grace_period": 3600},
            NO_DURATION,
        ),
        (
            "POST",
            "/api/v1/webhooks/ep_1/rotate_secret?validate_only=true",
            {},
            detail(
                "validate_only", "UNKNOWN_FIELD", "is not a query parameter of this route", "Put it into the JSON body."
            ),
        ),
        (
            "POST",
            "/api/v1/api_keys",
            {"expire_time": "tomorrow"},
            detail(
                "expire_time",
                "INVALID_TIME",
                "is not an instant in RFC 3339 form",
                "Write it as 2026-03-02T09:00:00Z or with an offset such as +01:00.",
            ),
        ),
        (
            "DELETE",
            "/api/v1/webhooks/ep_1",
            {"endpoint_id": "ep_2"},
            detail("body", "NOT_ALLOWED", "a DELETE here takes none", "Use query parameters."),
        ),
    ],
)
async def test_a_bad_value_is_refused_with_its_path(
    gateway: Gateway, method: str, path: str, body: dict[str, Any], expected: dict[str, str]
) -> None:
    answer = await gateway.http.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["details"]) == (400, [expected])
    assert gateway.seen == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"Idempotency-Key": "b"},
            detail(
                "request_id",
                "CONTRADICTION",
                "differs from the header Idempotency-Key",
                "Say the same, or leave it to the header Idempotency-Key.",
            ),
        ),
        (
            {"If-Match": '"1"'},
            detail("If-Match", "NOT_SUPPORTED", "this route cannot honour it", "Leave the header out."),
        ),
        (
            [("Idempotency-Key", "a"), ("Idempotency-Key", "a")],
            detail("Idempotency-Key", "GIVEN_TWICE", "is given twice", "Send the header once."),
        ),
        ({"Idempotency-Key": "a" * 201}, None),
    ],
)
async def test_headers_that_contradict_or_cannot_be_honoured_are_refused(
    gateway: Gateway, headers: Any, expected: dict[str, str] | None
) -> None:
    body = {"contacts": [{"email": "a@example.com"}]} | ({"request_id": "a"} if expected else {})
    answer = await gateway.http.post(BULK, json=body, headers=headers)
    too_long = detail("request_id", "TOO_LONG", "has 201 characters, at most 200 are accepted")
    assert (answer.status_code, answer.json()["error"]["details"]) == (400, [expected or too_long])
    assert gateway.seen == []

"""What answers mean."""

from __future__ import annotations

import json

import pytest

from core.domain.connections import result
from core.domain.connections.result import Judgement, ResultMapping, judge

OWN = ResultMapping(
    sent="status == 200 && body.ok == true",
    retryable='status == 200 && body.error.code == "busy"',
    message_id="body.id",
    error="body.error.message",
)


@pytest.mark.parametrize(
    ("mapping", "status", "body", "expected"),
    [
        (ResultMapping(), 202, "thanks", Judgement(True, False, "", "")),
        (ResultMapping(), 404, "", Judgement(False, False, "", "HTTP 404")),
        (ResultMapping(), 302, "", Judgement(False, False, "", "HTTP 302")),
        (ResultMapping(), 429, "", Judgement(False, True, "", "HTTP 429")),
        (ResultMapping(), 503, "", Judgement(False, True, "", "HTTP 503")),
        (OWN, 200, {"ok": True, "id": "dm_1"}, Judgement(True, False, "dm_1", "")),
        (OWN, 200, {"ok": True, "id": 17}, Judgement(True, False, "17", "")),
        (OWN, 200, {"ok": True}, Judgement(True, False, "", "")),
        (OWN, 200, {"ok": False, "error": {"code": "busy", "message": "come\nback"}},
         Judgement(False, True, "", "HTTP 200: come back")),
        (OWN, 200, {"ok": False, "error": {"code": "gone", "message": "no such user"}},
         Judgement(False, False, "", "HTTP 200: no such user")),
        (OWN, 500, "oops", Judgement(False, False, "", "HTTP 500")),
        (OWN, 200, "<html>", Judgement(False, False, "", "HTTP 200: whether it was sent cannot be told: "
                                       "body.ok is not known")),
        (ResultMapping(sent='headers["x-taken"] == "yes"'), 200, "",
         Judgement(False, False, "", "HTTP 200: whether it was sent cannot be told: headers.x-taken is not known")),
    ],
)  # fmt: skip
def test_an_answer_is_judged(mapping: ResultMapping, status: int, body: object, expected: Judgement) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    assert judge(mapping, status, {"x-other": "1"}, text) == expected


def test_everything_wrong_with_the_expressions_is_told_at_once() -> None:
    mapping = ResultMapping(sent="status", retryable="statuss > 1", message_id="body.", error="1 +")
    found = [(one.field, one.reason) for one in result.check(mapping, "result")]
    assert [field for field, _ in found] == ["result.sent", "result.retryable", "result.message_id", "result.error"]
    assert found[0][1] == "EXPRESSION_TYPE"


def test_looking_into_the_body_needs_json() -> None:
    assert result.reads_body(OWN)
    assert not result.reads_body(ResultMapping(sent="status == 200"))

"""What answers mean."""

from __future__ import annotations

import pytest

from core.domain.webhooks import classify
from core.domain.webhooks.classify import Outcome, Ruling


@pytest.mark.parametrize(
    ("status", "headers", "ruling"),
    [
        (200, {}, Ruling(Outcome.DELIVERED, False, "")),
        (204, {}, Ruling(Outcome.DELIVERED, False, "")),
        (299, {}, Ruling(Outcome.DELIVERED, False, "")),
        (300, {}, Ruling(Outcome.REDIRECT, True, "")),
        (302, {"location": "http://127.0.0.1/"}, Ruling(Outcome.REDIRECT, True, "")),
        (304, {}, Ruling(Outcome.REDIRECT, True, "")),
        (400, {}, Ruling(Outcome.HTTP_STATUS, True, "")),
        (404, {}, Ruling(Outcome.HTTP_STATUS, True, "")),
        (429, {}, Ruling(Outcome.HTTP_STATUS, True, "")),
        (503, {}, Ruling(Outcome.HTTP_STATUS, True, "")),
        (410, {}, Ruling(Outcome.GONE, False, "gone")),
        (200, {"webhook-delivery": "disable"}, Ruling(Outcome.DELIVERED, False, "receiver_asked")),
        (500, {"webhook-delivery": " Disable "}, Ruling(Outcome.HTTP_STATUS, True, "receiver_asked")),
        (500, {"webhook-delivery": "abort-message"}, Ruling(Outcome.ABORTED, False, "")),
        (200, {"webhook-delivery": "abort-message"}, Ruling(Outcome.DELIVERED, False, "")),
        (500, {"webhook-delivery": "please"}, Ruling(Outcome.HTTP_STATUS, True, "")),
    ],
)
def test_an_answer_has_one_meaning(status, headers, ruling):
    assert classify.of_response(status, headers) == ruling


def test_every_outcome_has_a_meaning_with_a_known_stage():
    assert set(classify.MEANINGS) == set(Outcome)
    stages = {"url", "dns", "policy", "connect", "tls", "timeout", "http", "body", "verify", "consumer", "done"}
    assert {meaning.stage for meaning in classify.MEANINGS.values()} == stages


def test_only_a_delivery_has_the_code_of_success():
    codes = {outcome: classify.verdict_code(outcome) for outcome in Outcome}
    assert [outcome for outcome, code in codes.items() if code == 1] == [Outcome.DELIVERED]
    assert codes[Outcome.DESTINATION_NOT_ALLOWED] == 11110114
    assert codes[Outcome.TIMEOUT] == 11110111
    assert codes[Outcome.NOT_JSON] == 11110112
    assert codes[Outcome.VERIFICATION_FAILED] == 11110113
    assert codes[Outcome.TOKEN_FAILED] == 21111011
    assert set(codes.values()) == {1, 21111011, 11110111, 11110112, 11110113, 11110114}

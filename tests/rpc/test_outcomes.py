"""A call that goes by a preview which was carried out in full does that, or nothing."""

from __future__ import annotations

import pytest

from core.domain.errors import PreviewStale
from core.rpc.outcomes import settle
from dripstone.v1.enrollment_pb2 import RedriveDeadLettersRequest

LETTERS = "the letters"


def previewed(*done: str) -> str:
    return settle(RedriveDeadLettersRequest(validate_only=True), done, LETTERS)


def test_what_a_preview_showed_is_done_in_any_order_and_needs_no_other_etag() -> None:
    going_by_it = RedriveDeadLettersRequest(preview_etag=previewed("a", "b"))
    assert settle(going_by_it, ["b", "a"], LETTERS) == ""
    assert settle(RedriveDeadLettersRequest(), ["c"], LETTERS) == ""


@pytest.mark.parametrize(
    ("shown", "done", "why"),
    [
        (previewed("a"), ["a", "b"], "of the letters there are 2 by now, and the preview showed 1"),
        (previewed("a", "b"), [], "there are 0 by now, and the preview showed 2"),
        (previewed("a"), ["b"], "there are 1 by now, and the preview showed others"),
        ("no etag", ["a"], "there are 1 by now, and the preview showed others"),
    ],
)
def test_anything_else_is_refused_with_what_changed(shown: str, done: list[str], why: str) -> None:
    for dry in (True, False):
        with pytest.raises(PreviewStale, match=why):
            settle(RedriveDeadLettersRequest(preview_etag=shown, validate_only=dry), done, LETTERS)

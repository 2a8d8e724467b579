"""A call that goes by a preview does nothing that it did not show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import Invalid, PreviewStale
from core.rpc.enrollments.previewed import checked, etag_of
from dripstone.v1 import agent_pb2, enrollment_pb2

REQUEST = enrollment_pb2.EnrollContactsRequest(workflow_id="nurture", contacts=[{"email": "ada@example.com"}])


def version(number: int) -> Any:
    return SimpleNamespace(number=number, workflow_id="nurture")


@given(st.integers(1, 10**6), st.sets(st.integers(0, 999)))
def test_who_was_left_out_is_read_back_from_an_etag_that_fits_its_field(number: int, left_out: set[int]) -> None:
    etag = etag_of(REQUEST, version(number), left_out)
    assert len(etag) <= 300
    sent = enrollment_pb2.EnrollContactsRequest(preview_etag=etag, request_id="k")
    sent.MergeFrom(REQUEST)
    assert checked(sent, version(number)).left_out == left_out


@pytest.mark.parametrize(
    ("changed", "number", "why"),
    [
        ({}, 2, "nurture is at version 2 by now, and version 1 was previewed"),
        ({"contacts": [{"email": "bob@example.com"}]}, 1, "this call is another one"),
        ({"timezone": "Europe/Berlin"}, 1, "this call is another one"),
    ],
)
def test_another_version_or_another_call_is_refused_with_what_changed(
    changed: dict[str, Any], number: int, why: str
) -> None:
    sent = enrollment_pb2.EnrollContactsRequest(workflow_id="nurture", **{"contacts": REQUEST.contacts, **changed})
    sent.preview_etag = etag_of(REQUEST, version(1))
    with pytest.raises(PreviewStale, match=why):
        checked(sent, version(number))


@pytest.mark.parametrize("etag", ["1", "v1", "v1.zz", "v1.0123456789abcdef.", "v1.0123456789abcdef.=" + "A" * 9])
def test_what_is_no_etag_of_a_preview_is_told_so(etag: str) -> None:
    with pytest.raises(Invalid, match="not the etag of a preview"):
        checked(agent_pb2.ExecuteRequest(preview_etag=etag), version(1))


def test_a_call_that_was_not_previewed_goes_by_none() -> None:
    assert not checked(REQUEST, version(1)).left_out

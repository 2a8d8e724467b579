"""What is to be done next ends before a tool that is not there, and says what it would take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcp_server import reach

WHY = "needs the toolset read, which this address leaves out"
NEXT = [
    ('enroll {"workflow_id":"x"}', 'enroll {"workflow_id":"x"}'),
    ("Tell the person; do not redeliver.", "Tell the person; do not redeliver."),
    ('get-record {"record_id":"cnt_1"}', f"Tell the person: the next call {WHY}."),
    ('redeliver {"delivery_id":"dlv_1"}', f"Tell the person: the next call {WHY}."),
    ("Tell the person; to see the lead: get-record {}", f"Tell the person: the next call {WHY}."),
    ("Mend what stops it first; then redeliver {}", f"Mend what stops it first: the next call {WHY}."),
    ("Wait for a minute, then get-record {}", f"Wait for a minute: the next call {WHY}."),
    ("enroll {}; get-records is no tool", "enroll {}; get-records is no tool"),
]


@pytest.fixture
def narrow() -> Iterator[None]:
    reach.enter({"get-record": WHY, "redeliver": WHY})
    yield
    reach.enter({})


@pytest.mark.parametrize(("following", "kept"), NEXT)
def test_a_suggestion_ends_before_the_first_tool_that_is_not_there(narrow: None, following: str, kept: str) -> None:
    assert reach.kept(following) == kept


def test_where_every_tool_is_there_nothing_is_cut() -> None:
    assert [reach.kept(following) for following, _ in NEXT] == [following for following, _ in NEXT]
    assert reach.missing("get-record") == ""

"""What publishing a file would write over, told from what the file says that it was taken from."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.commands.overwriting import Base, There, Written, bare, base_of, lost, with_base

AT = datetime(2026, 11, 21, 9, 20, tzinfo=UTC)
MINE, OTHERS, FILE = {"title": "mine"}, {"title": "others"}, {"title": "file"}
DRAFT_TIME = "2026-11-21T09:20:00.123456Z"
OF_VERSION_1, OF_VERSION_2, OF_DRAFT = Base("care", 1), Base("care", 2), Base("care", 0, DRAFT_TIME)


def _there(*, author: str = "me", draft: object = None, version: int = 2, document: object = OTHERS) -> There:
    published = Written(document, author, "…", AT) if version else None  # type: ignore[arg-type]
    unpublished = draft if draft is not None else document
    written = Written(unpublished, "bo", DRAFT_TIME, AT)  # type: ignore[arg-type]
    return There(version, published, written, draft is not None or not version)


@pytest.mark.parametrize("base", [OF_VERSION_1, OF_DRAFT], ids=str)
def test_the_first_line_of_a_file_says_what_it_was_taken_from(base: Base) -> None:
    text = "title: Care\nsteps: []\n"
    marked = with_base(text, base)
    assert marked.splitlines()[0] == f"# dripstone: {base}"
    assert (base_of(marked), bare(marked), base_of(text), bare(text)) == (base, text, None, text)
    assert with_base(marked, OF_VERSION_2) == with_base(text, OF_VERSION_2), "one line, not two"
    assert with_base('{"steps": []}', base) == '{"steps": []}', "JSON has no comments"


@pytest.mark.parametrize(
    ("there", "base", "told"),
    [
        (_there(), None, (False, False)),
        (_there(author="bo"), None, (True, False)),
        (_there(author="bo", document=FILE), None, (False, False)),
        (_there(author="bo"), OF_VERSION_2, (False, False)),
        (_there(), OF_VERSION_1, (True, False)),
        (_there(draft=MINE), None, (False, True)),
        (_there(draft=MINE), OF_VERSION_2, (False, True)),
        (_there(author="bo", draft=MINE), OF_DRAFT, (False, False)),
        (_there(author="bo", draft=MINE), Base("care", 0, "2026-11-20T09:20:00Z"), (True, True)),
        (_there(draft=FILE), None, (False, False)),
        (_there(draft=dict(OTHERS)), None, (False, False)),
        (_there(version=0), None, (False, True)),
        (_there(version=0, document=FILE), None, (False, False)),
    ],
    ids=[
        "one's own version", "a colleague's version", "the same as a colleague's", "made of that version",
        "made of an older version", "a draft", "a draft since", "made of the draft", "made of another draft",
        "the draft says the same", "the draft says what is published", "never published", "never published, the same",
    ],
)  # fmt: skip
def test_only_what_the_author_of_a_file_may_not_know_is_in_the_way(
    there: There, base: Base | None, told: tuple[bool, bool]
) -> None:
    assert lost(there, base, FILE, "me") == told

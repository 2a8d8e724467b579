"""Two records that become one: what the kept one gains, where the stricter answer wins, and when it is safe unasked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from core.domain.frozen import frozen
from core.domain.messaging.consent import Answer
from core.domain.records import identity
from core.domain.records.identity import Identifier

STRICT = "unsubscribed"
"""The contact field in which true wins, whichever of the two has it."""


@frozen
class Filling:
    """What the fields of the merged record do to the kept one."""

    patch: Mapping[str, Any]
    """Dotted path to the value taken over."""
    differing: tuple[str, ...]
    """Paths in which both had something else; the kept record's value stays."""

    @property
    def filled(self) -> tuple[str, ...]:
        """Return the paths taken over, in order."""
        return tuple(sorted(self.patch))


def fill(record_type: str, kept: Mapping[str, Any], merged: Mapping[str, Any]) -> Filling:
    """Return what the kept record's fields gain from the merged one's."""
    mine, theirs = dict(_leaves(kept)), dict(_leaves(merged))
    patch: dict[str, Any] = {}
    differing: list[str] = []
    for path, value in theirs.items():
        if path == STRICT and record_type == "contact":
            if value is True and mine.get(path) is not True:
                patch[path] = True
        elif path in mine:
            if not _same(mine[path], value):
                differing.append(path)
        elif any(path.startswith(f"{other}.") or other.startswith(f"{path}.") for other in mine):
            differing.append(path)  # an object on one side, a plain value on the other
        else:
            patch[path] = value
    return Filling(patch, tuple(sorted(differing)))


def _leaves(fields: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in fields.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        elif value is not None and value != "":
            yield path, value


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


@frozen
class Held:
    """An enrollment of one of two contacts."""

    id: str
    workflow_id: str
    key: str
    over: bool


@frozen
class Sorting:
    """What becomes of the merged contact's enrollments."""

    moving: tuple[str, ...]
    """They go on as the kept contact's."""
    ending: tuple[str, ...]
    """They run where the kept contact has one already; what is over there stays as it is."""


def sort(kept: Iterable[Held], merged: Iterable[Held]) -> Sorting:
    """Return which enrollments move: those in workflows, under keys, in which the kept contact never was."""
    taken = {(one.workflow_id, one.key) for one in kept}
    theirs = list(merged)
    moving = tuple(one.id for one in theirs if (one.workflow_id, one.key) not in taken)
    ending = tuple(one.id for one in theirs if (one.workflow_id, one.key) in taken and not one.over)
    return Sorting(moving, ending)


@frozen
class Consenting:
    """What becomes of the merged contact's answers about messages."""

    moving: tuple[Answer, ...]
    """They become the kept contact's as they are."""
    restated: tuple[Answer, ...]
    """Refusals that the kept contact lacks: they hold from now on, whatever it once agreed to."""
    refusing: tuple[Answer, ...]
    """Answers of the kept contact that granted what the merged one refused."""


def stricter(kept: Sequence[Answer], merged: Sequence[Answer]) -> Consenting:
    """Return how the answers of two contacts become one's: what either of them refused stays refused.

    A grant of the merged contact is not taken over where the kept one has refused anything.
    """
    if not kept:
        return Consenting(tuple(merged), (), ())
    mine = {(one.channel, one.purpose): one for one in kept}
    refused = any(not one.granted for one in kept)
    moving, restated, refusing = [], [], []
    for one in merged:
        there = mine.get((one.channel, one.purpose))
        if not one.granted and there is None:
            restated.append(one)
        elif not one.granted and there is not None and there.granted:
            refusing.append(there)
        elif one.granted and there is None and not refused:
            moving.append(one)
    return Consenting(tuple(moving), tuple(restated), tuple(refusing))


@frozen
class Known:
    """One of two contacts that an event names, as far as it matters for joining them unasked."""

    id: str
    email: object
    identifiers: Collection[Identifier]


def may_join(by_email: Known, by_person_id: Known) -> bool:
    """Tell whether an event that names one contact by e-mail and another by person id may make them one.

    Only where the one with the person id has no e-mail, the one with the e-mail has no person id, and nothing else that
    is strong tells them apart: no system has a name of its own for both.
    """
    if by_person_id.email or any(kind == "email" for kind, _ in by_person_id.identifiers):
        return False
    if any(kind == "person_id" for kind, _ in by_email.identifiers):
        return False
    systems = {kind for kind, _ in by_email.identifiers if kind.startswith("ext:")}
    return not systems & {kind for kind, _ in by_person_id.identifiers}


def pair_of(found: Mapping[Identifier, str]) -> tuple[str, str] | None:
    """Return the contacts that an event names by e-mail and by person id, where these are two and no third one is."""
    by_kind: dict[str, set[str]] = {}
    for (kind, value), record_id in found.items():
        if identity.is_strong((kind, value)):
            by_kind.setdefault(kind, set()).add(record_id)
    emails, people = by_kind.get("email", set()), by_kind.get("person_id", set())
    if len(emails) != 1 or len(people) != 1 or emails == people:
        return None
    (email,), (person,) = emails, people
    return (email, person) if set().union(*by_kind.values()) == {email, person} else None


def told_lost(what: str, record_id: str) -> str:
    """Return the sentence for something that moved and is no longer where the merge put it."""
    return f"{what} has changed or gone since the merge: it stays as it is and does not go back to {record_id}."


def told_many_lost(kind: str, count: int, record_id: str) -> str:
    """Return the sentence for many things of a kind that moved and are no longer where the merge put them."""
    return f"{count:,} {kind} have changed or gone since the merge: they do not go back to {record_id}."


def told_answer(what: str, kept_id: str, merged_id: str) -> str:
    """Return the sentence for an answer about messages that was given anew after the merge."""
    return f"{what} was given anew since the merge: it is {kept_id}'s, and {merged_id} has the stricter of both."


def told_changed(record_id: str, path: str, now: object) -> str:
    """Return the sentence for a field that was set again after the merge."""
    shown = "nothing" if now is None else f"`{str(now)[:80]}`"
    return f"{path} of {record_id} was changed since the merge to {shown}: it stays so."

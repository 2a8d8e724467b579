"""What changed between two documents of a workflow: settings, triggers, and steps by their ids.

Where steps lead is compared as it works out, so that a step put between two others shows as what it is: the one before
it leads elsewhere, although nobody wrote there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from core.domain.articles import with_article
from core.domain.frozen import frozen
from core.domain.workflow.compile import compile_document
from core.domain.workflow.document import DOCUMENT_KEYS, END

What = Literal["added", "removed", "changed", "rewired"]
Part = Literal["setting", "trigger", "step"]

_WIRING = ("next", "exits")
_LONGEST_SHOWN = 80


@frozen
class Change:
    """One thing that is different."""

    part: Part
    what: What
    name: str
    """Key of the setting, id of the step; the trigger's position in the newer document, else in the older one."""
    key: str = ""
    """What of it: a key of a step, or the exit that leads elsewhere; empty for all of it."""
    before: Any = None
    after: Any = None

    @property
    def sentence(self) -> str:
        """Return it for people."""
        whole = f"{self.part} {self.name}"
        match self.what:
            case "added":
                return f"{whole} is new: {_shown(self.after)}"
            case "removed":
                return f"{whole} is gone: {_shown(self.before)}"
            case "rewired":
                return (
                    f"{whole}: {self.key} leads to {self.after or 'nothing'}, no longer to {self.before or 'nothing'}"
                )
            case _:
                of = f"{whole}: {self.key}" if self.key else whole
                return f"{of} is {_shown(self.after)}, no longer {_shown(self.before)}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what is different in the newer document: settings, then triggers, then steps in their order."""
    return (*_settings(before, after), *_triggers(before, after), *_steps(before, after))


def _settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    known = [key for key in DOCUMENT_KEYS if key not in ("triggers", "steps")]
    others = [key for key in (*before, *after) if key not in DOCUMENT_KEYS]
    for key in dict.fromkeys((*known, *others)):
        if (change := _compared("setting", key, "", before.get(key), after.get(key))) is not None:
            yield change


def _compared(part: Part, name: str, key: str, before: Any, after: Any) -> Change | None:
    """Return how a value changed; an empty one counts as absent."""
    if before == after and type(before) is type(after):
        return None
    if before is None and not key:
        return Change(part, "added", name, after=after)
    if after is None and not key:
        return Change(part, "removed", name, before=before)
    return Change(part, "changed", name, key, before, after)


def _triggers(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Compare triggers as a set: they have no names, and their order means nothing."""
    old, new = _list(before.get("triggers")), _list(after.get("triggers"))
    rest = list(old)
    added = []
    for position, trigger in enumerate(new):
        if trigger in rest:
            rest.remove(trigger)
        else:
            added.append((position, trigger))
    yield from (Change("trigger", "removed", str(old.index(one)), before=one) for one in rest)
    yield from (Change("trigger", "added", str(position), after=one) for position, one in added)


def _steps(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = _by_id(before), _by_id(after)
    old_ways, new_ways = _ways(before, after)
    entries = [next(iter(steps), "") for steps in (old, new)]
    if all(entries) and entries[0] != entries[1]:
        yield Change("step", "rewired", "(entry)", "it", *entries)
    for name, step in old.items():
        if name not in new:
            yield Change("step", "removed", name, before=step)
    for name, step in new.items():
        if name not in old:
            yield Change("step", "added", name, after=step)
            continue
        for key in dict.fromkeys((*old[name], *step)):
            if key not in _WIRING and (change := _compared("step", name, key, old[name].get(key), step.get(key))):
                yield change
        ways = old_ways.get(name, {}), new_ways.get(name, {})
        for exit in dict.fromkeys((*ways[0], *ways[1])):
            leads = [way.get(exit, "") for way in ways]
            if leads[0] != leads[1]:
                yield Change("step", "rewired", name, exit, *leads)


def _ways(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, str]], ...]:
    """Return where the exits of each step lead; as they are written where one of the documents does not compile."""
    versions = [compile_document(document).version for document in (before, after)]
    if None not in versions:
        return tuple({node.id: node.exits for node in one.steps.values()} for one in versions if one is not None)
    return tuple(_written_ways(document) for document in (before, after))


def _written_ways(document: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    steps = _by_id(document)
    following = dict(zip(steps, [*list(steps)[1:], END], strict=False))  # END is too many where there are no steps
    ways: dict[str, Mapping[str, str]] = {}
    for name, step in steps.items():
        exits = step.get("exits")
        written = {str(exit): str(target) for exit, target in exits.items()} if isinstance(exits, Mapping) else {}
        first = str(step["next"]) if step.get("next") else written.get("next", following[name])
        ways[name] = {**written, "next": first}
    return ways


def _by_id(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(step.get("id")): step for step in _list(document.get("steps"))}


def _list(raw: Any) -> list[Mapping[str, Any]]:
    return [item for item in raw if isinstance(item, Mapping)] if isinstance(raw, list) else []


def _shown(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case bool():
            return "true" if value else "false"
        case Mapping() if "kind" in value:
            return with_article(f"{value['kind']} step")
        case Mapping():
            text = "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
        case list():
            text = "[" + ", ".join(_shown(item) for item in value) + "]"
        case _:
            text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"

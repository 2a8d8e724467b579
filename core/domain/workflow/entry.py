"""Who may enter a workflow, rule by rule: what is given, consent, suppression, the entry condition, re-entry.

The same rules answer a call that enrolls, a trigger that would, and the question why a contact is not in a workflow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Literal

from core.domain.enrollment import Facts, State
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.workflow.conditions import tell
from core.domain.workflow.expression_values import as_instant
from core.domain.workflow.expressions import Expression, Kind, spoken
from core.domain.workflow.storable import storable_text
from core.domain.workflow.variables import Known
from core.domain.workflow.version import Version

Outcome = Literal["enrolled", "already_enrolled", "suppressed", "not_eligible", "invalid"]

LONGEST_KEY = 200
_KEPT_OF_LONG_KEY = 160


@frozen
class Standing:
    """The latest time a contact entered a workflow under one key."""

    state: State
    entered_at: datetime


@frozen
class Judgement:
    """Whether a contact may enter, and why not."""

    outcome: Outcome
    reason: str = ""
    """Machine reason, such as `ENTRY_CONDITION`; empty for one who may enter."""
    message: str = ""
    """What kept the contact out and the way in, in sentences."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Each value the rule looked at, by path; None where it was not known."""
    field: str = ""
    """The field at fault, such as `variables.plan`."""


_LEFT_OUT = Judgement(
    "not_eligible",
    "LEFT_OUT_OF_PREVIEW",
    "The contact was left out when this was previewed; it may enter by now. Preview again to let it in.",
)


@frozen
class Check:
    """One rule of entry, and whether it lets the contact in."""

    rule: str
    """What the rule is called: a machine word such as `ENTRY_CONDITION`."""
    passes: bool
    sentence: str
    outcome: Outcome = "not_eligible"
    """What becomes of a contact that it keeps out."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    field: str = ""


def judge(
    version: Version,
    facts: Facts,
    now: datetime,
    *,
    event: Mapping[str, Any] | None,
    variables: Mapping[str, Any],
    key: str,
    standing: Standing | None,
    left_out: bool = False,
    about: Mapping[str, str] | None = None,
) -> Judgement:
    """Return what the first rule says that keeps the contact out, or that it may enter.

    `standing` is the contact's latest enrollment under this key, if there is one; `event` is what enrolls, as
    expressions see it; `left_out` is who was not let in by the preview that the call goes by; `about` the record whose
    change enrolls, id by type.
    """
    given: Any = {"event": event, "variables": variables, "key": key, "standing": standing, "about": about}
    for check in checks(version, facts, now, **given):
        if not check.passes:
            return Judgement(check.outcome, check.rule, check.sentence, check.inputs, check.field)
    return _LEFT_OUT if left_out else Judgement("enrolled")


def checks(
    version: Version,
    facts: Facts,
    now: datetime,
    *,
    event: Mapping[str, Any] | None,
    variables: Mapping[str, Any],
    key: str,
    standing: Standing | None,
    about: Mapping[str, str] | None = None,
) -> Iterator[Check]:
    """Yield every rule that applies, in order, and what it says of the contact."""
    known = Known(facts, now, event, variables=variables, about=about)
    yield from _variables(version.variables, variables)
    if facts.contact.fields.get("unsubscribed") is True:
        sentence = "The contact has unsubscribed. Do not enroll it unless the person asks for it."
        yield Check("UNSUBSCRIBED", False, sentence, "suppressed", {"contact.unsubscribed": True})
    yield from _admission(version, facts, known)
    yield from _rules(version, known)
    yield from _key(version, key, known)
    if standing is not None:
        yield _reentry(version, key, standing, now)


def key_of(
    version: Version,
    facts: Facts,
    event: Mapping[str, Any] | None,
    variables: Mapping[str, Any],
    now: datetime,
    expression: Expression | None = None,
    about: Mapping[str, str] | None = None,
) -> str:
    """Return the key of an enrollment: what the trigger's expression, or else the workflow's, comes to.

    Empty where there is none or it is not known. A long one is cut, and told apart by a digest of the whole.
    """
    chosen = expression or version.key
    if chosen is None:
        return ""
    return key_text(chosen.evaluate(Known(facts, now, event, variables=variables, about=about)).value)


def key_text(value: Any) -> str:
    """Return a value as the key of an enrollment, at most 200 characters."""
    match value:
        case None:
            return ""
        case bool():
            text = "true" if value else "false"
        case float() if value.is_integer():
            text = str(int(value))
        case str() | int() | float():
            text = str(value)
        case _:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)
    text = storable_text(text).strip()
    if len(text) <= LONGEST_KEY:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[:_KEPT_OF_LONG_KEY]}~{digest[: LONGEST_KEY - _KEPT_OF_LONG_KEY - 1]}"


def _variables(declared: Mapping[str, Kind], given: Mapping[str, Any]) -> Iterator[Check]:
    if not declared:
        return
    for name, value in given.items():
        path = f"variables.{name}"
        if name not in declared:
            hint = did_you_mean(name, declared) or f"It declares {', '.join(declared)}."
            yield Check("UNKNOWN_VARIABLE", False, f"The workflow has no variable {name}. {hint}", "invalid", {}, path)
        elif value is not None and not _fits(value, declared[name]):
            sentence = f"{name} must be {spoken(declared[name])}. Send it as the workflow declares it."
            yield Check("WRONG_TYPE", False, sentence, "invalid", {}, path)


def _fits(value: Any, kind: Kind) -> bool:
    match kind:
        case "string" | "reference":
            return isinstance(value, str)
        case "integer":
            return not isinstance(value, bool) and (
                isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            )
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "instant" | "date":
            return as_instant(value) is not None
        case "list":
            return isinstance(value, list | tuple)
        case "map":
            return isinstance(value, Mapping)
        case _:
            return True


def _admission(version: Version, facts: Facts, known: Known) -> Iterator[Check]:
    admission = version.admission
    if admission.suppress_lists:
        on = [name for name in admission.suppress_lists if name in facts.lists]
        inputs = {"contact.lists": sorted(facts.lists)}
        told = f"on {', '.join(on)}, which this workflow leaves out" if on else "on none of the lists it leaves out"
        yield Check("SUPPRESSION_LIST", not on, f"The contact is {told}.", "suppressed", inputs)
    if admission.suppress is not None:
        result = admission.suppress.evaluate(known)
        sentence = f"The suppression condition {tell(admission.suppress, result)}."
        yield Check("SUPPRESSED", not result.holds, sentence, "suppressed", result.inputs)
    if admission.when is not None:
        result = admission.when.evaluate(known)
        sentence = f"The entry condition {tell(admission.when, result)}."
        yield Check("ENTRY_CONDITION", result.holds, sentence, inputs=result.inputs)


_OF_AN_ENROLLMENT = frozenset({"enrollment", "steps"})
"""What a rule cannot be judged by before there is an enrollment."""


def _rules(version: Version, known: Known) -> Iterator[Check]:
    """Nobody enters who would be taken out at once: goals and exit rules that need no event, if they hold already."""
    for rule in version.rules:
        if rule.events or rule.when is None or rule.when.roots & _OF_AN_ENROLLMENT:
            continue
        result = rule.when.evaluate(known)
        name = "GOAL_REACHED" if rule.kind == "goal" else "EXIT_RULE"
        sentence = f"The {rule.says()}: {tell(rule.when, result)}{' already' if result.holds else ''}."
        yield Check(name, not result.holds, sentence, inputs=result.inputs)


def _key(version: Version, key: str, known: Known) -> Iterator[Check]:
    """Parallel enrollments need something to be told apart by."""
    if version.key is None or version.reentry != "concurrent_by_key" or key:
        return
    result = version.key.evaluate(known)
    sentence = f"The key {version.key.text.strip()} has no value, so enrollments cannot be told apart by it."
    yield Check("KEY_UNKNOWN", False, sentence, inputs=result.inputs)


def _reentry(version: Version, key: str, standing: Standing, now: datetime) -> Check:
    rule = f"REENTRY_{version.reentry.upper()}"
    since = _at(standing.entered_at)
    is_in = not standing.state.over
    inputs = {"enrollment.entered_at": standing.entered_at.isoformat(), "enrollment.state": standing.state.value}
    passes = False
    match version.reentry:
        case "once":
            left = f"entered this workflow at {since} and has left it"
            there = f"is in this workflow since {since}" if is_in else left
            sentence = f"The contact {there}, and may enter once only."
        case "after_exit":
            passes = not is_in
            sentence = f"The contact is in this workflow since {since}, and may enter again once it has left."
            if passes:
                sentence = "The contact has left this workflow, and may enter again."
        case "after_interval":
            again = standing.entered_at + version.reentry_interval if version.reentry_interval else standing.entered_at
            passes = not is_in and now >= again
            sentence = f"The contact entered this workflow at {since}; it may enter again from {_at(again)} on"
            sentence += ", and not before it has left." if is_in else "."
        case "concurrent_by_key":
            named = f"under the key {key}" if key else "without a key"
            sentence = f"The contact entered this workflow {named} at {since}, and may do so once for each key."
    return Check(rule, passes, sentence, "already_enrolled", inputs)


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"

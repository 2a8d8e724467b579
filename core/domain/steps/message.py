"""The step that sends a message to the contact: by e-mail, or over a channel that somebody else carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from core.domain.effects import SendMessage
from core.domain.enrollment import MessageEnded, Sent, Stimulus, TimerFired, Waiting
from core.domain.messaging import addresses, consent
from core.domain.records import values as record_values
from core.domain.records.values import BadValue
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.outward_shapes import HtmlText, Word
from core.domain.steps.shapes import Flag, LiquidText, Scope
from core.domain.workflow.frequency import FrequencyCap, capped_until
from core.domain.workflow.quiet_hours import quiet_until
from core.domain.workflow.templates import Template
from core.domain.workflow.zones import Zone

EMAIL = addresses.EMAIL
MARKETING = "marketing"
TRANSACTIONAL = consent.TRANSACTIONAL

LONGEST_SUBJECT = 300
LONGEST_ADDRESS = 400


@dataclass(frozen=True, slots=True)
class _Written:
    """The texts of a message, or why they could not be made."""

    texts: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Message(Step):
    """Sends a message to the contact."""

    kind: ClassVar = "message"
    summary: ClassVar = "Sends a message to the contact, outside quiet hours and within frequency caps."
    exits: ClassVar = ("next", "sent", "failed")
    undone: ClassVar = "failed"
    optional_exits: ClassVar = ("skipped",)
    waits: ClassVar = True
    outward: ClassVar = True
    outputs: ClassVar = {"message_id": "string", "sent": "boolean", "outcome": "string"}

    text: Annotated[Template, setting(LiquidText(), "What it says, as plain text.")]
    channel: Annotated[str, setting(Word(), "email, dm, sms, or a channel of your own; email by default.")] = EMAIL
    purpose: Annotated[
        str, setting(Word(), "marketing by default; transactional reaches those who unsubscribed, too.")
    ] = MARKETING
    to: Annotated[
        Template | None,
        setting(LiquidText(LONGEST_ADDRESS), "Address; the contact's e-mail or phone where the channel has it."),
    ] = None
    subject: Annotated[Template | None, setting(LiquidText(LONGEST_SUBJECT), "Subject, in one line; e-mail only.")] = (
        None
    )
    html: Annotated[Template | None, setting(HtmlText(), "The same as HTML; e-mail only.")] = None
    awaited: Annotated[bool, setting(Flag(), "Wait for the outcome; leave by sent or failed.", key="await")] = False
    ignore_quiet_hours: Annotated[bool, setting(Flag(), "Send it in quiet hours, too.")] = False
    ignore_caps: Annotated[
        bool, setting(Flag(), "Send it whatever the frequency caps say; it counts all the same.")
    ] = False

    def its_exits(self) -> tuple[str, ...]:
        """Return the two outcomes when it waits for them."""
        return ("sent", "failed") if self.awaited else ("next",)

    def needs(self) -> frozenset[str]:
        """Return that it looks at what the contact may be sent."""
        return frozenset({"consent"})

    def holds(self) -> bool:
        """Tell whether it waits for the outcome; quiet hours alone do not make a loop wait."""
        return self.awaited

    def check(self, scope: Scope, path: str) -> None:
        """Report what the channel needs and does not have, or has and does not take."""
        if self.channel == EMAIL and self.subject is None:
            scope.add(f"{path}.subject", "MISSING_KEY", "an e-mail needs a subject", "Write one line of text.")
        for key in ("subject", "html"):
            if self.channel != EMAIL and getattr(self, key) is not None:
                hint = "Leave it out, or put it into text."
                scope.add(f"{path}.{key}", "NOT_FOR_CHANNEL", f"a message on {self.channel} has no {key}", hint)
        if self.to is None and self.channel not in addresses.OWN_FIELDS:
            hint = "Write an address, such as {{ contact.custom.handle }}."
            scope.add(f"{path}.to", "MISSING_KEY", f"a message on {self.channel} needs to", hint)

    def begin(self, context: Context) -> Decision:
        """Send it, hold it or skip it; what happened and why is in the trace."""
        address, inputs, problem = self._address(context)
        if not address:
            return self._skip(context, problem, inputs)
        refused = self._refused(context, address)
        if refused is not None:
            reason = f"{refused.told[0].upper()}{refused.told[1:]}, and this is {self.purpose}."
            return self._skip(context, reason, {**inputs, **refused.inputs})
        held = self._quiet(context, inputs) or self._capped(context, inputs)
        return held or self._send(context, address, inputs)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Decide anew when what held it is over; go on when this very message has got its outcome."""
        waiting = context.enrollment.waiting
        match stimulus:
            case TimerFired() if waiting is not None and waiting.kind == "timer":
                if context.enrollment.skipping:
                    return self._skip(context, "Passed over: it fell due while the workflow was paused.", {})
                return self.begin(context)
            case MessageEnded() if waiting is not None and stimulus.message_id == waiting.subject:
                return self._ended(stimulus)
            case _:
                return None

    def _address(self, context: Context) -> tuple[str, Mapping[str, Any], str]:
        """Return the address, what was looked at, and why there is none."""
        if self.to is None:
            name = addresses.OWN_FIELDS[self.channel]
            written = str(context.facts.contact.fields.get(name) or "")
            inputs: Mapping[str, Any] = {f"contact.{name}": written or None}
        else:
            rendered = self.to.render(context.values)
            inputs = rendered.inputs
            if rendered.text is None:
                return "", inputs, f"The address could not be made: {rendered.error}."
            written = rendered.text
        address = " ".join(written.split())
        if not address:
            missing = [path for path, value in inputs.items() if value is None]
            return "", inputs, f"There is no address to send to: {', '.join(missing) or 'to'} is empty."
        if len(address) > LONGEST_ADDRESS:
            return "", inputs, f"The address has more than {LONGEST_ADDRESS} characters."
        if self.channel != EMAIL:
            return address, inputs, ""
        try:
            return record_values.email(address), inputs, ""
        except BadValue:
            return "", inputs, f"{address[:80]} is not an e-mail address."

    def _refused(self, context: Context, address: str) -> consent.Objection | None:
        return consent.objection(
            context.facts.consent,
            unsubscribed=context.facts.contact.fields.get("unsubscribed") is True,
            channel=self.channel,
            purpose=self.purpose,
            address=address,
        )

    def _skip(self, context: Context, reason: str, inputs: Mapping[str, Any]) -> Go:
        exit = "failed" if self.awaited else "next"
        outputs = {"sent": False, "outcome": "skipped"}
        return Go("skipped" if context.has_exit("skipped") else exit, reason, "skipped", (), outputs, inputs)

    def _quiet(self, context: Context, inputs: Mapping[str, Any]) -> Stay | None:
        quiet = context.version.quiet_hours
        if quiet is None or self.ignore_quiet_hours:
            return None
        zone = context.zone
        until = quiet_until(quiet, context.now, zone)
        if until is None:
            return None
        reason = f"Held through quiet hours, until {_shown(until, zone)}."
        return _hold(context, reason, until, {**inputs, "timezone": zone.name})

    def _capped(self, context: Context, inputs: Mapping[str, Any]) -> Decision | None:
        caps = () if self.ignore_caps else context.version.frequency_caps
        if not caps:
            return None
        zone = context.zone
        found = capped_until(caps, self.channel, context.facts.sent, context.now, zone)
        if found is None:
            return None
        cap, until = found
        counted = _counted(cap, context.facts.sent)
        inputs = {
            **inputs,
            "timezone": zone.name,
            "contact.messages": [{"channel": one.channel, "at": one.at.isoformat()} for one in counted],
        }
        went = f"{len(counted)} {'has' if len(counted) == 1 else 'have'} gone out, the last at"
        why = f"{cap.spoken}, and {went} {_shown(counted[-1].at, zone)}"
        if cap.otherwise == "skip":
            return self._skip(context, f"Too many: {why}.", inputs)
        return _hold(context, f"Held until {_shown(until, zone)}: {why}.", until, inputs)

    def _send(self, context: Context, address: str, inputs: Mapping[str, Any]) -> Decision:
        written = self._write(context)
        inputs = {**inputs, **written.inputs}
        if written.error:
            return Fail(written.error, inputs, "TEMPLATE_FAILED")
        ordinal = context.enrollment.messages.get(self.channel, 0) + 1
        effect = SendMessage(
            context.name("msg"),
            self.channel,
            self.purpose,
            context.enrollment.contact_id,
            address,
            written.texts.get("subject", ""),
            written.texts["text"],
            written.texts.get("html", ""),
            ordinal,
            self.awaited,
        )
        gaps = f" Left empty: {'; '.join(written.gaps)}." if written.gaps else ""
        what = f"message {ordinal} on {self.channel} to {address}"
        if self.awaited:
            waiting = Waiting("message", effect.id, context.now)
            return Stay(waiting, f"Sends {what}; waits for the outcome.{gaps}", effects=(effect,), inputs=inputs)
        outputs = {"message_id": effect.id}
        return Go("next", f"Sends {what}.{gaps}", effects=(effect,), outputs=outputs, inputs=inputs)

    def _write(self, context: Context) -> _Written:
        texts: dict[str, str] = {}
        inputs: dict[str, Any] = {}
        missing: dict[str, None] = {}
        for name in ("subject", "text", "html"):
            template: Template | None = getattr(self, name)
            if template is None:
                continue
            rendered = template.render(context.values)
            inputs |= rendered.inputs
            if rendered.text is None:
                return _Written(inputs=inputs, error=f"The {name} could not be made: {rendered.error}.")
            missing |= dict.fromkeys(f"{path} is not known" for path in rendered.missing)
            texts[name] = rendered.text
        if "subject" in texts:
            texts["subject"] = " ".join(texts["subject"].split())[:LONGEST_SUBJECT]
        return _Written(texts, inputs, tuple(missing))

    def _ended(self, ended: MessageEnded) -> Go:
        outputs = {"message_id": ended.message_id, "sent": ended.sent, "outcome": ended.outcome}
        if ended.sent:
            return Go("sent", f"The message on {self.channel} was sent.", outputs=outputs)
        outcome: Literal["skipped", "failed"] = "skipped" if ended.outcome.startswith("skipped") else "failed"
        reason = f"The message on {self.channel} was not sent: {ended.outcome}."
        return Go("failed", reason, outcome, outputs=outputs)


def _hold(context: Context, reason: str, until: datetime, inputs: Mapping[str, Any]) -> Stay:
    return Stay(Waiting("timer", since=context.now), reason, until, inputs=inputs, outcome="held")


def _counted(cap: FrequencyCap, sent: tuple[Sent, ...]) -> list[Sent]:
    """Return the newest messages that fill a cap."""
    same = sorted((one for one in sent if cap.channel in ("", one.channel)), key=lambda one: one.at)
    return same[-cap.at_most :]


def _shown(instant: datetime, zone: Zone) -> str:
    return f"{zone.local(instant):%Y-%m-%d %H:%M} ({zone.spoken})"

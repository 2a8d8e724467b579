"""The step that sends a message to the contact: by e-mail, or over a channel that somebody else carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

from core.domain.effects import SendMessage, WithdrawMessages
from core.domain.enrollment import MessageEnded, Stimulus, TimerFired, Waiting
from core.domain.frozen import frozen
from core.domain.messaging import addresses, consent
from core.domain.messaging import terms as sending_terms
from core.domain.messaging.terms import NotNow, Terms
from core.domain.records import values as record_values
from core.domain.records.values import BadValue
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.outward_shapes import HtmlText, Word
from core.domain.steps.shapes import Duration, Flag, LiquidText, Scope, Text
from core.domain.workflow import durations
from core.domain.workflow.templates import Template

EMAIL = addresses.EMAIL
MARKETING = "marketing"
TRANSACTIONAL = consent.TRANSACTIONAL

LONGEST_SUBJECT = 300
LONGEST_ADDRESS = 400

SEND, SKIP, FAIL = "send", "skip", "fail"
"""What becomes of a message with gaps."""


@frozen
class _Written:
    """The texts of a message, or why they could not be made."""

    texts: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    error: str = ""


@frozen
class Message(Step):
    """Sends a message to the contact."""

    kind: ClassVar = "message"
    summary: ClassVar = "Sends a message to the contact, outside quiet hours and within frequency caps."
    exits: ClassVar = ("next", "sent", "failed", "timeout")
    undone: ClassVar = "failed"
    fallbacks: ClassVar = {"timeout": "failed"}
    optional_exits: ClassVar = ("skipped",)
    waits: ClassVar = True
    outward: ClassVar = True
    outputs: ClassVar = {"message_id": "string", "sent": "boolean", "outcome": "string"}
    timing: ClassVar = (
        *("timeout", "channel", "ignore_quiet_hours", "ignore_caps"),
        *("timezone", "quiet_hours", "frequency_caps"),
    )
    constraints: ClassVar[Mapping[str, Any]] = {
        "dependentSchemas": {"timeout": {"properties": {"await": {"const": True}}, "required": ["await"]}}
    }

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
    timeout: Annotated[
        timedelta | None, setting(Duration(), "How long to wait for the outcome; what has not left then is taken back.")
    ] = None
    when_empty: Annotated[
        str,
        setting(Text(choices=(SEND, SKIP, FAIL)), "What becomes of it when a value for its texts is not known; send."),
    ] = SEND
    ignore_quiet_hours: Annotated[bool, setting(Flag(), "Send it in quiet hours, too.")] = False
    ignore_caps: Annotated[
        bool, setting(Flag(), "Send it whatever the frequency caps say; it counts all the same.")
    ] = False

    def its_exits(self) -> tuple[str, ...]:
        """Return the outcomes when it waits for them."""
        if not self.awaited:
            return ("next",)
        return ("sent", "failed", "timeout") if self.timeout else ("sent", "failed")

    def longest(self) -> timedelta | None:
        """Return its timeout."""
        return self.timeout

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
        if self.timeout is not None and not self.awaited:
            message = "timeout matters only where the step waits for the outcome"
            scope.add(f"{path}.timeout", "CONFLICT", message, "Write await: true, or remove it.")

    def begin(self, context: Context) -> Decision:
        """Send it, hold it or skip it; what happened and why is in the trace."""
        address, inputs, problem = self._address(context)
        if not address:
            return self._skip(context, problem, inputs)
        refused = self._refused(context, address)
        if refused is not None:
            reason = f"{refused.told[0].upper()}{refused.told[1:]}, and this is {self.purpose}."
            return self._skip(context, reason, {**inputs, **refused.inputs})
        terms = self._terms(context)
        held = None if terms is None else self._quiet(terms, context, inputs) or self._capped(terms, context, inputs)
        return held or self._send(context, address, inputs, terms)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Decide anew when what held it is over; go on when this very message has got its outcome."""
        waiting = context.enrollment.waiting
        match stimulus:
            case TimerFired() if waiting is not None and waiting.kind == "timer":
                if context.enrollment.skipping:
                    return self._skip(context, "Passed over: it fell due while the workflow was paused.", {})
                return self.begin(context)
            case TimerFired() if waiting is not None and waiting.kind == "message" and self.timeout is not None:
                return self._too_late(context, waiting.subject, self.timeout)
            case MessageEnded() if waiting is not None and stimulus.message_id == waiting.subject:
                return self._ended(stimulus, context)
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

    def _terms(self, context: Context) -> Terms | None:
        """Return when it may leave: now, and whenever it is sent."""
        version = context.version
        quiet = None if self.ignore_quiet_hours else version.quiet_hours
        caps = () if self.ignore_caps else version.frequency_caps
        if quiet is None and not caps:
            return None
        return Terms(context.zone, quiet, tuple(cap for cap in caps if cap.channel in ("", self.channel)))

    def _quiet(self, terms: Terms, context: Context, inputs: Mapping[str, Any]) -> Stay | None:
        found = terms.quiet(context.now)
        if found is None:
            return None
        reason = f"Held through quiet hours, until {terms.shown(found.until)}."
        return _hold(context, reason, found.until, {**inputs, "timezone": terms.zone.name})

    def _capped(self, terms: Terms, context: Context, inputs: Mapping[str, Any]) -> Decision | None:
        found = terms.capped(self.channel, context.facts.sent, context.now)
        if found is None:
            return None
        inputs = {**inputs, **_looked_at(terms, found)}
        if found.skip:
            return self._skip(context, f"Too many: {found.reason}.", inputs)
        return _hold(context, f"Held until {terms.shown(found.until)}: {found.reason}.", found.until, inputs)

    def _send(self, context: Context, address: str, inputs: Mapping[str, Any], terms: Terms | None) -> Decision:
        written = self._write(context)
        inputs = {**inputs, **written.inputs}
        if written.error:
            return Fail(written.error, inputs, "TEMPLATE_FAILED")
        empty = "; ".join(written.gaps)
        if empty and self.when_empty == SKIP:
            return self._skip(context, f"It would have gaps: {empty}.", inputs)
        if empty and self.when_empty == FAIL:
            return Fail(f"The message would have gaps: {empty}.", inputs, "LEFT_EMPTY")
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
            {} if terms is None else sending_terms.to_data(terms),
            written.gaps,
            context.node.id,
        )
        gaps = f" Left empty: {empty}." if empty else ""
        what = f"message {ordinal} on {self.channel} to {address}"
        if self.awaited:
            until = context.now + self.timeout if self.timeout else None
            limit = f" for {durations.speak(self.timeout)} at most" if self.timeout else ""
            waiting = Waiting("message", effect.id, context.now)
            reason = f"Sends {what}; waits for the outcome{limit}.{gaps}"
            return Stay(waiting, reason, until, effects=(effect,), inputs=inputs)
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

    def _ended(self, ended: MessageEnded, context: Context) -> Decision:
        outputs = {"message_id": ended.message_id, "sent": ended.sent, "outcome": ended.outcome}
        if ended.sent:
            return Go("sent", f"The message on {self.channel} was sent.", outputs=outputs)
        reason = f"The message on {self.channel} was not sent: {ended.outcome}."
        if ended.skipped:
            return Go("skipped" if context.has_exit("skipped") else "failed", reason, "skipped", outputs=outputs)
        return Fail(reason, {}, "NOT_SENT", retryable=True, exit="failed", outputs=outputs)

    def _too_late(self, context: Context, message_id: str, timeout: timedelta) -> Fail:
        """Go on without the message, and take it back where it has not left."""
        said = durations.speak(timeout)
        withdrawn = WithdrawMessages(context.enrollment.id, f"it was not sent within {said}", message_id)
        outputs = {"message_id": message_id, "sent": False, "outcome": "timeout"}
        reason = f"The message on {self.channel} was not sent within {said}; it is taken back."
        return Fail(reason, {}, "TIMEOUT", exit="timeout", outputs=outputs, effects=(withdrawn,))


def _hold(context: Context, reason: str, until: datetime, inputs: Mapping[str, Any]) -> Stay:
    return Stay(Waiting("timer", since=context.now), reason, until, inputs=inputs, outcome="held")


def _looked_at(terms: Terms, found: NotNow) -> dict[str, Any]:
    counted = [{"channel": one.channel, "at": one.at.isoformat()} for one in found.counted]
    return {"timezone": terms.zone.name, "contact.messages": counted}

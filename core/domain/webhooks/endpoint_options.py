"""What its owner decides about an endpoint, and what is wrong with it: every option is checked here, all at once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.webhooks import authentication, filters, retry, urls
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.authentication import Authentication, ClientCertificate
from core.domain.webhooks.bodies import PayloadFormat
from core.domain.webhooks.event_types import CATALOGUE, is_event_type_name
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.signing import ExtraSignature, SignatureFormat
from core.domain.webhooks.states import EndpointKind, Ordering

MOST_HEADERS = 20
LONGEST_HEADER_NAME = 100
LONGEST_HEADER_VALUE = 2_000
MOST_SIGNATURES = 4
HIGHEST_RATE = 1_000.0
LOWEST_RATE = 0.001
MOST_IN_FLIGHT = 256

OF_HTTP = frozenset(
    "host content-length content-type content-encoding transfer-encoding accept-encoding connection keep-alive upgrade "
    "te trailer expect date http2-settings".split()
)
"""Headers that HTTP itself, or the body, decides."""

OF_AUTHENTICATION = frozenset({"authorization", "proxy-authorization", "proxy-authenticate", "proxy-connection"})

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")


@frozen
class Options:
    """Everything that its owner decides about an endpoint; field names are those of the contract."""

    kind: EndpointKind
    url: str
    description: str
    event_types: Sequence[str]
    filter: str
    headers: Mapping[str, str] = field(hash=False)
    auth: Authentication | None
    extra_signatures: Sequence[ExtraSignature]
    payload_format: PayloadFormat
    retry_preset: Preset
    retry_delays: Sequence[timedelta]
    rate_per_second: float
    max_in_flight: int
    ordering: Ordering


@frozen
class Surroundings:
    """What options are checked against."""

    destinations: Destinations
    now: datetime
    prefix: str = ""
    """Where the fields stand in the request, such as `endpoint.`."""


Checked = tuple[Options, list[Violation]]


def check(options: Options, fields: Collection[str], around: Surroundings) -> Checked:
    """Return options in normal form, and everything that is wrong with these fields of them."""
    violations: list[Violation] = []
    asked = {*fields, "extra_signatures"} if "headers" in fields else fields  # their names must differ
    for name, checker in _CHECKERS.items():
        if name in asked:
            options, found = checker(options, around)
            violations += found
    if "url" in fields or "auth" in fields:
        violations += _transport_problems(options, around)
    return options, violations


def _transport_problems(options: Options, around: Surroundings) -> Iterator[Violation]:
    if isinstance(options.auth, ClientCertificate) and options.url.startswith("http:"):
        message = "a client certificate can only be shown over https"
        yield Violation(f"{around.prefix}auth.mtls", "CONFLICT", message, "Write https:// in the URL.")


def _check_url(options: Options, around: Surroundings) -> Checked:
    at = f"{around.prefix}url"
    if options.kind is EndpointKind.PULL:
        if not options.url:
            return options, []
        message = "an endpoint that fetches its messages has no URL"
        return options, [Violation(at, "CONFLICT", message, "Leave it out, or make the endpoint of kind push.")]
    try:
        return replace(options, url=urls.parse(options.url, around.destinations, at)), []
    except Invalid as error:
        return options, list(error.violations)


def _check_event_types(options: Options, around: Surroundings) -> Checked:
    violations = []
    for number, name in enumerate(options.event_types):
        if is_event_type_name(name):
            continue
        message = f"{name!r} is not the name of an event type: lower case, with dots, such as deal.won"
        hint = did_you_mean(name, CATALOGUE) or "List the event types to see the core's own."
        violations.append(Violation(f"{around.prefix}event_types[{number}]", "EVENT_TYPE_MALFORMED", message, hint))
    return replace(options, event_types=tuple(dict.fromkeys(options.event_types))), violations


def _check_filter(options: Options, around: Surroundings) -> Checked:
    text = options.filter if options.filter.strip() else ""
    return replace(options, filter=text), list(filters.problems(text, f"{around.prefix}filter"))


def _check_headers(options: Options, around: Surroundings) -> Checked:
    at = f"{around.prefix}headers"
    violations = []
    if len(options.headers) > MOST_HEADERS:
        message = f"has {len(options.headers)} headers, at most {MOST_HEADERS} are accepted"
        violations.append(Violation(at, "TOO_MANY_ITEMS", message, "Put what does not change into the URL's path."))
    taken: set[str] = set()
    for name, value in options.headers.items():
        place = f"{at}[{name[:LONGEST_HEADER_NAME]}]"
        violations += _name_problems(name, place)
        violations += _value_problems(value, place)
        if name.lower() in taken:
            message = "the same header stands twice; case does not tell them apart"
            violations.append(Violation(place, "DUPLICATE", message, "Join the values with a comma."))
        taken.add(name.lower())
    return options, violations


def _name_problems(name: str, place: str) -> Iterator[Violation]:
    lowered = name.lower()
    if len(name) > LONGEST_HEADER_NAME:
        yield Violation(place, "TOO_LONG", f"a header's name has at most {LONGEST_HEADER_NAME} characters")
    elif _NAME.fullmatch(name) is None:
        message = "this is not the name of a header"
        yield Violation(place, "HEADER_MALFORMED", message, "Use letters, digits and hyphens, such as X-Team.")
    elif lowered.startswith("webhook-"):
        message = "headers that begin with webhook- carry signatures"
        yield Violation(place, "HEADER_RESERVED", message, "Choose a name of your own, such as X-Team.")
    elif lowered in OF_AUTHENTICATION:
        yield Violation(place, "HEADER_RESERVED", "this header authenticates", "Set auth instead.")
    elif lowered in OF_HTTP:
        yield Violation(place, "HEADER_RESERVED", "HTTP itself decides this header", "Leave it out.")


def _value_problems(value: str, place: str) -> Iterator[Violation]:
    if len(value) > LONGEST_HEADER_VALUE:
        message = f"has {len(value)} characters, at most {LONGEST_HEADER_VALUE:,} are accepted"
        yield Violation(place, "TOO_LONG", message, "Put long values into the URL, or fetch them by an id.")
    elif "\r" in value or "\n" in value:
        yield Violation(place, "HEADER_VALUE_MALFORMED", "a header's value is one line", "Remove the line breaks.")
    elif _VALUE.fullmatch(value) is None:
        message = "a header's value is visible ASCII, not empty, without spaces around it"
        yield Violation(place, "HEADER_VALUE_MALFORMED", message, "Percent-encode other characters.")


def _check_auth(options: Options, around: Surroundings) -> Checked:
    at = f"{around.prefix}auth"
    if options.auth is None:
        return options, []
    if options.kind is EndpointKind.PULL:
        message = "an endpoint that fetches its messages authenticates with its API key"
        return options, [Violation(at, "CONFLICT", message, "Leave auth out.")]
    auth, violations = authentication.check(options.auth, around.destinations, around.now, at)
    return replace(options, auth=auth), violations


def _check_signatures(options: Options, around: Surroundings) -> Checked:
    at = f"{around.prefix}extra_signatures"
    violations: list[Violation] = []
    if len(options.extra_signatures) > MOST_SIGNATURES:
        message = f"has {len(options.extra_signatures)} items, at most {MOST_SIGNATURES} are accepted"
        violations.append(Violation(at, "TOO_MANY_ITEMS", message))
    taken = {name.lower() for name in options.headers}
    for number, one in enumerate(options.extra_signatures):
        place = f"{at}[{number}].header"
        key = one.header.lower() if one.format is not SignatureFormat.V1A else "webhook-signature"
        if one.format is SignatureFormat.V1A and one.header:
            message = "v1a stands in webhook-signature, beside v1"
            violations.append(Violation(place, "CONFLICT", message, "Leave header out."))
        elif not key:
            hint = "Name the header that the receiver reads, such as X-Hub-Signature-256."
            violations.append(Violation(place, "REQUIRED", "is required and missing", hint))
        elif key in taken:
            message = "another header or signature has this name"
            violations.append(Violation(place, "DUPLICATE", message, "Each signature needs a header of its own."))
        elif one.format is not SignatureFormat.V1A:
            violations += _name_problems(one.header, place)
        taken.add(key)
    return options, violations


def _check_delays(options: Options, around: Surroundings) -> Checked:
    at = f"{around.prefix}retry_delays"
    violations = []
    if len(options.retry_delays) > retry.MOST_DELAYS:
        message = f"has {len(options.retry_delays)} items, at most {retry.MOST_DELAYS} are accepted"
        violations.append(Violation(at, "TOO_MANY_ITEMS", message, "Make the last ones longer."))
    for number, delay in enumerate(options.retry_delays):
        if not retry.SHORTEST_DELAY <= delay <= retry.LONGEST_DELAY:
            message = "a wait between attempts is from 1 second to 7 days"
            hint = "Leave retry_delays out for the preset's waits."
            violations.append(Violation(f"{at}[{number}]", "OUT_OF_RANGE", message, hint))
    return options, violations


def _check_rate(options: Options, around: Surroundings) -> Checked:
    rate = options.rate_per_second
    if rate and options.kind is EndpointKind.PULL:
        return options, [_own_pace(f"{around.prefix}rate_per_second")]
    if math.isfinite(rate) and (rate == 0 or LOWEST_RATE <= rate <= HIGHEST_RATE):
        return options, []
    message = f"a rate is from {LOWEST_RATE} to {HIGHEST_RATE:,.0f} attempts a second, or 0 for no limit"
    hint = "0.5 is one attempt every two seconds."
    return options, [Violation(f"{around.prefix}rate_per_second", "OUT_OF_RANGE", message, hint)]


def _own_pace(place: str) -> Violation:
    message = "an endpoint that fetches its messages sets its own pace"
    return Violation(place, "CONFLICT", message, "Leave it out, and say max_in_flight where you stream them.")


def _check_in_flight(options: Options, around: Surroundings) -> Checked:
    if options.max_in_flight and options.kind is EndpointKind.PULL:
        return options, [_own_pace(f"{around.prefix}max_in_flight")]
    if 0 <= options.max_in_flight <= MOST_IN_FLIGHT:
        return options, []
    message = f"from 1 to {MOST_IN_FLIGHT} attempts may be under way at once, or 0 for what the core gives each"
    hint = "1 sends one after the other."
    return options, [Violation(f"{around.prefix}max_in_flight", "OUT_OF_RANGE", message, hint)]


_CHECKERS: Mapping[str, Callable[[Options, Surroundings], Checked]] = {
    "url": _check_url,
    "event_types": _check_event_types,
    "filter": _check_filter,
    "headers": _check_headers,
    "auth": _check_auth,
    "extra_signatures": _check_signatures,
    "retry_delays": _check_delays,
    "rate_per_second": _check_rate,
    "max_in_flight": _check_in_flight,
}
"""Fields that can be wrong, in the order in which they are told."""

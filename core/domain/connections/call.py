"""The HTTP call of a connection: checked once, rendered for each message; a value never changes its shape or host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from core.domain.connections import json_body, sample
from core.domain.connections.json_body import BadBody
from core.domain.connections.sample import VARIABLES
from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.webhooks import urls
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.endpoint_options import (
    LONGEST_HEADER_NAME,
    LONGEST_HEADER_VALUE,
    MOST_HEADERS,
    OF_AUTHENTICATION,
    OF_HTTP,
)
from core.domain.workflow import templates
from core.domain.workflow.escapes import Escape
from core.domain.workflow.templates import Template

METHODS = ("POST", "PUT", "PATCH")
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
IDEMPOTENCY_KEY = "idempotency-key"
"""The header by which the other system can tell that it has a message already: on every attempt, its id."""

_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:; ?charset=utf-8)?", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FIXED_HOST = re.compile(r"(?i)https?://[^/?#{}%\s]+")
_LIQUID = re.compile(r"\{\{|\{%")


@frozen
class Call:
    """A declared call; its texts are Liquid."""

    method: str
    url: str
    headers: Mapping[str, str] = field(hash=False)
    body: str
    content_type: str

    @property
    def host(self) -> str:
        """Return the URL up to its host, which is never computed; empty where there is none."""
        found = _FIXED_HOST.match(self.url)
        return found[0] if found else ""


@frozen
class Request:
    """A call rendered for one message."""

    method: str
    url: str
    headers: Mapping[str, str] = field(hash=False)
    body: str


class NotRendered(Exception):
    """A call cannot be made for a message; the text says why, as a clause."""


def normal(call: Call) -> Call:
    """Return a call with what was left out."""
    method, content_type = call.method.upper() or METHODS[0], call.content_type.strip() or JSON
    return Call(method, call.url.strip(), dict(call.headers), call.body, content_type)


def check(call: Call, destinations: Destinations, at: str) -> list[Violation]:
    """Return everything that is wrong with a call in normal form; `at` says where it stands."""
    found = [*_method_problems(call, at), *_header_problems(call, f"{at}.headers")]
    found += [*_url_problems(call.url, destinations, f"{at}.url"), *_body_problems(call, at)]
    if not found:
        try:
            render(call, sample.made_up(sample.SAMPLE), sample.SAMPLE.id, destinations)
        except NotRendered as error:
            hint = "TestConnection shows the request; values in JSON stand inside double quotes."
            found.append(Violation(f"{at}.body", "CALL_CANNOT_BE_MADE", f"tried with a sample, {error}", hint))
    return found


def render(call: Call, values: Mapping[str, Any], message_id: str, destinations: Destinations) -> Request:
    """Return the request of a message.

    Raises NotRendered.
    """
    headers = {
        name: value for name, text in call.headers.items() if (value := _header(name, _rendered(text, "none", values)))
    }
    body = _rendered(call.body, _escape_of(call.content_type), values)
    if _escape_of(call.content_type) == "json":
        try:
            body = json_body.finished(body)
        except BadBody as error:
            raise NotRendered(str(error)) from None
    sent = {"content-type": call.content_type, IDEMPOTENCY_KEY: message_id}
    return Request(call.method, _url(call, values, destinations), {**headers, **sent}, body)


def _escape_of(content_type: str) -> Escape:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON or kind.endswith("+json"):
        return "json"
    if kind == FORM:
        return "url"
    return "html" if kind.endswith(("/xml", "+xml", "/html")) else "none"


@lru_cache(maxsize=1_024)
def _template(text: str, escape: Escape) -> Template | None:
    return templates.check(text, VARIABLES, "call", escape=escape)[0]


def _rendered(text: str, escape: Escape, values: Mapping[str, Any]) -> str:
    template = _template(text, escape)
    if template is None:  # written when the rules were others
        raise NotRendered("a text of the call can no longer be read")
    rendered = template.render(values)
    if rendered.text is None:
        raise NotRendered(f"a text of the call cannot be made: {rendered.error}")
    return rendered.text


def _header(name: str, text: str) -> str:
    value = templates.one_line(text)
    if value and (not _HEADER_VALUE.fullmatch(value) or len(value) > LONGEST_HEADER_VALUE):
        raise NotRendered(f"the header {name} would not be plain ASCII of at most {LONGEST_HEADER_VALUE:,} characters")
    return value


def _url(call: Call, values: Mapping[str, Any], destinations: Destinations) -> str:
    written = _rendered(call.url, "url", values)
    try:
        parsed = urls.parse(written, destinations)
        if not call.host or urls.origin(parsed) != urls.origin(call.host):
            raise NotRendered("the host of the URL would be computed")
    except Invalid as error:
        raise NotRendered(f"the URL cannot be used: {error.violations[0].message}") from None
    segments = [unquote(segment) for segment in urlsplit(written).path.split("/")]
    if any(segment in (".", "..") for segment in segments):
        raise NotRendered("a part of the URL's path would be . or ..")
    if _LIQUID.search(call.url) and "" in segments[1:-1]:
        raise NotRendered("a part of the URL's path would be empty")
    return parsed


def _method_problems(call: Call, at: str) -> Iterator[Violation]:
    if call.method not in METHODS:
        hint = did_you_mean(call.method, METHODS, "Use POST, PUT or PATCH; empty is POST.")
        yield Violation(f"{at}.method", "METHOD_NOT_ALLOWED", f"{call.method[:10]} carries no message", hint)
    if not _CONTENT_TYPE.fullmatch(call.content_type):
        hint = "Write application/json or application/x-www-form-urlencoded; the body is sent as UTF-8."
        yield Violation(f"{at}.content_type", "CONTENT_TYPE_MALFORMED", "this is not a content type", hint)


def _header_problems(call: Call, at: str) -> Iterator[Violation]:
    if len(call.headers) > MOST_HEADERS:
        message = f"has {len(call.headers)} headers, at most {MOST_HEADERS} are accepted"
        yield Violation(at, "TOO_MANY_ITEMS", message, "Put what does not change into the URL.")
    taken: set[str] = set()
    for name, text in call.headers.items():
        place, lowered = f"{at}[{name[:LONGEST_HEADER_NAME]}]", name.lower()
        if len(name) > LONGEST_HEADER_NAME or _HEADER_NAME.fullmatch(name) is None:
            hint = "Use letters, digits and hyphens, such as X-Team."
            yield Violation(place, "HEADER_MALFORMED", "this is not the name of a header", hint)
        elif lowered in OF_AUTHENTICATION:
            hint = "Set auth instead; it is never shown again."
            yield Violation(place, "HEADER_RESERVED", "this header authenticates", hint)
        elif lowered == "content-type":
            yield Violation(place, "HEADER_RESERVED", "the type of the body is set apart", "Set content_type instead.")
        elif lowered in OF_HTTP or lowered == IDEMPOTENCY_KEY:
            hint = "Leave it out; idempotency-key is the message's id."
            yield Violation(place, "HEADER_RESERVED", "HTTP itself, or the core, decides this header", hint)
        if lowered in taken:
            yield Violation(place, "DUPLICATE", "the same header stands twice", "Leave one of them out.")
        taken.add(lowered)
        if _CONTROL.search(text) or "\n" in text or "\r" in text:
            hint = "Remove the line breaks."
            yield Violation(place, "HEADER_VALUE_MALFORMED", "a header's value is one line", hint)
        elif not text.strip():
            yield Violation(place, "REQUIRED", "the value is empty", "Leave the header out.")
        elif len(text) > LONGEST_HEADER_VALUE:
            yield Violation(place, "TOO_LONG", f"has more than {LONGEST_HEADER_VALUE:,} characters", "Shorten it.")
        else:
            yield from templates.check(text, VARIABLES, place)[1]


def _url_problems(text: str, destinations: Destinations, at: str) -> Iterator[Violation]:
    if not text:
        yield Violation(at, "REQUIRED", "is required and missing", "Write https://api.example.com/messages.")
        return
    literal = _LIQUID.split(text)[0]
    fixed = _FIXED_HOST.match(literal)
    if literal != text and (fixed is None or fixed.end() == len(literal)):
        hint = "Write scheme and host out, such as https://api.example.com/{{ message.to }}."
        yield Violation(at, "URL_HOST_COMPUTED", "the host of the URL may not be computed", hint)
        return
    template, problems = templates.check(text, VARIABLES, at, escape="url")
    yield from problems
    if template is None:
        return
    rendered = template.render(sample.made_up(sample.SAMPLE))
    try:
        urls.parse(rendered.text if rendered.text is not None else fixed[0] if fixed else text, destinations, at)
    except Invalid as error:
        yield from error.violations


def _body_problems(call: Call, at: str) -> Iterator[Violation]:
    if _CONTROL.search(call.body):
        yield Violation(f"{at}.body", "CONTROL_CHARACTER", "has a control character", "Write it as an escape.")
    elif not call.body.strip():
        hint = '{"to": "{{ message.to }}", "text": "{{ message.text }}"}'
        yield Violation(f"{at}.body", "REQUIRED", "is required and missing", f"Write a body, such as {hint}.")
    else:
        yield from templates.check(call.body, VARIABLES, f"{at}.body", escape=_escape_of(call.content_type))[1]

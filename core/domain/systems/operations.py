"""Calls of a generic HTTP interface: checked once, rendered for each record; answers are read by JSON pointers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from core.domain.connections import json_body
from core.domain.connections.call import Call, NotRendered, Request
from core.domain.connections.json_body import BadBody
from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.webhooks import urls
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.endpoint_options import OF_AUTHENTICATION, OF_HTTP
from core.domain.workflow import templates
from core.domain.workflow.escapes import Escape
from core.domain.workflow.templates import Template

NAMES = ("upsert", "get", "list", "delete", "list_deleted")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
VARIABLES: Mapping[str, str] = {"record": "map", "record.id": "string", "cursor": "string", "since": "string"}
"""What the texts of a call may name."""

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")
_SAMPLE: Mapping[str, Any] = {"id": "cnt_sample", "external_id": "1"}
_LONG_AGO = "2026-03-02T09:00:00Z"


@frozen
class Operation:
    """A declared call for records of one type."""

    name: str
    type: str
    call: Call
    records_path: str
    cursor_path: str
    id_path: str


def column(given: Operation) -> dict[str, Any]:
    """Return it as it is stored."""
    return asdict(given)


def from_column(stored: Mapping[str, Any]) -> Operation:
    """Return what is stored."""
    return Operation(**{**stored, "call": Call(**stored["call"])})


def check(given: Operation, types: Collection[str], destinations: Destinations, at: str) -> Iterator[Violation]:
    """Yield everything that is wrong with an operation in normal form."""
    if given.name not in NAMES:
        hint = did_you_mean(given.name, NAMES, f"Use {', '.join(NAMES)}.")
        yield Violation(f"{at}.name", "UNKNOWN_OPERATION", "there is no such operation", hint)
    if given.type not in types:
        yield Violation(f"{at}.type", "UNKNOWN_RECORD_TYPE", "the type is not mapped", "Map it, or leave this out.")
    if given.call.method not in METHODS:
        hint = did_you_mean(given.call.method, METHODS, f"Use {', '.join(METHODS)}.")
        yield Violation(f"{at}.call.method", "METHOD_NOT_ALLOWED", "is no method of such a call", hint)
    for name in given.call.headers:
        if not _HEADER_NAME.fullmatch(name):
            yield Violation(f"{at}.call.headers[{name[:40]}]", "HEADER_MALFORMED", "this is no header", "Use letters.")
        elif name.lower() in OF_AUTHENTICATION or name.lower() in OF_HTTP:
            hint = "What authenticates is set with SetCredentials."
            yield Violation(f"{at}.call.headers[{name}]", "HEADER_RESERVED", "this header is not yours to set", hint)
    for path in ("records_path", "cursor_path", "id_path"):
        if not _POINTER.fullmatch(getattr(given, path)):
            hint = "Write a JSON pointer, such as /data/items."
            yield Violation(f"{at}.{path}", "POINTER_MALFORMED", "this is no JSON pointer", hint)
    texts = {
        "url": given.call.url,
        "body": given.call.body,
        **{f"headers[{k}]": v for k, v in given.call.headers.items()},
    }
    problems = [
        one
        for name, text in texts.items()
        for one in templates.check(text, VARIABLES, f"{at}.call.{name}", escape=_escape(name, given.call))[1]
    ]
    yield from problems
    if not problems:
        try:
            render(given.call, _SAMPLE, "c", _LONG_AGO, destinations)
        except NotRendered as error:
            hint = "Scheme and host are written out; values in JSON stand inside double quotes."
            yield Violation(f"{at}.call", "CALL_CANNOT_BE_MADE", f"tried with a sample, {error}", hint)


def render(call: Call, record: Mapping[str, Any], cursor: str, since: str, destinations: Destinations) -> Request:
    """Return the request for a record, or for a page.

    Raises NotRendered.
    """
    values = {"record": record, "record.id": record.get("id", ""), "cursor": cursor, "since": since}
    body = ""
    if call.method not in ("GET", "DELETE") and call.body:
        escape = _escape("body", call)
        body = _rendered(call.body, escape, values)
        if escape == "json":
            try:
                body = json_body.finished(body)
            except BadBody as error:
                raise NotRendered(str(error)) from None
    headers = {
        name: value
        for name, text in call.headers.items()
        if (value := templates.one_line(_rendered(text, "none", values))) and value.isascii()
    }
    if body:
        headers["content-type"] = call.content_type
    return Request(call.method, _url(call, values, destinations), headers, body)


def at(value: Any, pointer: str) -> Any:
    """Return what a JSON pointer names, or None."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _escape(name: str, call: Call) -> Escape:
    if name == "url":
        return "url"
    kind = call.content_type.partition(";")[0].strip().lower()
    if name != "body":
        return "none"
    if kind == "application/json" or kind.endswith("+json"):
        return "json"
    return "url" if kind == "application/x-www-form-urlencoded" else "none"


@lru_cache(maxsize=256)
def _template(text: str, escape: Escape) -> Template | None:
    return templates.check(text, VARIABLES, "call", escape=escape)[0]


def _rendered(text: str, escape: Escape, values: Mapping[str, Any]) -> str:
    template = _template(text, escape)
    rendered = None if template is None else template.render(values)
    if rendered is None or rendered.text is None:
        raise NotRendered(f"a text of the call cannot be made{'' if rendered is None else ': ' + rendered.error}")
    return rendered.text


def _url(call: Call, values: Mapping[str, Any], destinations: Destinations) -> str:
    written = _rendered(call.url, "url", values)
    try:
        parsed = urls.parse(written, destinations)
        if not call.host or urls.origin(parsed) != urls.origin(call.host):
            raise NotRendered("the host of the URL would be computed")
    except Invalid as error:
        raise NotRendered(f"the URL cannot be used: {error.violations[0].message}") from None
    if any(unquote(segment) in (".", "..") for segment in urlsplit(written).path.split("/")):
        raise NotRendered("a part of the URL's path would be . or ..")
    return parsed

"""How one `google.api.http` rule turns a request of HTTP into a request message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# The http extension must be registered before the first GetOptions(); core.rpc.methods sees to it as well.
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from core.domain.errors import invalid
from core.domain.frozen import frozen
from core.gateway import body, query
from core.gateway.paths import Template, field_at
from core.gateway.problems import Problems
from core.gateway.query import Parameter
from core.gateway.values import REFUSED, message_type, text
from core.rpc.methods import Access, Method

_VERBS = ("get", "put", "post", "delete", "patch")
WHOLE = "*"
"""The body of a rule whose JSON is the whole request."""


@frozen
class Binding:
    """One route: a method under a verb and a path."""

    method: Method
    verb: str
    template: Template
    body: str
    """`*`, the name of the field that the JSON fills, or empty where there is no body."""
    query: Mapping[str, Parameter]
    etag: tuple[str, ...]
    """Where If-Match goes; empty where the request has no etag."""
    raw_body: bool = False
    """The field that the body fills takes its bytes as they are: the body is a file."""
    raw_answer: str = ""
    """The field of the answer whose bytes are the body, as they are; empty where the answer is JSON."""

    def request(
        self, values: tuple[str, ...], query_string: bytes, raw: bytes, key: str | None, if_match: str | None
    ) -> Message:
        """Return the request message. Raises Invalid with all that is wrong with path, query, body and headers."""
        request = self.method.request_class()
        problems = Problems()
        self._fill_body(request, raw, problems)
        elsewhere = "Put it into the JSON body." if self.body == WHOLE else ""
        query.fill(request, query_string, self.query, elsewhere, problems)
        for path, value in zip(self.template.variables, values, strict=True):
            self._set(request, tuple(path.split(".")), value, "the path", problems)
        if key and self.method.key_field:
            self._set(request, (self.method.key_field,), key, "the header Idempotency-Key", problems)
        if if_match and if_match != "*" and self.method.access is not Access.READ:
            self._set_etag(request, if_match, problems)
        problems.refuse()
        return request

    def _fill_body(self, request: Message, raw: bytes, problems: Problems) -> None:
        if not self.body:
            if raw.strip():
                raise invalid("body", "NOT_ALLOWED", f"a {self.verb} here takes none", "Use query parameters.")
            return
        if self.raw_body:
            setattr(request, self.body, raw)
            return
        data = body.parse(raw)
        target: Message = request if self.body == WHOLE else getattr(request, self.body)
        if target is not request:
            target.SetInParent()
        body.fill(target, data, "", problems)

    def _set(self, request: Message, path: tuple[str, ...], value: str, place: str, problems: Problems) -> None:
        """Set a text field that has a place of its own; the same field elsewhere must say the same."""
        target: Any = request
        for name in path[:-1]:
            target = getattr(target, name)
        shown = ".".join(path[1:] if path[0] == self.body else path)
        if text(value, shown, problems) is REFUSED:
            return
        before = getattr(target, path[-1])
        if before and before != value:
            problems.add(shown, "CONTRADICTION", f"differs from {place}", f"Say the same, or leave it to {place}.")
        else:
            setattr(target, path[-1], value)

    def _set_etag(self, request: Message, if_match: str, problems: Problems) -> None:
        if not self.etag:
            problems.add("If-Match", "NOT_SUPPORTED", "this route cannot honour it", "Leave the header out.")
            return
        quoted = if_match if if_match.endswith('"') else f'"{if_match}"'
        self._set(request, self.etag, quoted, "the header If-Match", problems)


def bindings(method: Method) -> Iterator[Binding]:
    """Yield the routes of a method. Raises ValueError for a rule that cannot be served."""
    rule = method.descriptor.GetOptions().Extensions[annotations_pb2.http]
    for each in (rule, *rule.additional_bindings):
        verb = each.WhichOneof("pattern")
        if verb is None and method.client_streaming:
            return  # HTTP has one body a request: who sends as it goes speaks gRPC, or posts batches
        if verb not in _VERBS:
            raise ValueError(f"{method.descriptor.full_name} has no http rule that can be served")
        template = Template.parse(getattr(each, verb))
        for path in template.variables:
            field_at(method.descriptor.input_type, path)
        yield Binding(
            method=method,
            verb=verb.upper(),
            template=template,
            body=each.body,
            query=_query(method.descriptor.input_type, template, each.body),
            etag=_etag(method.descriptor.input_type, each.body),
            raw_body=_is_raw(method.descriptor.input_type, each.body),
            raw_answer=_raw_answer(method.descriptor, each.response_body),
        )


def _is_raw(message: Descriptor, name: str) -> bool:
    field = message.fields_by_name.get(name)
    return field is not None and field.type == FieldDescriptor.TYPE_BYTES and not field.is_repeated


def _raw_answer(method: MethodDescriptor, name: str) -> str:
    if name and not _is_raw(method.output_type, name):
        raise ValueError(f"{method.full_name} has no field {name} of bytes that could be the body of the answer")
    return name


def _query(request: Descriptor, template: Template, body_field: str) -> Mapping[str, Parameter]:
    if body_field == WHOLE:
        return {}
    without = {*template.variables}
    if body_field:
        field = request.fields_by_name.get(body_field)
        if _is_raw(request, body_field):
            return query.parameters(request, frozenset({*without, body_field}))
        if field is None or field.message_type is None or field.is_repeated:
            raise ValueError(f"{request.full_name} has no message field {body_field} that a body could fill")
        without.add(body_field)
    return query.parameters(request, frozenset(without))


def _etag(request: Descriptor, body_field: str) -> tuple[str, ...]:
    if "etag" in request.fields_by_name:
        return ("etag",)
    inner = request.fields_by_name.get(body_field)
    if inner is not None and inner.message_type is None:
        return ()
    return (body_field, "etag") if inner is not None and "etag" in message_type(inner).fields_by_name else ()

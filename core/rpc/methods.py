"""The method table: one row for every RPC of the contract, with its handler, scope and access.

A method without a handler, a scope or an access stops the process from starting.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any, cast

# Extensions must be registered before the first GetOptions(): options parsed without them stay without for ever.
from google.api import annotations_pb2, field_behavior_pb2  # noqa: F401 -- registers the extensions
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from core.domain.frozen import frozen
from dripstone.v1 import (
    agent_pb2,
    approval_pb2,
    audit_pb2,
    connection_pb2,
    enrollment_pb2,
    event_pb2,
    options_pb2,
    organization_pb2,
    qualification_pb2,
    record_pb2,
    webhook_pb2,
    workflow_pb2,
)

SERVICES: tuple[tuple[Any, str, str], ...] = (
    (organization_pb2, "organizations", "organizations members availability projects api_keys identity_providers"),
    (
        record_pb2,
        "records",
        "records lists merging consent record_types pipelines finding "
        "deleting reverting bulk_updates erasing duplicates exporting importing",
    ),
    (event_pb2, "events", "events event_streams sources trying quarantine"),
    (workflow_pb2, "workflows", "workflows workflow_reference workflow_statistics pausing migrating simulating"),
    (enrollment_pb2, "enrollments", "enrollments messages dead_letters explaining"),
    (qualification_pb2, "qualification", "qualification scoring_models backtesting batch_scoring routings assigning"),
    (agent_pb2, "agents", "agents agent_tasks agent_templates agent_control agent_costs"),
    (approval_pb2, "approvals", "approvals plans policies budgets approval_rounds"),
    (audit_pb2, "audit", "auditing calls usage"),
    (webhook_pb2, "webhooks", "endpoints webhooks verifying explaining_deliveries replays pulling event_types"),
    (connection_pb2, "connections", "connections connection_tests systems syncing"),
)
"""Each service's contract, its folder here, and the modules there with its handlers, named like the RPCs."""

ANY_KEY = "caller"
"""The scope of methods that ask for a valid key only."""


class Access(Enum):
    """How a method touches the store."""

    READ = options_pb2.ACCESS_READ
    WRITE = options_pb2.ACCESS_WRITE
    OUTSIDE = options_pb2.ACCESS_OUTSIDE


@frozen
class Method:
    """One RPC."""

    descriptor: MethodDescriptor
    full_name: str
    """As on the wire: `/dripstone.v1.WorkflowService/GetWorkflow`."""
    request_class: type[Message]
    response_class: type[Message]
    scope: str
    access: Access
    http_status: int
    handler: Callable[..., Any]
    streaming: bool
    """It answers with a stream."""
    client_streaming: bool
    """It takes a stream: its handler gets a `ClientStream` in place of a request."""
    key_field: str
    """The field that carries the idempotency key; empty where there is none."""

    @property
    def name(self) -> str:
        """Return the short name, such as `WorkflowService.GetWorkflow`."""
        return f"{self.descriptor.containing_service.name}.{self.descriptor.name}"


def snake_case(name: str) -> str:
    """Return `EnrollContacts` as `enroll_contacts`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def row(descriptor: MethodDescriptor, handler: Callable[..., Any]) -> Method:
    """Return the row of one RPC.

    Raises ValueError when the contract does not say its scope or access.
    """
    options = descriptor.GetOptions()
    scope = options.Extensions[options_pb2.scope]
    access = options.Extensions[options_pb2.access]
    if not scope or not access:
        raise ValueError(f"{descriptor.full_name} has no scope or no access in the contract")
    fields = descriptor.input_type.fields_by_name
    return Method(
        descriptor=descriptor,
        full_name=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
        request_class=GetMessageClass(descriptor.input_type),
        response_class=GetMessageClass(descriptor.output_type),
        scope=scope,
        access=Access(access),
        http_status=options.Extensions[options_pb2.http_status] or 200,
        handler=handler,
        streaming=descriptor.server_streaming,
        client_streaming=descriptor.client_streaming,
        key_field=next((name for name in ("request_id", "idempotency_key") if name in fields), ""),
    )


_row = cache(row)  # every core of a process has the same contract


def table() -> tuple[Method, ...]:
    """Return a row for every RPC of the contract.

    Raises AttributeError for an RPC without a handler.
    """
    rows = []
    for contract, folder, module_names in SERVICES:
        modules = [importlib.import_module(f"core.rpc.{folder}.{name}") for name in module_names.split()]
        file: FileDescriptor = contract.DESCRIPTOR
        for service in file.services_by_name.values():
            for descriptor in service.methods:
                rows.append(_row(descriptor, _handler(modules, snake_case(descriptor.name))))
    return tuple(rows)


def _handler(modules: Sequence[ModuleType], name: str) -> Callable[..., Any]:
    """Return the function of this name, where it is defined and not merely imported."""
    for module in modules:
        found = getattr(module, name, None)
        if found is not None and found.__module__ == module.__name__:
            return cast(Callable[..., Any], found)
    raise AttributeError(f"none of {', '.join(module.__name__ for module in modules)} handles {name}")

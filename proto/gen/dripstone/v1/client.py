"""The typed asyncio client of `dripstone.v1`: one channel, a stub per service, safe retries, readable errors.

    async with Client("127.0.0.1:50051", api_key) as client:
        workflows = await client.workflows.ListWorkflows(ListWorkflowsRequest())

Written by hand; it lives beside the generated code so that `dripstone.v1` is all that a program imports.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import grpc
from google.protobuf import descriptor_pool

from dripstone.v1 import (
    agent_pb2_grpc,
    approval_pb2_grpc,
    audit_pb2_grpc,
    connection_pb2_grpc,
    enrollment_pb2_grpc,
    event_pb2_grpc,
    options_pb2,
    organization_pb2_grpc,
    qualification_pb2_grpc,
    record_pb2_grpc,
    webhook_pb2_grpc,
    workflow_pb2_grpc,
)
from dripstone.v1.door import Door, Metadata, id_field_of, sending
from dripstone.v1.errors import ApiError, FieldViolation

__all__ = [
    "ApiError", "Client", "Connection", "FieldViolation", "NotConnected", "find_connection", "from_environment",
    "is_loopback", "replayed", "sending", "service_config", "tls_for",
]  # fmt: skip

if TYPE_CHECKING:
    from dripstone.v1.agent_pb2_grpc import AgentServiceAsyncStub
    from dripstone.v1.approval_pb2_grpc import ApprovalServiceAsyncStub
    from dripstone.v1.audit_pb2_grpc import AuditServiceAsyncStub
    from dripstone.v1.connection_pb2_grpc import ConnectionServiceAsyncStub
    from dripstone.v1.enrollment_pb2_grpc import EnrollmentServiceAsyncStub
    from dripstone.v1.event_pb2_grpc import EventServiceAsyncStub
    from dripstone.v1.organization_pb2_grpc import OrganizationServiceAsyncStub
    from dripstone.v1.qualification_pb2_grpc import QualificationServiceAsyncStub
    from dripstone.v1.record_pb2_grpc import RecordServiceAsyncStub
    from dripstone.v1.webhook_pb2_grpc import WebhookServiceAsyncStub
    from dripstone.v1.workflow_pb2_grpc import WorkflowServiceAsyncStub

DEADLINE = 10.0
"""Seconds that a call may take when the caller does not say; retries included."""

REPLAYED = "dripstone-replayed"
"""Trailing metadata of an answer that was stored earlier under the same request id."""

_FILES = "agent approval audit connection enrollment event organization qualification record webhook workflow".split()
_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_RECEIVE_BYTES = 32 * 1024 * 1024


class Client:
    """A connection to a Dripstone core that speaks for one API key."""

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        api_key: str | None,
        *,
        tls: bool | bytes | None = None,
        deadline: float = DEADLINE,
        metadata: Metadata = (),
    ) -> None:
        """Describe the connection; entering the context opens it.

        `target` is an address, or a channel that is open already and that whoever opened it closes.
        `tls` is None for plaintext (loopback only, unless DRIPSTONE_INSECURE=1), True for the system's root
        certificates, or root certificates as PEM. `deadline` is in seconds. `metadata` goes with every call, such as
        `(("x-on-behalf-of", "mem_…"),)` for the audit log. Raises ValueError for plaintext beyond.
        """
        self._given = None if isinstance(target, str) else target
        self.target = target if isinstance(target, str) else "a given channel"
        leaves = self._given is None and not is_loopback(self.target)
        if leaves and not tls and os.environ.get("DRIPSTONE_INSECURE") != "1":
            raise ValueError(
                f"{self.target} is not a loopback address: pass tls=True or root certificates, "
                "or set DRIPSTONE_INSECURE=1 to send the API key unencrypted"
            )
        self.deadline = deadline
        self._api_key = api_key
        self._metadata = tuple(metadata)
        self._reads_only = False
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None

    def __repr__(self) -> str:
        return f"Client({self.target!r}, api_key={'<redacted>' if self._api_key else None}, deadline={self.deadline})"

    async def __aenter__(self) -> Self:
        if self._given is not None:
            self._channel = self._given
            return self
        options = (
            ("grpc.service_config", service_config()),
            ("grpc.enable_retries", 1),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.max_receive_message_length", _RECEIVE_BYTES),
            ("grpc.primary_user_agent", "dripstone-python"),
        )
        if self._tls:
            roots = self._tls if isinstance(self._tls, bytes) else None
            self._channel = grpc.aio.secure_channel(self.target, grpc.ssl_channel_credentials(roots), options=options)
        else:
            self._channel = grpc.aio.insecure_channel(self.target, options=options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        channel, self._channel = self._channel, None
        if channel is not None and channel is not self._given:
            await channel.close(grace=1.0)

    def with_key(self, api_key: str | None) -> Client:
        """Return a client that speaks for another key over this one's channel, which this one keeps and closes."""
        other = Client.__new__(Client)
        other.target, other.deadline, other._tls, other._given = self.target, self.deadline, self._tls, self._given
        other._api_key, other._channel, other._metadata = api_key, self._opened, self._metadata
        other._reads_only = self._reads_only
        return other

    def reading(self) -> Client:
        """Return a client with the same key over the same channel that refuses, unsent, every method but reads."""
        other = self.with_key(self._api_key)
        other._reads_only = True
        return other

    @cached_property
    def workflows(self) -> WorkflowServiceAsyncStub:
        """Workflow authoring and publishing."""
        return workflow_pb2_grpc.WorkflowServiceStub(self._door)

    @cached_property
    def enrollments(self) -> EnrollmentServiceAsyncStub:
        """Enrolling contacts and following them."""
        return enrollment_pb2_grpc.EnrollmentServiceStub(self._door)

    @cached_property
    def records(self) -> RecordServiceAsyncStub:
        """CRM records."""
        return record_pb2_grpc.RecordServiceStub(self._door)

    @cached_property
    def events(self) -> EventServiceAsyncStub:
        """Events and their sources."""
        return event_pb2_grpc.EventServiceStub(self._door)

    @cached_property
    def qualification(self) -> QualificationServiceAsyncStub:
        """Scoring models and qualification."""
        return qualification_pb2_grpc.QualificationServiceStub(self._door)

    @cached_property
    def agents(self) -> AgentServiceAsyncStub:
        """Agents and executions."""
        return agent_pb2_grpc.AgentServiceStub(self._door)

    @cached_property
    def approvals(self) -> ApprovalServiceAsyncStub:
        """Approvals."""
        return approval_pb2_grpc.ApprovalServiceStub(self._door)

    @cached_property
    def webhooks(self) -> WebhookServiceAsyncStub:
        """Outbound webhooks."""
        return webhook_pb2_grpc.WebhookServiceStub(self._door)

    @cached_property
    def audit(self) -> AuditServiceAsyncStub:
        """The audit log, use and cost."""
        return audit_pb2_grpc.AuditServiceStub(self._door)

    @cached_property
    def connections(self) -> ConnectionServiceAsyncStub:
        """Connections that carry messages."""
        return connection_pb2_grpc.ConnectionServiceStub(self._door)

    @cached_property
    def organization(self) -> OrganizationServiceAsyncStub:
        """Organizations, members and API keys."""
        return organization_pb2_grpc.OrganizationServiceStub(self._door)

    def error(self, error: grpc.aio.AioRpcError) -> ApiError:
        """Return what a failed call was told, with reason, violations and the way out."""
        return ApiError.of(error)

    @property
    def _opened(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the client is not open; use it as `async with Client(…) as client`")
        return self._channel

    @cached_property
    def _door(self) -> grpc.aio.Channel:
        door = Door(self._opened, self._api_key, self.deadline, self._metadata, reads_only=self._reads_only)
        return cast(grpc.aio.Channel, door)


async def replayed(call: grpc.aio.Call) -> bool:
    """Tell whether a finished call was answered from the store instead of acting again."""
    return any(name == REPLAYED and value in ("true", "1") for name, value in await call.trailing_metadata() or ())


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a running core, as its `connection.json` says."""

    grpc: str
    """Target of the gRPC server, such as `127.0.0.1:50051`."""
    api_key: str = field(repr=False)
    http: str = ""
    """Base address of the HTTP gateway."""
    mcp: str = ""
    """Address of the MCP endpoint."""
    agent_key: str = field(default="", repr=False)
    """Key of an AI agent, where the core made one."""
    approver_api_key: str = field(default="", repr=False)
    """Key of a second principal, where the core made one for trying approvals."""


class NotConnected(LookupError):
    """Nothing says how to reach a core."""


def find_connection(environment: Mapping[str, str] | None = None) -> Connection | None:
    """Return what the nearest `connection.json` says; None when there is none.

    Looks in $DRIPSTONE_DATA_DIR alone when it is set, else in ./.dripstone and in the user's data directory.
    """
    environment = os.environ if environment is None else environment
    if data_dir := environment.get("DRIPSTONE_DATA_DIR"):
        folders = [Path(data_dir)]
    else:
        home = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
        folders = [Path(".dripstone"), Path(home) / "dripstone"]
    for folder in folders:
        path = folder / "connection.json"
        try:
            with path.open() as file:
                if not _is_mine(file.fileno()):
                    raise NotConnected(f"{path} belongs to somebody else, or others may write it")
                found = json.load(file)
            return Connection(**{name: found[name] for name in Connection.__slots__ if name in found})
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError) as error:
            raise NotConnected(f"{path} cannot be read: {type(error).__name__}") from error
    return None


def _is_mine(descriptor: int) -> bool:
    if not hasattr(os, "geteuid"):  # where modes say nothing
        return True
    told = os.fstat(descriptor)
    return told.st_uid == os.geteuid() and not told.st_mode & 0o022


def from_environment(*, deadline: float = DEADLINE) -> Client:
    """Return a client for DRIPSTONE_TARGET and DRIPSTONE_API_KEY, else for the nearest `connection.json`.

    Beyond loopback it uses TLS with the system's roots, or those in the file DRIPSTONE_CA_FILE; DRIPSTONE_INSECURE=1
    asks for plaintext. A stored key is sent only to the core it was stored with. Raises NotConnected.
    """
    target, api_key = os.environ.get("DRIPSTONE_TARGET", ""), os.environ.get("DRIPSTONE_API_KEY", "")
    if not (target and api_key) and (found := find_connection()):
        if not target:  # a key goes where a file in this folder leads only if somebody named the folder
            target = found.grpc
            api_key = (api_key if os.environ.get("DRIPSTONE_DATA_DIR") else "") or found.api_key
        elif target == found.grpc:
            api_key = found.api_key
    if not target:
        raise NotConnected("no core found: set DRIPSTONE_TARGET and DRIPSTONE_API_KEY, or start `dripstone serve`")
    if not api_key:
        raise NotConnected(f"no API key for {target}: set DRIPSTONE_API_KEY")
    return Client(target, api_key, tls=tls_for(target), deadline=deadline)


def tls_for(target: str) -> bool | bytes | None:
    """Return the `tls` of a Client for this target, as the environment says; see from_environment."""
    if is_loopback(target) or os.environ.get("DRIPSTONE_INSECURE") == "1":
        return None
    roots = os.environ.get("DRIPSTONE_CA_FILE")
    return Path(roots).read_bytes() if roots else True


def is_loopback(target: str) -> bool:
    """Tell whether a gRPC target stays on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = target.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("///")
    if "/" in address or "@" in address:  # another server would say where the name leads, or the name is not the host
        return False
    host = address.rpartition(":")[0].strip("[]") or address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def service_config() -> str:
    """Return gRPC's service config: retry what is unavailable, but only methods that cannot act twice."""
    pool = descriptor_pool.Default()
    files = [pool.FindFileByName(f"dripstone/v1/{name}.proto") for name in _FILES]
    services = [service for file in files for service in file.services_by_name.values()]
    methods = [(service.full_name, method) for service in services for method in service.methods]
    safe = [{"service": service, "method": method.name} for service, method in methods if _repeatable(method)]
    return json.dumps({"methodConfig": [{"name": safe, "retryPolicy": _RETRY}]})


def _repeatable(method: Any) -> bool:
    access = method.GetOptions().Extensions[options_pb2.access]
    return access == options_pb2.ACCESS_READ or bool(id_field_of(method))

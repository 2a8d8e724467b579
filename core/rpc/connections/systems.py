"""Handlers of ConnectionService for credentials of systems of record, and the check that they work."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row

from core.delivery.systems.client import Limited, Property, Refused, System, Uncertain
from core.delivery.systems.opening import Opener
from core.domain.connections.call import NotRendered
from core.domain.errors import Invalid, NotFound, Violation, WrongConnectionKind
from core.domain.nearest import did_you_mean
from core.domain.systems.settings import SystemSettings, TypeMapping
from core.domain.webhooks import urls
from core.rpc.call import Call
from core.rpc.connections import system_connections
from core.store.systems import connections, credentials, vault
from core.store.systems.master_keys import NoMasterKeys
from core.store.transaction import Transaction
from dripstone.v1 import connection_pb2 as pb
from dripstone.v1 import system_pb2, workflow_pb2

_VISIBLE = re.compile(r"[\x20-\x7e]*")


async def set_credentials(request: system_pb2.SetCredentialsRequest, call: Call) -> pb.Connection:
    """Seal and store credentials in place of those that were there. Raises Invalid and MasterKeyMissing."""
    row = await system_of(call.tx, request.connection_id, lock=True)
    given = request.credentials
    violations = [*_problems(given, connections.system(row))]
    token_url = ""
    if given.token_url:
        try:
            destinations = call.parts.webhook_sender.destinations
            token_url = urls.parse(given.token_url, destinations, "credentials.token_url")
        except Invalid as error:
            violations += error.violations
    if violations:
        raise Invalid(*violations)
    stored = {
        "token": given.token,
        "client_id": given.client_id,
        "client_secret": given.client_secret,
        "refresh_token": given.refresh_token,
        "token_url": token_url,
    }
    try:
        keys = _opener(call).keys.all()
    except NoMasterKeys as error:
        raise vault.missing(error) from None
    await credentials.put(call.tx, keys, row.id, stored)
    return await system_connections.told(await connections.change(call.tx, row.id, {}), call)


async def check_connection(
    request: system_pb2.CheckConnectionRequest, call: Call
) -> system_pb2.CheckConnectionResponse:
    """Sign in, and compare the mapping with what the system has; nothing is changed there or here."""
    parts = call.parts
    answer = system_pb2.CheckConnectionResponse()
    async with parts.database.read(call.caller.org_id) as tx:
        row = await system_of(tx, request.connection_id)
        settings = connections.system(row)
        try:
            system = await _opener(call).open(tx, row, call.now)
        except Refused as refused:
            answer.problems.append(_problem("credentials", "NO_CREDENTIALS", refused.why, refused.hint))
            return answer
    try:
        account = await system.account()
        answer.account, answer.rate_limit_left = account.name, account.calls_left
        answer.problems.extend([problem async for problem in _misfits(system, settings)])
    except Refused as refused:
        answer.problems.append(_problem("credentials", "REFUSED", refused.why, refused.hint))
    except Limited as limited:
        hint = f"Try again in {limited.seconds:.0f} seconds."
        answer.problems.append(_problem("system", "LIMITED", limited.why, hint))
    except (Uncertain, NotRendered) as error:
        answer.problems.append(_problem("system", "NO_ANSWER", str(error), "Check the address, and try again."))
    answer.ok = not answer.problems
    return answer


async def system_of(tx: Transaction, connection_id: str, *, lock: bool = False) -> Row[Any]:
    """Return a connection to a system of record. Raises NotFound and WrongConnectionKind."""
    row = await connections.get(tx, connection_id, lock=lock)
    if row is None:
        raise NotFound(kind="connection", id=connection_id)
    if row.kind != connections.SYSTEM:
        raise WrongConnectionKind(connection_id=row.id, kind=row.kind, wanted=connections.SYSTEM)
    return row


def _problems(given: system_pb2.Credentials, settings: SystemSettings) -> Iterator[Violation]:
    for name in ("token", "client_id", "client_secret", "refresh_token"):
        if not _VISIBLE.fullmatch(getattr(given, name)) or (name == "token" and " " in given.token):
            hint = "Leave out line breaks and what is not ASCII; often one slips in when a secret is copied."
            yield Violation(f"credentials.{name}", "MALFORMED", "has characters that no credential has", hint)
    if given.token:
        for name in ("client_id", "client_secret", "refresh_token", "token_url"):
            if getattr(given, name):
                hint = "Send a token, or a client with its secret."
                yield Violation(f"credentials.{name}", "NOT_APPLICABLE", "does not go with a token", hint)
        return
    for name in ("client_id", "client_secret"):
        if not getattr(given, name):
            hint = "Send a token, or a client with its secret."
            yield Violation(f"credentials.{name}", "REQUIRED", "is required where there is no token", hint)
    if settings.system == "hubspot" and not given.refresh_token:
        hint = "Send the refresh token of the installation, or the token of a private app."
        yield Violation("credentials.refresh_token", "REQUIRED", "HubSpot grants tokens for a refresh token only", hint)


async def _misfits(system: System, settings: SystemSettings) -> Any:
    """Yield what of the mapping the system does not have, or does not let be written."""
    for number, mapping in enumerate(settings.mappings):
        at = f"mappings[{number}]"
        try:
            there = await system.properties(mapping)
        except Refused as refused:
            yield _problem(f"{at}.object", "OBJECT_UNKNOWN", refused.why, refused.hint)
            continue
        for problem in _mapping_misfits(mapping, there, at) if there is not None else ():
            yield problem


def _mapping_misfits(mapping: TypeMapping, there: Mapping[str, Property], at: str) -> Iterator[workflow_pb2.Problem]:
    unique = mapping.unique_property
    if unique and unique not in there:
        hint = did_you_mean(unique, list(there), "Create it there as a property with unique values.")
        yield _problem(f"{at}.unique_property", "PROPERTY_UNKNOWN", f"{mapping.object} has no {unique}", hint)
    elif unique and not there[unique].unique:
        hint = "Name one that has: what is pushed twice must be one record there."
        yield _problem(f"{at}.unique_property", "PROPERTY_NOT_UNIQUE", f"{unique} has no unique values", hint)
    for number, one in enumerate(mapping.fields):
        where = f"{at}.fields[{number}].property"
        if one.property not in there:
            hint = did_you_mean(one.property, list(there), "Create it there, or map another.")
            yield _problem(where, "PROPERTY_UNKNOWN", f"{mapping.object} has no {one.property}", hint)
        elif one.goes("push") and not there[one.property].writable:
            hint = "Map it with direction pull."
            yield _problem(where, "PROPERTY_READ_ONLY", f"{one.property} cannot be written", hint)


def _problem(path: str, reason: str, message: str, hint: str) -> workflow_pb2.Problem:
    return workflow_pb2.Problem(path=path, reason=reason, message=message, hint=hint)


def _opener(call: Call) -> Opener:
    opener = call.parts.systems
    assert opener is not None, "whoever serves calls opens systems"
    return opener

"""Which cause a caller means: as changes name it, or a call of their own by its idempotency key."""

from __future__ import annotations

from core.domain import names
from core.domain.errors import NotFound
from core.rpc.call import Call
from core.store import idempotency

_CALL = "call:"
_OF_ENGINE = "enrollment:"
"""How the place of an id begins where a workflow did it in the engine's own call."""


class NoSuchCall(NotFound):
    """No call of yours is kept under the idempotency key {id}."""

    hint = "Keys are kept for a week, each for who sent it. A record's history names the cause of every change."


async def meant(call: Call, cause: str) -> str:
    """Return a cause as changes carry it.

    A key says nothing of whose it is, so `call:<key>` is the caller's own call, or none. Raises NoSuchCall.
    """
    given = cause.removeprefix(_CALL)
    if given == cause:
        return cause
    row = await idempotency.find(call.tx, call.caller.principal_id, given)
    if row is not None:
        return f"{_CALL}{row.call_id}"
    call_id = given.partition(" (")[0]  # a reason may stand behind it
    if names.minted_prefix(call_id) != "req" and not given.startswith(_OF_ENGINE):
        raise NoSuchCall(kind="change", id=given)
    return cause

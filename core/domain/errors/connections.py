"""What is refused around connections and systems of record."""

from __future__ import annotations

from core.domain.errors.base import Code, DripstoneError


class ChannelTaken(DripstoneError):
    """The connection {connection_id} carries the channel {channel} already; a channel has one active connection."""

    code = Code.ALREADY_EXISTS
    reason = "CHANNEL_TAKEN"
    hint = "Pause or delete {connection_id} first, change it instead, or create this one paused."


class TooManyConnections(DripstoneError):
    """The organization has {limit} connections, which is the most it can have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_CONNECTIONS"
    hint = "Delete a connection that is no longer used."


class WrongConnectionKind(DripstoneError):
    """The connection {connection_id} is of kind {kind}; this asks for one of kind {wanted}."""

    code = Code.FAILED_PRECONDITION
    reason = "WRONG_CONNECTION_KIND"
    hint = "List the connections: each says its kind."


class NoCredentials(DripstoneError):
    """The connection {connection_id} has no credentials."""

    code = Code.FAILED_PRECONDITION
    reason = "NO_CREDENTIALS"
    hint = "Set them with SetCredentials, then see with CheckConnection whether they work."


class MasterKeyMissing(DripstoneError):
    """The secret cannot be sealed or opened with the master keys of this process: {why}."""

    code = Code.FAILED_PRECONDITION
    reason = "MASTER_KEY_MISSING"
    hint = "Give it the deployment's master key, $DRIPSTONE_MASTER_KEY or --master-key-file, or set the secret anew."


class SyncUnderWay(DripstoneError):
    """The connection {connection_id} has a sync under way, {sync_id}."""

    code = Code.FAILED_PRECONDITION
    reason = "SYNC_UNDER_WAY"
    hint = "Wait until {sync_id} has ended, or stop it with CancelSync."

"""No id of the contract slips past approvals: an approval is bound to what a call names, or it is said why not."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from core.rpc import methods
from core.rpc.admission import permission, referred

NOT_BOUND = {
    "request_id": "a key of the call",
    "approval_id": "an approval is for one thing, and a decision may name its hash",
    "assignment_id": "an offer stays as it was made",
    "contact_id": "consent and samples are set whatever else is known of a contact",
    "delivery_id": "a delivery sends what it was made with",
    "duplicate_id": "dismissing it changes no record",
    "enrollment_id": "it ends or is forgotten wherever it stands",
    "execution_id": "it is cancelled, or its cost noted, wherever it stands",
    "replay_id": "steering it changes no choice of it",
    "step_id": "a name within an execution",
    "suppression_id": "an entry is there or not",
    "sync_id": "it is cancelled wherever it stands",
    "task_id": "a lease says who may answer",
    "external_ref_id": "the values before are bound",
}
"""Ids to whose subjects an approval is not bound, and why."""

NOT_NOUNS = {
    *("api_key.agent_id", "api_key.principal_id", "budget.principal_id", "credentials.client_id"),
    *("mapping.message_id", "mapping.person_id", "template.scoring_model_id", "template.workflow_id"),
    *(f"event.{name}_id" for name in ("event", "ga_client", "message", "person", "source")),
}
"""Ids within parts of requests that only say what is written or whose it is."""


def _ids(descriptor: Descriptor) -> set[str]:
    """Return the ids that a request names one by one; lists of them say all, and what they reach is counted."""
    found = set()
    for one in descriptor.fields:
        if one.is_repeated:
            continue
        if one.type == FieldDescriptor.TYPE_STRING and one.name.endswith("_id"):
            found.add(one.name)
        elif one.message_type is not None and one.message_type.full_name.startswith("dripstone."):
            inner = {f.name for f in one.message_type.fields if f.type == f.TYPE_STRING and not f.is_repeated}
            found |= {f"{one.name}.{name}" for name in inner if name.endswith("_id")}
            found |= {f"{one.name}_id"} if "id" in inner else set()
    return found


def test_every_id_of_a_writing_request_is_bound_or_says_why_not() -> None:
    named = {
        name for method in methods.table() if permission.concerns(method) for name in _ids(method.descriptor.input_type)
    }
    assert named - referred.BOUND == NOT_BOUND.keys() | NOT_NOUNS

"""Makes a database ready to be measured: organizations, workflows, and one enrollment of each kind to copy.

Everything here goes through the API, so that the copies are what the product itself would have written. The model is
moved once and its trace is looked at: the bench must carry out the steps that it counts.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from core import provisioning
from core.clock import ManualClock
from core.domain.names import minted_at
from core.store.metadata import to_micros
from dripstone.v1 import enrollment_pb2, event_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.bench import workload
from tests.running import RunningCore, running

_MOVED = ["pause", "size", "mark", "note", "pause"]


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Make the database at `url` ready; return the `models` by name, to be cloned."""
    clock = ManualClock(workload.START - timedelta(hours=1))
    async with running(spec["url"], Path(spec["folder"]), clock, requests_per_second=1e9) as core:
        small = await provisioning.create_organization(core.core.database, "Small")
        big_model = await _model(core, core.api_key, "nurture", workload.NURTURE)
        small_model = await _model(core, small.api_key, "nurture", workload.NURTURE)
        async with core.client() as client:
            await client.events.CreateSource(
                event_pb2.CreateSourceRequest(
                    source_id=workload.SOURCE_ID, display_name="Bench", kind=event_pb2.SOURCE_KIND_WEBHOOK
                )
            )
        await core.pass_time(timedelta(hours=1))
        await _check(core, big_model)
        listen_model = await _model(core, core.api_key, "listen", workload.LISTEN)
        await core.settle()
        due = to_micros(workload.START + timedelta(hours=1))
        return {
            "models": {
                "big": {"org": core.organization.org_id, "due": due, **big_model},
                "small": {"org": small.org_id, "due": due, **small_model},
                "listen": {"org": core.organization.org_id, "due": None, **listen_model},
            }
        }


async def _model(core: RunningCore, key: str, workflow_id: str, source: str) -> dict[str, Any]:
    async with Client(core.grpc_target, key) as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id=workflow_id, source=source, publish=True)
        )
        email = workload.email("model-", workflow_id)
        contact = enrollment_pb2.ContactInput(email=email, first_name="Ada", company_name="Acme Ltd")
        contact.fields.update({"employees": 25, "country": "DE"})
        answer = await client.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(workflow_id=workflow_id, contacts=[contact])
        )
        (result,) = answer.results
        assert result.outcome == enrollment_pb2.ENROLL_OUTCOME_ENROLLED, result
        assert minted_at(result.enrollment_id)
        return {"enrollment": result.enrollment_id, "contact": result.contact_id, "email": email}


async def _check(core: RunningCore, model: dict[str, Any]) -> None:
    """Refuse to measure anything but the steps that are counted."""
    async with core.client() as client:
        trace = await client.enrollments.ListTraceEntries(
            enrollment_pb2.ListTraceEntriesRequest(enrollment_id=model["enrollment"])
        )
    moved = [entry.step_id for entry in trace.entries if entry.time.ToMicroseconds() == to_micros(core.clock.now())]
    if moved != _MOVED:
        raise AssertionError(f"a move should go through {_MOVED}, but went through {moved}")

"""A core with stand-ins of outside systems beside it, on one hand-turned clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from core.fakes import hubspot, salesforce
from core.fakes.hubspot import HubSpotFake
from core.fakes.salesforce import SalesforceFake
from core.fakes.serving import serving
from dripstone.v1 import connection_pb2, record_pb2, system_pb2
from dripstone.v1.client import Client
from tests.running import RunningCore

HUBSPOT_FIELDS = {
    "email": "email",
    "first_name": "firstname",
    "last_name": "lastname",
    "job_title": "jobtitle",
    "employees": "numemployees",
}
SALESFORCE_FIELDS = {
    "email": "Email",
    "first_name": "FirstName",
    "last_name": "LastName",
    "company_name": "Company",
    "employees": "NumberOfEmployees",
}
PULL, PUSH, BOTH = (
    system_pb2.SYNC_DIRECTION_PULL,
    system_pb2.SYNC_DIRECTION_PUSH,
    system_pb2.SYNC_DIRECTION_BOTH,
)


def mapping(fields: dict[str, str], obj: str, unique: str, **rules: Any) -> system_pb2.TypeMapping:
    """Return how contacts correspond to an object there."""
    made = system_pb2.TypeMapping(type="contact", object=obj, unique_property=unique)
    for field, name in fields.items():
        made.fields.add(field=field, property=name, conflict=rules.get(field, 0))
    return made


class Linked:
    """A core and a connection to a stand-in."""

    def __init__(self, core: RunningCore, client: Client, fake: Any, url: str):
        self.core, self.client, self.fake, self.url = core, client, fake, url
        self.connection = connection_pb2.Connection()

    async def connect(
        self, system: connection_pb2.SystemSettings, credentials: system_pb2.Credentials | None = None
    ) -> None:
        """Create the connection and set its credentials."""
        given = connection_pb2.Connection(display_name="CRM", kind="system", system=system)
        self.connection = await self.client.connections.CreateConnection(
            connection_pb2.CreateConnectionRequest(connection=given)
        )
        if credentials is not None:
            self.connection = await self.client.connections.SetCredentials(
                system_pb2.SetCredentialsRequest(connection_id=self.connection.id, credentials=credentials)
            )

    async def begin(self, direction: int, **more: Any) -> system_pb2.Sync:
        """Start a sync."""
        return await self.client.connections.StartSync(
            system_pb2.StartSyncRequest(connection_id=self.connection.id, direction=direction, **more)  # type: ignore[arg-type]
        )

    async def sync(self, direction: int, **more: Any) -> system_pb2.Sync:
        """Start a sync, carry it on as far as it goes now, and return it."""
        begun = await self.begin(direction, **more)
        await self.core.settle()
        return await self.get(begun.id)

    async def get(self, sync_id: str) -> system_pb2.Sync:
        """Return a sync as it is now."""
        return await self.client.connections.GetSync(system_pb2.GetSyncRequest(sync_id=sync_id))

    async def items(self, sync: system_pb2.Sync) -> list[system_pb2.SyncItem]:
        """Return what became of records."""
        request = system_pb2.ListSyncItemsRequest(sync_id=sync.id, page_size=500)
        return list((await self.client.connections.ListSyncItems(request)).items)

    async def upsert(self, **fields: Any) -> record_pb2.Record:
        """Make or change a contact here."""
        request = record_pb2.UpsertRecordRequest(type="contact")
        request.fields.update(fields)
        return (await self.client.records.UpsertRecord(request)).record

    async def contacts(self) -> list[record_pb2.Record]:
        """Return every contact here."""
        listed = await self.client.records.ListRecords(record_pb2.ListRecordsRequest(type="contact", page_size=500))
        return list(listed.records)

    def there(self, name: str) -> Sequence[dict[str, Any]]:
        """Return every record there."""
        return list(self.fake.stored()[name])


@asynccontextmanager
async def linked_to_hubspot(core: RunningCore, unique: str = "email", **more: Any) -> AsyncIterator[Linked]:
    """Run a stand-in for HubSpot and link contacts with its own."""
    fake = HubSpotFake(core.clock)
    rules = more.pop("rules", {})
    async with serving(fake.application()) as url, core.client() as client:
        linked = Linked(core, client, fake, url)
        system = connection_pb2.SystemSettings(
            system="hubspot", base_url=url, mappings=[mapping(HUBSPOT_FIELDS, "contacts", unique, **rules)], **more
        )
        await linked.connect(system, system_pb2.Credentials(token=hubspot.PRIVATE_TOKEN))
        yield linked


@asynccontextmanager
async def linked_to_salesforce(core: RunningCore, **more: Any) -> AsyncIterator[Linked]:
    """Run a stand-in for Salesforce and link contacts with its leads."""
    fake = SalesforceFake(core.clock)
    async with serving(fake.application()) as url, core.client() as client:
        linked = Linked(core, client, fake, url)
        system = connection_pb2.SystemSettings(
            system="salesforce",
            base_url=url,
            mappings=[mapping(SALESFORCE_FIELDS, "Lead", "Dripstone_Id__c")],
            **more,
        )
        client_id, secret, refresh = salesforce.CLIENT
        await linked.connect(
            system, system_pb2.Credentials(client_id=client_id, client_secret=secret, refresh_token=refresh)
        )
        yield linked

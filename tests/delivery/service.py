"""WebhookService as a caller meets it: handlers called as the pipeline does; what goes outside has no transaction."""

from __future__ import annotations

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from core.rpc.webhooks import endpoints, verifying, webhooks
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.calling import Calls
from tests.delivery.conftest import ORG


class Service(Calls):
    """Calls handlers of WebhookService."""

    async def outside(self, handler: Any, request: Any, org: str = ORG) -> Any:
        """Call a handler that opens its own transactions."""
        return await handler(request, self.call(org))

    async def create(self, url: str = "", **values: Any) -> pb.CreateEndpointResponse:
        return await self(endpoints.create_endpoint, pb.CreateEndpointRequest(url=url, **values))

    async def endpoint(self, endpoint_id: str, org: str = ORG) -> pb.Endpoint:
        return await self(endpoints.get_endpoint, pb.GetEndpointRequest(endpoint_id=endpoint_id), org)

    async def update(self, endpoint: pb.Endpoint, *paths: str, org: str = ORG) -> pb.Endpoint:
        request = pb.UpdateEndpointRequest(endpoint=endpoint, update_mask=FieldMask(paths=paths))
        return await self(endpoints.update_endpoint, request, org)

    async def test(self, endpoint_id: str, org: str = ORG) -> pb.TestEndpointResponse:
        return await self.outside(verifying.test_endpoint, pb.TestEndpointRequest(endpoint_id=endpoint_id), org)

    async def verify(self, endpoint_id: str, proof: Any = 0, org: str = ORG) -> pb.VerifyEndpointResponse:
        request = pb.VerifyEndpointRequest(endpoint_id=endpoint_id, proof=proof)
        return await self.outside(verifying.verify_endpoint, request, org)

    async def deliveries(self, **values: Any) -> Any:
        return (await self(webhooks.list_deliveries, pb.ListDeliveriesRequest(**values))).deliveries

    async def delivery(self, delivery_id: str) -> pb.Delivery:
        return await self(webhooks.get_delivery, pb.GetDeliveryRequest(delivery_id=delivery_id))

    async def redeliver(self, delivery_id: str) -> pb.Delivery:
        return await self(webhooks.redeliver, pb.RedeliverRequest(delivery_id=delivery_id))


def reasons(caught: Any) -> list[tuple[str, str]]:
    """Return where and why a request was refused."""
    return [(violation.field, violation.reason) for violation in caught.value.violations]

"""What is stored of messages has no secret in it, however deep it stands."""

from __future__ import annotations

from core.rpc.admission.fingerprint import for_deciders, without_secrets
from dripstone.v1 import connection_pb2, system_pb2, webhook_pb2


def test_secrets_leave_at_any_depth_and_the_message_itself_stays_whole() -> None:
    credentials = system_pb2.Credentials(token="pat-1", client_id="one", client_secret="two", refresh_token="three")
    request = system_pb2.SetCredentialsRequest(connection_id="con_1", credentials=credentials)
    stored = without_secrets(request)
    assert stored == system_pb2.SetCredentialsRequest(connection_id="con_1", credentials={"client_id": "one"})
    assert request.credentials == credentials
    endpoint = webhook_pb2.Endpoint(url="https://example.com/", headers={"X-Api-Key": "of-another-system"})
    assert without_secrets(endpoint) == endpoint  # who repeats a call is given the first answer
    assert dict(for_deciders(endpoint).headers) == {"X-Api-Key": "(not shown)"}  # type: ignore[attr-defined]
    page = connection_pb2.ListConnectionsResponse()
    page.connections.add(id="con_1").call.auth.bearer.token = "secret"
    assert b"secret" not in without_secrets(page).SerializeToString()

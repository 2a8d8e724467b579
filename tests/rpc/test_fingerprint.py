"""What is stored of messages has no secret in it, however deep it stands."""

from __future__ import annotations

from core.rpc.admission.fingerprint import without_secrets
from dripstone.v1 import connection_pb2, system_pb2


def test_secrets_leave_at_any_depth_and_the_message_itself_stays_whole() -> None:
    credentials = system_pb2.Credentials(token="pat-1", client_id="one", client_secret="two", refresh_token="three")
    request = system_pb2.SetCredentialsRequest(connection_id="con_1", credentials=credentials)
    stored = without_secrets(request)
    assert stored == system_pb2.SetCredentialsRequest(connection_id="con_1", credentials={"client_id": "one"})
    assert request.credentials == credentials
    page = connection_pb2.ListConnectionsResponse()
    page.connections.add(id="con_1").call.auth.bearer.token = "secret"
    assert b"secret" not in without_secrets(page).SerializeToString()

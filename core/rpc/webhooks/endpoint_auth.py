"""How requests authenticate, between the contract's message and the domain; secrets go in and never come out."""

from __future__ import annotations

from core.domain.webhooks.authentication import Authentication, Basic, Bearer, ClientCertificate, OAuth2
from dripstone.v1 import webhook_pb2 as pb


def from_message(message: pb.EndpointAuth) -> Authentication | None:
    """Return what a message says, as it stands; None for no way at all."""
    match message.WhichOneof("scheme"):
        case "basic":
            return Basic(message.basic.username, message.basic.password)
        case "bearer":
            return Bearer(message.bearer.token)
        case "oauth2":
            given = message.oauth2
            return OAuth2(given.token_url, given.client_id, given.client_secret, given.scope, given.audience)
        case "mtls":
            return ClientCertificate(message.mtls.certificate, message.mtls.private_key)
        case _:
            return None


def to_message(auth: Authentication | None) -> pb.EndpointAuth | None:
    """Return a message without what is secret; None for no way at all."""
    match auth:
        case Basic():
            return pb.EndpointAuth(basic=pb.BasicAuth(username=auth.username))
        case Bearer():
            return pb.EndpointAuth(bearer=pb.BearerAuth())
        case OAuth2():
            shown = pb.OAuth2Auth(
                token_url=auth.token_url, client_id=auth.client_id, scope=auth.scope, audience=auth.audience
            )
            return pb.EndpointAuth(oauth2=shown)
        case ClientCertificate():
            return pb.EndpointAuth(mtls=pb.MtlsAuth(certificate=auth.certificate))
        case None:
            return None

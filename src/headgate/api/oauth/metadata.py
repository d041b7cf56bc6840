"""The documents by which clients find the authorization server (RFC 9728, RFC 8414)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headgate.api.oauth.requests import find_own_url, respond
from headgate.api.services import Services
from headgate.oauth.model.challenge import build_resource
from headgate.oauth.model.client import PUBLIC
from headgate.oauth.model.scope import SCOPES

GRANT_TYPES = ["authorization_code", "refresh_token"]


async def describe_resource(services: Services, request: Request) -> Response:
    base_url = find_own_url(services, request)
    return respond(
        {
            "resource": build_resource(base_url),
            "resource_name": "Headgate",
            "authorization_servers": [base_url],
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
        }
    )


async def describe_server(services: Services, request: Request) -> Response:
    base_url = find_own_url(services, request)
    return respond(
        {
            "issuer": base_url,
            "authorization_endpoint": f"{base_url}/oauth/authorize",
            "token_endpoint": f"{base_url}/oauth/token",
            "registration_endpoint": f"{base_url}/oauth/register",
            "revocation_endpoint": f"{base_url}/oauth/revoke",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": GRANT_TYPES,
            "token_endpoint_auth_methods_supported": [PUBLIC],
            "revocation_endpoint_auth_methods_supported": [PUBLIC],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": True,
            "protected_resources": [build_resource(base_url)],
        }
    )

"""The routes of the authorization server."""

from __future__ import annotations

from starlette.routing import Route

from headgate.api.oauth import authorization, metadata, tokens
from headgate.api.oauth.authorization import serve_page
from headgate.api.oauth.requests import serve_json
from headgate.api.services import Services
from headgate.oauth.model.challenge import MCP_PATH, RESOURCE_METADATA_PATH

SERVER_METADATA_PATH = "/.well-known/oauth-authorization-server"
PREFIXES = ("/oauth", "")
"""Some clients take the default addresses of the first MCP authorization, at the root."""


def build_routes(services: Services) -> list[Route]:
    resource = serve_json(services, metadata.describe_resource)
    server = serve_json(services, metadata.describe_server)
    authorize = serve_page(services, authorization.authorize)
    register = serve_json(services, tokens.register)
    token = serve_json(services, tokens.issue_tokens)
    documents = ["GET", "OPTIONS"]
    programs = ["POST", "OPTIONS"]
    routes = [
        Route(RESOURCE_METADATA_PATH, resource, methods=documents),
        Route(RESOURCE_METADATA_PATH + MCP_PATH, resource, methods=documents),
        Route(SERVER_METADATA_PATH, server, methods=documents),
        Route("/oauth/revoke", serve_json(services, tokens.revoke), methods=programs),
        Route("/oauth/sign-in", serve_page(services, authorization.sign_in), methods=["POST"]),
        Route("/oauth/sso", serve_page(services, authorization.start_sso), methods=["GET"]),
    ]
    for prefix in PREFIXES:
        routes += [
            Route(f"{prefix}/authorize", authorize, methods=["GET", "POST"]),
            Route(f"{prefix}/register", register, methods=programs),
            Route(f"{prefix}/token", token, methods=programs),
        ]
    return routes

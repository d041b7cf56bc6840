"""Builds the authorization server from the parts of the application."""

from __future__ import annotations

from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.http.message import Client
from headgate.main.application import Application
from headgate.oauth.service import AccessTokens, AddressLimiter, AuthorizationServer, Clients


def build_authorization_server(
    application: Application, storage: AsyncDatabase, client: Client
) -> AuthorizationServer:
    clock = application.steady_clock
    return AuthorizationServer(
        applications=application.connected_applications,
        tokens=application.oauth_tokens,
        clients=Clients(client, clock),
        access_tokens=AccessTokens(storage, application.people, application.key_index, clock),
        limiter=AddressLimiter(clock, per_minute=application.settings.oauth_requests_per_minute),
    )

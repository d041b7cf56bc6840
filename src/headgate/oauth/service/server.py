"""The parts of the authorization server, for the faces that speak for it."""

from __future__ import annotations

import msgspec

from headgate.oauth.service.access_tokens import AccessTokens
from headgate.oauth.service.applications import ApplicationService
from headgate.oauth.service.clients import Clients
from headgate.oauth.service.limiter import AddressLimiter
from headgate.oauth.service.tokens import TokenService


class AuthorizationServer(msgspec.Struct, frozen=True, kw_only=True):
    applications: ApplicationService
    tokens: TokenService
    clients: Clients
    access_tokens: AccessTokens
    limiter: AddressLimiter

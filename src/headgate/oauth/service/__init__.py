"""Connects applications, issues their tokens, and finds what a token allows."""

from headgate.oauth.service.access_tokens import AccessTokens
from headgate.oauth.service.applications import (
    ApplicationDetails,
    ApplicationService,
    ProjectChoice,
)
from headgate.oauth.service.clients import PURPOSE, Clients
from headgate.oauth.service.limiter import AddressLimiter
from headgate.oauth.service.server import AuthorizationServer
from headgate.oauth.service.tokens import CodeRedemption, TokenLifetimes, TokenService
from headgate.oauth.store.applications import ApplicationFilter

__all__ = [
    "PURPOSE",
    "AccessTokens",
    "AddressLimiter",
    "ApplicationDetails",
    "ApplicationFilter",
    "ApplicationService",
    "AuthorizationServer",
    "Clients",
    "CodeRedemption",
    "ProjectChoice",
    "TokenLifetimes",
    "TokenService",
]

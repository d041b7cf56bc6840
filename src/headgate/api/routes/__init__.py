"""The operations of the platform API, a module for each kind of object."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.api.operation import Operations
from headgate.api.routes import (
    ai_connections,
    ai_providers,
    audit,
    budgets,
    connections,
    credentials,
    dashboard,
    integrations,
    invitations,
    invoices,
    keys,
    llms,
    managed_models,
    members,
    organizations,
    people,
    plans,
    prices,
    projects,
    providers,
    receipts,
    requests,
    secrets,
    session,
    usage,
    vault,
    wallet,
    webhooks,
)

ALL: Sequence[Operations] = (
    session.OPERATIONS,
    organizations.OPERATIONS,
    members.OPERATIONS,
    invitations.OPERATIONS,
    people.OPERATIONS,
    projects.OPERATIONS,
    keys.OPERATIONS,
    budgets.OPERATIONS,
    credentials.OPERATIONS,
    secrets.OPERATIONS,
    connections.OPERATIONS,
    providers.OPERATIONS,
    integrations.OPERATIONS,
    llms.OPERATIONS,
    plans.OPERATIONS,
    prices.OPERATIONS,
    managed_models.OPERATIONS,
    usage.OPERATIONS,
    dashboard.OPERATIONS,
    wallet.OPERATIONS,
    receipts.OPERATIONS,
    requests.OPERATIONS,
    invoices.OPERATIONS,
    vault.OPERATIONS,
    webhooks.OPERATIONS,
    audit.OPERATIONS,
    ai_connections.OPERATIONS,
    ai_providers.OPERATIONS,
)
"""Every operation that is served, described and tested."""

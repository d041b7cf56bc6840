"""Change what invoices say of an organization."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.payments.model.wallet_settings import WalletSettings
from headgate.payments.store import orders as store


class BillingAddress(msgspec.Struct, frozen=True):
    name: str
    address: str
    tax_id: str


class WalletSettingsService:
    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def change(
        self, connection: sa.Connection, organization_id: str, address: BillingAddress, *, by: Actor
    ) -> WalletSettings:
        """Set name, address and tax id for the invoices from now on."""
        values = {
            "billing_name": address.name,
            "billing_address": address.address,
            "tax_id": address.tax_id,
        }
        store.update_settings(connection, organization_id, **values)
        event = AuditEvent("wallet.settings_changed", organization_id, organization_id, {**values})
        self._audit.record(connection, by, event)
        return store.find_settings(connection, organization_id)


def read_settings(connection: sa.Connection, organization_id: str) -> WalletSettings:
    """Return the settings of a wallet; the defaults where nothing was ever set."""
    return store.find_settings(connection, organization_id)

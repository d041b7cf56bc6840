"""What is known of an organization as a payer: its id at the provider, and its address."""

from __future__ import annotations

import msgspec


class WalletSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the settings of an organization's wallet. `customer_id` is its id at the provider."""

    organization_id: str
    customer_id: str | None = None
    billing_name: str = ""
    billing_address: str = ""
    tax_id: str = ""
    version: int = 1

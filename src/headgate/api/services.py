"""What the operations work with: the features' services, and the database behind two doors."""

from __future__ import annotations

import msgspec

from headgate.accounts.service import Accounts, Invitations, Members, People, Sessions
from headgate.api.entrance import Entrance
from headgate.api.storage import Storage
from headgate.audit.service import AuditLog
from headgate.catalog.service import Catalog
from headgate.keys.service import KeyRing, Keys
from headgate.kit.clock import Clock
from headgate.kit.ids import Ids
from headgate.vault.service import (
    Capacities,
    CredentialBook,
    ManagedBook,
    SecretBook,
    Trials,
    Vault,
)


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """The services of one process."""

    storage: Storage
    clock: Clock
    ids: Ids
    audit: AuditLog
    accounts: Accounts
    people: People
    members: Members
    invitations: Invitations
    sessions: Sessions
    entrance: Entrance
    keys: Keys
    key_ring: KeyRing
    managed_models: ManagedBook
    catalog: Catalog
    credentials: CredentialBook
    secrets: SecretBook
    vault: Vault
    capacities: Capacities
    trials: Trials

"""What operations work with: the services of the features, and reads and writes of the database."""

from __future__ import annotations

from typing import Protocol

import msgspec
import sqlalchemy as sa

from headgate.accounts.service import (
    AccountService,
    InvitationService,
    MemberService,
    PersonService,
    SessionService,
)
from headgate.api.access_denials import AccessDenialLog
from headgate.api.authentication import AuthenticationMethods
from headgate.api.storage import Storage
from headgate.audit.model import Actor
from headgate.audit.service import AuditLog
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.prices import PriceService
from headgate.catalog.service.settings import CatalogSettings
from headgate.credentials.service import (
    CapacityTracker,
    CredentialResolver,
    CredentialService,
    CredentialTester,
    ManagedModelService,
)
from headgate.keys.service import KeyIndex, KeyService
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator
from headgate.kit.rate_limiter import RateLimiter
from headgate.vault.model.keys import Rotation
from headgate.vault.model.sealed_row import UnreadableRow
from headgate.vault.service import SecretService, VaultStatus


class KeyDesk(Protocol):
    """The keys of the vault, and rotations that this process runs."""

    def describe(self, connection: sa.Connection) -> VaultStatus:
        """All keys, and the newest rotations."""
        ...

    def list_unreadable_rows(self) -> list[UnreadableRow]:
        """The rows that did not open when they were last loaded."""
        ...

    def begin(self, connection: sa.Connection, scope: str, *, by: Actor) -> Rotation:
        """Begin a rotation of organization keys, or find the one under way.

        Raises `RotationConflictError`, and `AccountNotFoundError` for an organization that is not
        there.
        """
        ...

    def carry_on(self, rotation: Rotation, *, by: Actor) -> None:
        """Run it to its end, beside everything else; nothing if one is being run already."""
        ...


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """The services of one process."""

    storage: Storage
    clock: Clock
    ids: IdGenerator
    audit: AuditLog
    denials: AccessDenialLog
    accounts: AccountService
    people: PersonService
    members: MemberService
    invitations: InvitationService
    sessions: SessionService
    authentication: AuthenticationMethods
    keys: KeyService
    key_index: KeyIndex
    rate_limiter: RateLimiter
    credentials: CredentialService
    catalog: Catalog
    prices: PriceService
    catalog_settings: CatalogSettings
    managed_models: ManagedModelService
    secrets: SecretService
    vault: CredentialResolver
    capacity_tracker: CapacityTracker
    credential_tester: CredentialTester
    key_desk: KeyDesk

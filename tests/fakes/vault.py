"""A database with two organizations and what seals, keeps and resolves their credentials."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from headgate.accounts.service import AccountService
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.credentials.model.credential import (
    CredentialRecord,
    CredentialRequest,
)
from headgate.credentials.service import CredentialResolver, CredentialService
from headgate.credentials.store import credentials as credential_store
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.http.guard import EgressRules, parse_rule
from headgate.kit.http.message import Origin
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import OPERATOR
from headgate.vault.model import sealed_row
from headgate.vault.model.secret import (
    SecretRecord,
    SecretRequest,
)
from headgate.vault.service import (
    LocalMasterKey,
    Sealer,
    SecretService,
    store_master_key,
)

SECRET = "sk-proj-0123456789abcdefWXYZ"


class HeldClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class FakeIntegration(msgspec.Struct, frozen=True):
    name: str = "openai"
    display_name: str = "OpenAI"
    base_url: str = "https://api.openai.com/v1"
    secret_pattern: str = r"^sk-[a-zA-Z0-9\-_]{20,}$"
    secret_prefixes: tuple[str, ...] = ("sk-", "sk-proj-")
    secret_header: str = "authorization"
    secret_header_prefix: str = "Bearer "
    organization_header: str = "openai-organization"
    surfaces: tuple[str, ...] = ()
    stream_usage: str = "ask"


class VaultHarness:
    """Hold a database with two organizations, their credentials and the vault."""

    def __init__(self, path: Path | str) -> None:
        self.clock = HeldClock()
        self.database = Database(path)
        METADATA.create_all(self.database.engine)
        self.master_key = LocalMasterKey(os.urandom(32))
        acme = FakeIntegration(
            name="acme", base_url="https://api.acme.example/v1", secret_pattern=".+"
        )
        facts = {"openai": FakeIntegration(), "acme": acme}
        sealer = Sealer(self.master_key, self.clock)
        rules = EgressRules(parse_rule(["http://127.0.0.1:9"]))
        rules = rules.with_origins(OPERATOR, Origin("http", "127.0.0.1", 11434))
        audit = AuditLog(self.clock)
        self.service = CredentialService(
            sealer, facts, egress_rules=rules, clock=self.clock, ids=IdGenerator(), audit=audit
        )
        self.resolver = CredentialResolver(sealer, facts, self.clock)
        self.sealer = sealer
        accounts = AccountService(self.clock, IdGenerator(), audit)
        with self.database.transaction() as connection:
            store_master_key(connection, self.master_key, now=0.0)
            self.own = accounts.create_organization(connection, "Own", by=SYSTEM).id
            self.other = accounts.create_organization(connection, "Other", by=SYSTEM).id

    def add(self, secret: str = SECRET, **more: object) -> CredentialRecord:
        self.clock.time += 1
        values = {"organization_id": self.own, "integration": "openai", "secret": secret, **more}
        with self.database.transaction() as connection:
            request = CredentialRequest(**values)  # pyright: ignore[reportArgumentType]
            record = self.service.add(connection, request, by=SYSTEM)
        self.reload()
        return record

    def upsert(self, secret: str = SECRET, base_url: str | None = None) -> CredentialRecord:
        self.clock.time += 1
        request = CredentialRequest(
            organization_id=self.own, integration="openai", secret=secret, base_url=base_url
        )
        with self.database.transaction() as connection:
            return self.service.upsert_environment(connection, request)

    def reload(self) -> list[sealed_row.UnreadableRow]:
        with self.database.reading() as connection:
            return self.resolver.load(connection)

    def taken(self, name: str | None = None, organization_id: str | None = None) -> str:
        owner = organization_id or self.own
        return self.resolver.resolve(owner, integration="openai", name=name).id

    def change(self, credential_id: str, **values: object) -> None:
        with self.database.transaction() as connection:
            credential_store.update_credential(connection, credential_id, values)


REFERENCE = "{{vault:mine}}"


class SecretsHarness(VaultHarness):
    """Hold a vault with stored secrets."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.secrets = SecretService(
            self.sealer, clock=self.clock, ids=IdGenerator(), audit=AuditLog(self.clock)
        )

    def put(self, value: str = SECRET, name: str = "mine", **more: object) -> SecretRecord:
        values = {"organization_id": self.own, "project_id": None, **more}
        request = SecretRequest(name=name, value=value, **values)  # pyright: ignore[reportArgumentType]
        with self.database.transaction() as connection:
            record = self.secrets.put(connection, request, by=SYSTEM)
        self.reload()
        return record

    def count_opened(self) -> int:
        """Return how many seals the next load opens."""
        before = self.resolver.seals_opened
        self.reload()
        return self.resolver.seals_opened - before

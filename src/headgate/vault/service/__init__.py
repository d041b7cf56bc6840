"""The services of the vault: master keys, seals, rotation and stored secrets."""

from headgate.vault.service.master_key import (
    KeyServiceUnavailableError,
    LocalMasterKey,
    LocalSource,
    MasterKey,
    MasterKeySource,
    RemoteSource,
    create_master_key,
    find_master_key,
    store_master_key,
)
from headgate.vault.service.rotation import KeyStatus, Rotations, VaultStatus
from headgate.vault.service.sealed_tables import find_unreadable_rows
from headgate.vault.service.sealing import (
    Sealer,
    open_mcp_secret,
    open_signing_secret,
    open_webhook_secret,
    seal_mcp_secret,
    seal_signing_secret,
    seal_webhook_secret,
)
from headgate.vault.service.secrets import SecretService
from headgate.vault.store.revision import TOPIC, note_change

__all__ = [
    "TOPIC",
    "KeyServiceUnavailableError",
    "KeyStatus",
    "LocalMasterKey",
    "LocalSource",
    "MasterKey",
    "MasterKeySource",
    "RemoteSource",
    "Rotations",
    "Sealer",
    "SecretService",
    "VaultStatus",
    "create_master_key",
    "find_master_key",
    "find_unreadable_rows",
    "note_change",
    "open_mcp_secret",
    "open_signing_secret",
    "open_webhook_secret",
    "seal_mcp_secret",
    "seal_signing_secret",
    "seal_webhook_secret",
    "store_master_key",
]

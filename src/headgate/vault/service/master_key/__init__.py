"""Finds the master key, and checks that it is the one of the database."""

from headgate.vault.service.master_key.key import (
    LOCAL,
    LocalMasterKey,
    MasterKey,
    Provenance,
    store_master_key,
)
from headgate.vault.service.master_key.key_service import (
    KeyManagementService,
    KeyServiceUnavailableError,
    RemoteSource,
)
from headgate.vault.service.master_key.local import (
    VARIABLE,
    LocalSource,
    create_master_key,
    find_master_key,
    parse_master_key,
    read_master_key,
    read_or_create,
    write_master_key,
)
from headgate.vault.service.master_key.source import MasterKeySource

__all__ = [
    "LOCAL",
    "VARIABLE",
    "KeyManagementService",
    "KeyServiceUnavailableError",
    "LocalMasterKey",
    "LocalSource",
    "MasterKey",
    "MasterKeySource",
    "Provenance",
    "RemoteSource",
    "create_master_key",
    "find_master_key",
    "parse_master_key",
    "read_master_key",
    "read_or_create",
    "store_master_key",
    "write_master_key",
]

"""The vault's decisions: which master key, how a secret is sealed, which credential is taken."""

from headgate.vault.service.book import CredentialBook
from headgate.vault.service.capacity import Capacities
from headgate.vault.service.managed import ManagedBook
from headgate.vault.service.master_key import (
    KeyServiceUnavailableError,
    LocalMasterKey,
    LocalSource,
    MasterKey,
    MasterKeySource,
    RemoteSource,
    create_master_key,
    find_master_key,
    remember_master_key,
)
from headgate.vault.service.offers import ManagedOffers
from headgate.vault.service.resolution import TOPIC, Vault
from headgate.vault.service.rotation import KeyStatus, Rotations, VaultStatus
from headgate.vault.service.sealed_tables import find_faults
from headgate.vault.service.sealing import Sealer
from headgate.vault.service.secrets import SecretBook
from headgate.vault.service.trial import Trial, try_credential
from headgate.vault.service.trials import TooManyCredentialTestsError, Trials
from headgate.vault.store.listing import Wanted

__all__ = [
    "TOPIC",
    "Capacities",
    "CredentialBook",
    "KeyServiceUnavailableError",
    "KeyStatus",
    "LocalMasterKey",
    "LocalSource",
    "ManagedBook",
    "ManagedOffers",
    "MasterKey",
    "MasterKeySource",
    "RemoteSource",
    "Rotations",
    "Sealer",
    "SecretBook",
    "TooManyCredentialTestsError",
    "Trial",
    "Trials",
    "Vault",
    "VaultStatus",
    "Wanted",
    "create_master_key",
    "find_faults",
    "find_master_key",
    "remember_master_key",
    "try_credential",
]

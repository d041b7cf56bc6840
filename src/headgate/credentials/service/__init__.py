"""The decisions on credentials: which one is valid, which is taken, what a test of one says."""

from headgate.credentials.service.capacity import Capacities
from headgate.credentials.service.credentials import CredentialBook
from headgate.credentials.service.managed_models import ManagedBook
from headgate.credentials.service.managed_routes import ManagedOffers
from headgate.credentials.service.resolution import Vault
from headgate.credentials.service.tester import TooManyCredentialTestsError, Trials
from headgate.credentials.service.testing import Trial, try_credential
from headgate.credentials.store.listing import CredentialFilter

__all__ = [
    "Capacities",
    "CredentialBook",
    "CredentialFilter",
    "ManagedBook",
    "ManagedOffers",
    "TooManyCredentialTestsError",
    "Trial",
    "Trials",
    "Vault",
    "try_credential",
]

"""The services of credentials and managed models."""

from headgate.credentials.service.capacity import CapacityTracker
from headgate.credentials.service.credentials import CredentialService
from headgate.credentials.service.managed_models import ManagedModelService
from headgate.credentials.service.managed_routes import ManagedModelRouteTable
from headgate.credentials.service.resolution import CredentialResolver
from headgate.credentials.service.tester import CredentialTester, TooManyCredentialTestsError
from headgate.credentials.service.testing import CredentialTestResult, run_credential_test
from headgate.credentials.store.listing import CredentialFilter

__all__ = [
    "CapacityTracker",
    "CredentialFilter",
    "CredentialResolver",
    "CredentialService",
    "CredentialTestResult",
    "CredentialTester",
    "ManagedModelRouteTable",
    "ManagedModelService",
    "TooManyCredentialTestsError",
    "run_credential_test",
]

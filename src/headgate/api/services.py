"""What operations work with: the services of the features, and reads and writes of the database."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headgate.accounts.service import (
    AccountService,
    InvitationService,
    MemberService,
    PersonService,
    SessionService,
    WorkspaceIndex,
)
from headgate.api.access_denials import AccessDenialLog
from headgate.api.authentication import AuthenticationMethods
from headgate.assets.service import AssetFiles, AssetService, Handles
from headgate.audit.service import AuditLog
from headgate.billing.service.budgets import BudgetService
from headgate.billing.service.plans import PlanService
from headgate.billing.service.receipts import ReceiptService
from headgate.capacity.service import CapacityLimiter, PoolService
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.prices import PriceService
from headgate.catalog.service.settings import CatalogSettings
from headgate.connectors.service.actions import ActionService
from headgate.connectors.service.directory import IntegrationDirectory
from headgate.connectors.service.setup import SetupService
from headgate.credentials.service import (
    CapacityTracker,
    CredentialResolver,
    CredentialService,
    CredentialTester,
    ManagedModelService,
)
from headgate.keys.service import KeyIndex, KeyService
from headgate.kit.clock import Clock
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.ids import IdGenerator
from headgate.kit.rate_limiter import RateLimiter
from headgate.mcp_servers.service import McpDiscoverer, McpServerService, McpToolService
from headgate.oauth.service import AuthorizationServer
from headgate.payments.model.invoice import StoredInvoice
from headgate.payments.service.adjustments import AdjustmentService
from headgate.payments.service.auto_top_ups import AutoTopUpService
from headgate.payments.service.checkout import Checkout
from headgate.payments.service.settings import WalletSettingsService
from headgate.request_log.service.error_rates import AttemptCounter
from headgate.request_log.service.replay import Replayer
from headgate.request_log.service.requests import RequestLogService
from headgate.request_log.service.tail import RequestTails
from headgate.resources.service import DryRuns, ResourceIndex, ResourceService
from headgate.signatures.model import Signatures
from headgate.signatures.service import SigningSecretService
from headgate.vault.jobs import RotationRunner
from headgate.vault.service import Sealer, SecretService
from headgate.webhooks.service import WebhookService


class Services(msgspec.Struct, frozen=True, kw_only=True):
    storage: AsyncDatabase
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
    budgets: BudgetService
    plans: PlanService
    key_index: KeyIndex
    workspaces: WorkspaceIndex
    rate_limiter: RateLimiter
    credentials: CredentialService
    catalog: Catalog
    prices: PriceService
    receipts: ReceiptService
    catalog_settings: CatalogSettings
    managed_models: ManagedModelService
    request_log: RequestLogService
    request_tails: RequestTails
    error_rates: AttemptCounter
    replayer: Replayer
    oauth: AuthorizationServer
    sealer: Sealer
    secrets: SecretService
    signatures: Signatures
    signing_secrets: SigningSecretService
    webhooks: WebhookService
    credential_resolver: CredentialResolver
    resources: ResourceService
    dry_runs: DryRuns
    assets: AssetService
    asset_files: AssetFiles
    handles: Handles
    resource_index: ResourceIndex
    capacity_tracker: CapacityTracker
    capacity: CapacityLimiter
    pools: PoolService
    credential_tester: CredentialTester
    rotation_runner: RotationRunner
    checkout: Checkout
    adjustments: AdjustmentService
    wallet_settings: WalletSettingsService
    auto_top_ups: AutoTopUpService
    mcp_servers: McpServerService
    mcp_tools: McpToolService
    mcp_discoverer: McpDiscoverer
    render_invoice: Callable[[StoredInvoice], bytes]
    actions: ActionService
    directory: IntegrationDirectory
    setup: SetupService

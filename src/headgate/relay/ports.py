"""Declare what the call pipeline needs of the rest of the product, and the values they exchange.

The features implement these protocols and `main` connects them, so that the pipeline imports no
feature.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Container, Mapping, Sequence
from typing import Protocol

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.addresses import Network
from headgate.kit.http.message import Headers, Origin
from headgate.llm.convert.field_rules import FieldRules
from headgate.llm.headers import ACCOUNT, DENIED
from headgate.llm.usage import Usage
from headgate.relay.capacity_limits import CapacityLimit

DEFAULT_INTEGRATION = "openai"
"""The integration of model ids that the catalog does not know."""


class DisconnectPolicy(enum.Enum):
    """Select what happens to an answer whose client disconnects before its end."""

    DRAIN = "drain"
    """Read it to its end, and bill its exact usage."""
    CANCEL = "cancel"
    """Stop the provider at once, and bill what was delivered, by an estimate."""


class Grant(msgspec.Struct, frozen=True):
    """Hold what an API key may do.

    Empty tuples mean "no restriction", 0 means "no limit", and None for `on_disconnect` the
    gateway's policy. `permissions` are those of a management key on the platform API, as patterns;
    none means everything in its organization, and nothing of the platform's operator.
    """

    key_id: str
    organization_id: str
    project_id: str
    management: bool = False
    expires_at: float | None = None
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    requests_per_minute: int = 0
    on_disconnect: DisconnectPolicy | None = None
    permissions: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    """Projects that the key may name. None: for a management key all of its organization, for an
    inference key its own."""
    networks: tuple[Network, ...] = ()
    resources: tuple[str, ...] = ()
    tokens_per_minute: int = 0
    requires_signature: bool = False
    """Whether only signed requests are accepted."""
    capacity: tuple[CapacityLimit, ...] = ()
    """Limits of its requests and tokens that are enforced."""
    tools: tuple[str, ...] = ()
    """Patterns of the tools that it may see and call; they say nothing about model calls."""
    is_restricted: bool = False
    """Whether any restriction applies to calls. Computed once, so that a key without restrictions
    costs one look for each call."""

    def __post_init__(self) -> None:
        is_restricted = bool(
            self.management
            or self.models
            or self.endpoints
            or self.networks
            or self.resources
            or self.requests_per_minute
            or self.tokens_per_minute
        )
        msgspec.structs.force_setattr(self, "is_restricted", is_restricted)


class Grants(Protocol):
    """Find the grants of API keys, from memory."""

    def find(self, token: bytes) -> Grant:
        """Return the grant of a presented token.

        Raise a `HeadgateError` of kind UNAUTHENTICATED for a malformed, unknown, revoked or
        expired one.
        """
        ...


OPERATOR = "operator"
"""The egress purpose of requests with the operator's own credentials: of the environment, of the
simulator, of the platform. They may be sent where the operator configured it."""


DEADLINE_SECONDS_MIN = 1
DEADLINE_SECONDS_MAX = 86_400
"""Bounds of a deadline that a model or a credential sets: one second, and a day."""


class Deadlines(msgspec.Struct, frozen=True):
    """Hold the deadlines that a model or a credential sets for its calls. None leaves a deadline of
    a credential to the model, and one of a model to the settings."""

    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None


class Credential(msgspec.Struct, frozen=True):
    """Hold an opened provider secret, to be sent to its origin and nowhere else.

    `base_path` has no trailing slash (`/v1`); `headers` are the authentication and organization
    headers; `secret` must not appear in any answer. `managed` credentials belong to the platform,
    and their calls are paid from the wallet.
    """

    id: str
    name: str
    integration: str
    managed: bool
    origin: Origin
    base_path: bytes
    headers: Headers
    secret: bytes
    has_integration_address: bool = True
    """Whether it is sent to its integration's address, and not to one that its owner chose."""

    asks_usage: bool = True
    """Whether its provider may be asked for the usage of a stream whose client did not ask."""
    replaces: frozenset[bytes] = frozenset()
    """Headers of a client that are not sent beside this credential's own: those that it sets itself
    and, for a managed one, those that choose the account that pays."""
    purpose: str = ""
    """The egress rule that allows its origin: `OPERATOR`, or empty for the general one."""
    deadlines: Deadlines | None = None
    capacity: tuple[CapacityLimit, ...] = ()
    """Limits of its requests and tokens."""
    surfaces: frozenset[str] = frozenset()
    """The APIs by which its provider answers (`llm.endpoint`); empty where that is not known, so
    that every call is passed on as it is."""
    has_catalog_models: bool = True
    """Whether its provider has the integration's own models, with what the catalog says of them:
    another server may answer the same id by another API."""
    answer_head: bytes = b""
    """Header lines that tell the client which credential answered. Encoded once, here."""

    def __post_init__(self) -> None:
        head = (
            f"x-headgate-provider: {self.integration}\r\nx-headgate-credential-id: {self.id}\r\n"
            "x-headgate-cache-status: bypass\r\n"
        )
        msgspec.structs.force_setattr(self, "answer_head", head.encode())
        names = {name for name, _ in self.headers if not DENIED.denies(name)}
        replaces = frozenset(names | ACCOUNT if self.managed else names)
        msgspec.structs.force_setattr(self, "replaces", replaces)


class Credentials(Protocol):
    """Resolve and open provider secrets, from memory."""

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        """Return the credential for a call: the named one (id or name), else the default, else the
        newest valid own one, else a managed one.

        Raise a `HeadgateError` when the named one is unusable, since no other one may silently
        take its place, or when there is none. A credential that is limited to some models is used
        only for these; `model` is the one that the call names, and `is_free` says that it needs to
        name none, since no model answers it.
        """
        ...

    def find_integration(self, organization_id: str, name: str, preferred: str) -> str:
        """Return the integration of a named credential (id or name).

        It is `preferred` where that has one of the name, or no integration has. Raise a
        `HeadgateError` where several others have one.
        """
        ...

    def has_any(self, organization_id: str, integration: str) -> bool:
        """Return whether an organization has credentials of an integration, usable or not."""
        ...

    def peek(self, organization_id: str, integration: str) -> Credential | None:
        """Return the own credential that a call without a named one would use, without using it."""
        ...


class CapacityRecorder(Protocol):
    """Record what providers report of their own rate limits."""

    def note(
        self, credential_id: str, model: str | None, headers: Headers, monotonic_seconds: float
    ) -> None:
        """Take the headers of an answer. Must not raise, and must be cheap."""
        ...


class ManagedModelRoute(msgspec.Struct, frozen=True):
    """Hold what serves a managed model.

    `wire_id` is the id that the provider gets; empty for the catalog's. `model_id` is the model
    that serves, which may replace the one that was named.
    """

    model_id: str
    wire_id: str
    credential: Credential


class ListedManagedModel(msgspec.Struct, frozen=True):
    """Hold a managed model for a list, with what serves it. `created_at` is in unix seconds."""

    model_id: str
    display_name: str
    serving_id: str
    wire_id: str
    credential_id: str
    created_at: float
    deprecated: bool = False
    integration: str = DEFAULT_INTEGRATION


class ManagedModelRoutes(Protocol):
    """Find the platform's credential that serves a managed model, from memory."""

    def __len__(self) -> int:
        """Return how many there are; with none, any managed credential serves any model."""
        ...

    def find(self, model_id: str) -> ManagedModelRoute | None:
        """Return what serves that id: the model itself, or the replacement of a deprecated one;
        None for an unknown id.

        Raise a `HeadgateError` where the model is switched off or its credential is unusable.
        """
        ...

    def list(self) -> Sequence[ListedManagedModel]: ...

    def default(self) -> ManagedModelRoute | None:
        """Return what serves unknown ids; None where nothing does. Raise as `find`."""
        ...


class Price(Protocol):
    id: str

    @property
    def tool_fees(self) -> Mapping[str, int]:
        """Return the fees of tools by name (`llm.tools`) in nano-dollars, each in its highest
        tier."""
        ...

    def cost(self, usage: Usage, service_tier: str | None) -> int | None:
        """Return the exact cost in nano-dollars, rounded once; None when the row lacks a rate for
        the usage."""
        ...

    def bound(self, input_tokens: int, output_tokens: int, service_tier: str | None) -> int | None:
        """Return nano-dollars that no usage within these totals can exceed, whatever its details;
        None when the row lacks a rate that such a usage could need."""
        ...


class Model(msgspec.Struct, frozen=True):
    """Represent a model of the catalog.

    `wire_id` is the id that the provider gets; limits are 0 where unknown, and `deadlines` is None
    where the model sets none.
    """

    id: str
    wire_id: str
    input_tokens_max: int = 0
    output_tokens_max: int = 0
    integration: str = DEFAULT_INTEGRATION
    deadlines: Deadlines | None = None
    reasons: bool = False
    """Whether it spends output tokens on reasoning before it answers."""
    limit_field: str = ""
    """The field that its integration wants for an output limit, if the endpoint has several."""
    surfaces: frozenset[str] = frozenset()
    """The APIs by which it answers, where not all of its integration's; else empty."""
    converts: bool = True
    """Whether calls of other surfaces are converted for it, and not refused."""


class ModelMatch(msgspec.Struct, frozen=True):
    """Hold what the `model` of a request means: an id within one integration.

    `wire_id` is the id that the provider gets. `model` is None for an id that the catalog does not
    know. `names` are the spellings that mean the same, for the scopes of keys. `is_qualified` says
    that the request spells `integration/model`. `others` are further integrations that have a model
    of a bare id.
    """

    integration: str
    model_id: str
    wire_id: str
    model: Model | None
    names: tuple[str, ...]
    is_qualified: bool = False
    others: tuple[ModelMatch, ...] = ()


class ModelCatalog(Protocol):
    """Find models and prices, from memory."""

    @property
    def providers(self) -> Sequence[str]:
        """Return the integrations that have models, the default one first."""
        ...

    def match(self, name: str, integration: str | None = None) -> ModelMatch:
        """Return what the `model` of a request means: `integration/model` or a bare id. With an
        `integration`, it is that one's model of the id, which may be spelled either way."""
        ...

    def find(self, model_id: str, integration: str | None = None) -> Model | None:
        """Return the model of an id within an integration, or of a bare id; None for an unknown id,
        which is passed through unchanged."""
        ...

    def field_rules(self, integration: str, endpoint: str) -> FieldRules | None:
        """Return which fields an integration takes at an endpoint; None for all of OpenAI's."""
        ...

    def price(self, model_id: str, at: float, integration: str | None = None) -> Price | None:
        """Return the price at a time (unix seconds) for a model id or a dated snapshot of it,
        within an integration, or of a bare id."""
        ...


class Budget(msgspec.Struct, frozen=True):
    """Hold the spending limit of one scope for each calendar month (UTC).

    `scope` is `key`, `project` or `organization`, and `scope_id` the id of that object. It counts
    every call at list price, or with `managed_only` those that the wallet pays. `thresholds` are
    the percentages of the limit that are announced once in a month.
    """

    scope: str
    scope_id: str
    limit_nano: int
    managed_only: bool = False
    thresholds: tuple[int, ...] = (50, 80, 100)


class Budgets(Protocol):
    """Find the budgets that count a call, from memory."""

    @property
    def organizations(self) -> Container[str]:
        """Return the organizations that have any budget. A call of another one costs one look."""
        ...

    def find(self, grant: Grant, *, managed: bool) -> tuple[Budget, ...]:
        """Return the budgets of the key, its project and its organization that count the call."""
        ...


class Denial(msgspec.Struct, frozen=True):
    """Say for programs which limit refused a call. Amounts are nano-dollars.

    `layer` is `quota`, `credit` or `wallet`; `key` names the limit (`budget.key`,
    `budget.project`, `budget.organization`, `credits.monthly`, `wallet`), `scope_id` the object
    that has it. `resets_at` is in unix seconds; None for a limit that no time resets.
    """

    layer: str
    key: str
    scope_id: str
    limit_nano: int
    used_nano: int
    held_nano: int
    needed_nano: int
    available_nano: int
    resets_at: float | None = None


class HoldRefusedError(HeadgateError):
    """A budget, the plan's credits or the wallet does not cover what the call can cost.

    Raise the limit that the error names, wait for its reset, or ask for less output.
    """

    kind = Kind.UNPAID
    code = "insufficient_funds"

    def __init__(self, message: str, *, denial: Denial) -> None:
        super().__init__(message, should_retry=False)
        self.denial = denial
        self.fits_tokens: int | None = None
        """The largest output limit that would have been granted; None where no limit helps."""
        self.fits_nano = 0
        """What a call with that limit would hold."""


class ManagedCallLimits(msgspec.Struct, frozen=True):
    """Hold how many managed calls an organization may make. 0 means "no limit"."""

    requests_per_minute: int = 0
    concurrent_requests: int = 0


class OrganizationLimits(Protocol):
    """Find what the plans of organizations allow, from memory."""

    organizations: Container[str]
    """Organizations that may have limits, for one look without a call."""

    def find(self, organization_id: str) -> ManagedCallLimits: ...


class Hold(msgspec.Struct, frozen=True):
    """Hold the worst-case cost of one call, until it is settled.

    The wallet pays a `managed` call. A call on an own credential holds nothing but its share of
    `budgets`. `amount_nano` is what is asked for; the ledger may grant less, down to
    `amount_min_nano` (-1: all or nothing), and with `shares_rest` at most half of what is
    available. The ledger fills in `credit_nano`, the part that the
    plan's credits pay, and `month` (`2026-11`), in which the call counts.

    The other fields say whose call it is, for the receipt of a call that was never settled.
    """

    request_id: str
    organization_id: str
    amount_nano: int
    project_id: str = ""
    key_id: str = ""
    credential_id: str | None = None
    endpoint: str = ""
    method: str = ""
    provider: str = ""
    model: str | None = None
    price_id: str | None = None
    lease_seconds: float = 0.0
    """The time until which the call must have been settled; 0 for the ledger's default."""
    managed: bool = True
    budgets: tuple[Budget, ...] = ()
    amount_min_nano: int = -1
    shares_rest: bool = True
    credit_nano: int = 0
    month: str = ""
    target_index: int = 0
    """Which target of the call's route it is for; each has a hold of its own, one after another."""


class Wallet(Protocol):
    """Set money aside, atomically in the database (law 2)."""

    def hold(self, hold: Hold) -> Awaitable[Hold]:
        """Hold an amount in the wallet and in every budget of the hold, or in none; committed on
        return. Return the hold as it was granted. Raise `HoldRefusedError` if that is less than
        the hold needs."""
        ...

    def release(self, hold: Hold, receipt: Receipt | None) -> Awaitable[None]:
        """Give a hold back whose call goes on with another target, and may hold again; committed on
        return.

        `receipt` bills what the failed target may have charged; its id is its own.
        """
        ...


class Receipt(msgspec.Struct, frozen=True, tag_field="event", tag="call"):
    """Record what one call used, at which price, with which outcome: the source of every number
    (law 10).

    `outcome` is one of `completed`, `upstream_error`, `broken`, `cancelled`, `refused`, `unknown`.
    `pricing` is `priced` or `free`; or `partial`, `unpriced` or `implausible` (decision 0019), and
    then `unpriced_reason` says why. `created_at` is in unix seconds, durations are in microseconds,
    and -1 for what did not happen; none of them includes the call's own settlement.

    `credit_nano` is the part of a managed call's cost that the plan's credits paid. `metadata` is
    the caller's own, a JSON object of strings, or empty. `cache_status` is `bypass`, `hit`,
    `miss`, or `partial` for a batch of which a part came from a cache.

    `path`, the template of the endpoint's path, and the bytes of the two bodies are for observers,
    and are not stored.
    """

    request_id: str
    created_at: float
    organization_id: str
    project_id: str
    key_id: str
    credential_id: str | None
    managed: bool
    endpoint: str
    method: str
    provider: str
    model_requested: str | None
    model_served: str | None
    answer_id: str | None
    upstream_request_id: str | None
    correlation_id: str | None
    status: int
    outcome: str
    error_code: str | None
    streamed: bool
    usage: Usage | None
    estimated: bool
    service_tier: str | None
    pricing: str
    unpriced_reason: str | None
    price_id: str | None
    cost_nano: int
    attempts: int
    first_byte_microseconds: int
    upstream_microseconds: int
    total_microseconds: int
    overhead_microseconds: int
    path: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    metadata: str = ""
    cache_status: str = "bypass"
    credit_nano: int = 0


class BackgroundWork(msgspec.Struct, frozen=True):
    """Describe the work of a response that runs in the background, for its price.

    `status` is the provider's: `queued`, `in_progress`, `completed`, `incomplete`, `failed`,
    `cancelled`; or `unknown` where nobody will know. `model_id` is the model's id within the
    integration. `request` is the request as it was sent, as JSON, without all content: what bounds
    its usage. `estimate` is the usage of its input, for an end that reports none. `account` are the
    headers with which the caller chose an account among those of the credential. `ask_seconds` is
    how long the provider is not asked.
    """

    response_id: str
    status: str
    model_id: str | None = None
    request: str = "{}"
    estimate: Usage = Usage()
    account: tuple[tuple[str, str], ...] = ()
    ask_seconds: float = 0.0


class BackgroundReceipt(Receipt, frozen=True, tag_field="event", tag="call"):
    """Be the receipt of a call that created a response in the background.

    While the response runs, the outcome is `pending`: nothing is stored but the response. Its last
    receipt is the receipt of the call.
    """

    work: BackgroundWork = BackgroundWork("", "")

    def to_receipt(self) -> Receipt:
        """Return what is stored of it as the receipt of the call."""
        return Receipt(*(getattr(self, name) for name in Receipt.__struct_fields__))


def add_work(receipt: Receipt, work: BackgroundWork) -> BackgroundReceipt:
    """Return a receipt with the work of its response."""
    fields = {name: getattr(receipt, name) for name in Receipt.__struct_fields__}
    return BackgroundReceipt(**fields, work=work)


class BackgroundResponse(msgspec.Struct, frozen=True):
    """Represent a response that was created in the background.

    `receipt` is that of the call that created it, with the outcome `pending`. `status` is that of
    `BackgroundWork`, None while the response runs.
    """

    receipt: Receipt
    work: BackgroundWork
    hold: Hold | None = None
    status: str | None = None


class BackgroundResponses(Protocol):
    """Find responses that were created in the background."""

    def find(self, organization_id: str, response_id: str) -> Awaitable[BackgroundResponse | None]:
        """Return the response of an organization, whether it runs or has ended; the newest one of
        that id. Raise a `HeadgateError` of kind UNAVAILABLE."""
        ...


class Settlement(Protocol):
    def check(self) -> None:
        """Raise a `HeadgateError` of kind UNAVAILABLE while nothing can be recorded, so that
        nothing is sent."""
        ...

    def defer(self, receipt: Receipt, hold: Hold | None) -> None:
        """Keep a receipt that `record` rejected, to record it as soon as that is possible."""
        ...

    def record(self, receipt: Receipt, hold: Hold | None) -> Awaitable[bool | None]:
        """Record receipt, ledger entries, release of the hold and outbox events in one transaction,
        committed on return.

        A `BackgroundReceipt` that is pending only stores its response, whose hold stays. The last
        one of a response ends it, once: return whether this one did. Raise a `HeadgateError` of
        kind UNAVAILABLE on failure: then the answer must not be completed (law 1).
        """
        ...

"""What the call pipeline needs from the rest of the product, and the values they exchange.

The features implement these; `main` joins them. So the arrows point at the pipeline.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

import msgspec

from headgate.kit.http.addresses import Network
from headgate.kit.http.message import Headers, Origin
from headgate.llm.headers import ACCOUNT, DENIED
from headgate.llm.usage import Usage

DEFAULT_INTEGRATION = "openai"
"""The integration of ids that the catalog does not know. The OpenAI handler speaks its wire."""


class DisconnectPolicy(enum.Enum):
    """What becomes of an answer whose caller left in the middle of it."""

    DRAIN = "drain"
    """It is read to its end, and billed by its exact usage."""
    CANCEL = "cancel"
    """The provider is stopped at once; what was delivered is billed, by an estimate."""


class Grant(msgspec.Struct, frozen=True):
    """What a key may do. Empty tuples mean "no restriction"; 0 means "no limit"; no policy of its
    own means the gateway's.

    `permissions` are those of a management key on the platform's own API, as patterns; none at all
    means everything in its organization, and nothing of the platform's operator.
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
    """The projects that it may name; none at all: for a management key all of its organization,
    for an inference key its own."""
    networks: tuple[Network, ...] = ()
    """From where it may be used."""
    resources: tuple[str, ...] = ()
    tokens_per_minute: int = 0
    is_restricted: bool = False
    """Whether any of it stands in the way of a call; made here, so that a key without a
    restriction pays for one look."""

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
    """Answers from memory what a token may do."""

    def find(self, token: bytes) -> Grant:
        """The grant of a presented token, valid now. Raises a `HeadgateError` of kind
        UNAUTHENTICATED for a malformed, unknown, revoked or expired one."""
        ...


OPERATOR = "operator"
"""The purpose of requests with the operator's own credentials: of the environment, of the built-in
simulator, of the platform. They may go where the operator has configured it for them."""


DEADLINE_SECONDS_MIN = 1
DEADLINE_SECONDS_MAX = 86_400
"""Bounds of a deadline that a model or a credential sets: one second, and a day."""


class Deadlines(msgspec.Struct, frozen=True):
    """Deadlines that a model or a credential sets for its own calls; None leaves one to the model
    (for a credential) and then to the settings."""

    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None


class Credential(msgspec.Struct, frozen=True):
    """An opened provider secret, ready to be sent to its origin and nowhere else.

    `base_path` has no trailing slash (`/v1`); `headers` are the authentication and organization
    headers; `secret` is what must never come back. `managed` ones belong to the platform and
    their calls are paid from the wallet.
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
    """Whether it goes to its integration's address, and not to one that its owner chose."""

    asks_usage: bool = True
    """Whether its provider may be asked for the usage of a stream that its client did not ask for.
    """
    replaces: frozenset[bytes] = frozenset()
    """Headers of a client that do not go out beside this credential's own: those that it sets
    itself and, of a managed one, those that choose the account that pays."""
    purpose: str = ""
    """Which egress rule allows its origin: `OPERATOR`, or empty for the one for everybody."""
    deadlines: Deadlines | None = None
    """Deadlines of its own; None sets none."""
    answer_head: bytes = b""
    """The header lines by which an answer says that it came through this credential, and not
    from a cache; made here."""

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
    """Picks and opens the right provider secret, from memory."""

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        """The credential for a call: the named one (id or name), else the default, else the newest
        valid own one, else a managed one (systems.md 1.4). Raises a `HeadgateError` when the named
        one is unusable (no silent substitute, decision 5) or none exists.

        One that is limited to some models is taken for these only; `model` is what the call names,
        and `is_free` says that it needs name none, since no model answers it."""
        ...

    def find_integration(self, organization_id: str, name: str, preferred: str) -> str:
        """The integration of a named credential (id or name): `preferred` where it has one of that
        name, or nobody has. Raises a `HeadgateError` where several others have one."""
        ...

    def has_any(self, organization_id: str, integration: str) -> bool:
        """Whether an organization has credentials of an integration, usable or not."""
        ...

    def peek(self, organization_id: str, integration: str) -> Credential | None:
        """The own credential that a call without a named one would take, without using it."""
        ...


class CapacityRecorder(Protocol):
    """Notes what a provider says of its own limits, beside the calls."""

    def note(
        self, credential_id: str, model: str | None, headers: Headers, monotonic_seconds: float
    ) -> None:
        """The head of an answer; must not raise, and must be cheap."""
        ...


class Offer(msgspec.Struct, frozen=True):
    """What serves a managed model. `wire_id` is what the provider is told; empty: as the catalog
    has it. `model_id` is the one that really serves, which may not be the one that was named."""

    model_id: str
    wire_id: str
    credential: Credential


class Offered(msgspec.Struct, frozen=True):
    """A managed model as a list shows it, with what serves it. `created_at` in unix seconds."""

    model_id: str
    display_name: str
    serving_id: str
    wire_id: str
    credential_id: str
    created_at: float
    deprecated: bool = False
    integration: str = DEFAULT_INTEGRATION


class Offers(Protocol):
    """The managed models, from memory: which credential of the platform serves which model."""

    def __len__(self) -> int:
        """How many there are; with none, any managed credential serves any model."""
        ...

    def find(self, model_id: str) -> Offer | None:
        """What serves that id: the model itself, or the replacement of a deprecated one; None for
        an unknown id. Raises a `HeadgateError` where it is switched off or its credential is
        unusable."""
        ...

    def list(self) -> Sequence[Offered]:
        """Every managed model that can be called now."""
        ...

    def default(self) -> Offer | None:
        """What serves unknown ids; None where nothing does. Raises as `find`."""
        ...


class Price(Protocol):
    """One dated row of the price book."""

    id: str

    @property
    def tool_fees(self) -> Mapping[str, int]:
        """The fees of tools by name (`llm.tools`) in nano-dollars, each in its dearest tier."""
        ...

    def cost(self, usage: Usage, service_tier: str | None) -> int | None:
        """Exact nano-dollars, rounded once; None when the row lacks a rate that the usage needs."""
        ...

    def bound(self, input_tokens: int, output_tokens: int, service_tier: str | None) -> int | None:
        """Nano-dollars that no usage within these totals can exceed, whatever its details; None
        when the row lacks a rate that such a usage could need."""
        ...


class Model(msgspec.Struct, frozen=True):
    """A catalog model. `wire_id` is what the provider is told; limits are 0 where unknown, and
    `deadlines` is None where it sets none of its own."""

    id: str
    wire_id: str
    input_tokens_max: int = 0
    output_tokens_max: int = 0
    integration: str = DEFAULT_INTEGRATION
    deadlines: Deadlines | None = None


class ModelMatch(msgspec.Struct, frozen=True):
    """What the `model` of a request means: an id within one integration.

    `wire_id` is what its provider is told. `model` is None for an id that the catalog does not
    know. `names` are the spellings that mean
    the same, for the scopes of keys. `is_qualified` where the request spells
    `integration/model`. `others` are further integrations that have a model of a bare id.
    """

    integration: str
    model_id: str
    wire_id: str
    model: Model | None
    names: tuple[str, ...]
    is_qualified: bool = False
    others: tuple[ModelMatch, ...] = ()


class ModelCatalog(Protocol):
    """The catalog, from memory."""

    @property
    def providers(self) -> Sequence[str]:
        """The integrations that models belong to, the default one first."""
        ...

    def match(self, name: str, integration: str | None = None) -> ModelMatch:
        """What the `model` of a request means: `integration/model` or a bare id. With an
        `integration`, its model of that id, which may be spelled either way."""
        ...

    def find(self, model_id: str, integration: str | None = None) -> Model | None:
        """The catalog's model of an id within an integration, or of a bare id; None passes the id
        through unchanged."""
        ...

    def price(self, model_id: str, at: float, integration: str | None = None) -> Price | None:
        """The price in force at a time (unix seconds) for a model id or a dated snapshot of it,
        within an integration, or of a bare id."""
        ...


class Hold(msgspec.Struct, frozen=True):
    """Money set aside for one managed call. `amount_nano` is the most that it can cost.

    The rest says whose call it is, for the receipt of one that never came to an end.
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
    """How long the call may take until it must have been settled; 0: as long as most."""


class Wallet(Protocol):
    """Sets money aside by the database's own atomicity (law 2)."""

    def hold(self, hold: Hold) -> Awaitable[None]:
        """Committed when it returns. Raises a `HeadgateError` of kind UNPAID for want of money."""
        ...


class Receipt(msgspec.Struct, frozen=True, tag_field="event", tag="call"):
    """What one call used, at which price, with which outcome: the source of every number (law 10).

    `outcome` is one of `completed`, `upstream_error`, `broken`, `cancelled`, `refused`, `unknown`.
    `pricing` is `priced` or `free`; or `partial`, `unpriced` or `implausible` (decision 0019), and
    then `unpriced_reason` says why. Times: `created_at` in
    unix seconds, durations in microseconds (-1 where it never came to that); the time of its own
    settlement is in none of them.

    `path`, the template of the address, and the bytes of the two bodies are for observers, and are
    not stored.
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


class Settlement(Protocol):
    """Makes a receipt durable."""

    def check(self) -> None:
        """Raises a `HeadgateError` of kind UNAVAILABLE while nothing can be recorded: then nothing
        may be sent."""
        ...

    def defer(self, receipt: Receipt, hold: Hold | None) -> None:
        """Keeps a receipt that `record` refused, to record it as soon as that is possible."""
        ...

    def record(self, receipt: Receipt, hold: Hold | None) -> Awaitable[None]:
        """Receipt, ledger entries, release of the hold and outbox events in one transaction,
        committed when it returns. Raises a `HeadgateError` of kind UNAVAILABLE when it cannot be:
        then the answer must not be completed (law 1)."""
        ...

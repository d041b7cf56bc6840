"""Read the headers of a request to the OpenAI API, and keep those that go on to a provider."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable

import msgspec

from headgate.gateway import framing, vmx
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.metadata import parse_metadata
from headgate.keys.model import request_keys
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.llm.endpoint import Endpoint
from headgate.llm.providers.provider import HeaderDenylist
from headgate.llm.vmx import Envelope
from headgate.relay.call import CallRecord
from headgate.relay.ports import Grant, Grants
from headgate.signatures.model import SignedRequest

SENT_TWICE = b""
"""Stands for an `Idempotency-Key` or a signature that was sent twice; it is refused."""
CORRELATION_ID = re.compile(rb"[\x21-\x7e]{1,128}")
RETRIES = re.compile(rb"[0-9]")
FIT = b"fit"
STRICT = b"strict"
NO_NAMES: frozenset[bytes] = frozenset()
USUAL_CONNECTIONS = framing.WATCHED_HEADERS[b"connection"]
KNOWN_NAMES_MAX = 1_000
KNOWN_NAME_BYTES_MAX = 64
"""How many header names are cached with their actions, and how long one may be."""


class MissingApiKeyError(HeadgateError):
    """The request carries no API key.

    Send `Authorization: Bearer hg_live_...`, `x-api-key` or `api-key`.
    """

    kind = Kind.UNAUTHENTICATED
    code = "missing_api_key"


class InvalidBudgetHeaderError(HeadgateError):
    """The header `x-headgate-budget` has an unknown value.

    Send `x-headgate-budget: fit`, or leave the header out.
    """

    kind = Kind.INVALID
    code = "invalid_budget_header"


class InvalidConversionHeaderError(HeadgateError):
    """The header `x-headgate-conversion` has an unknown value.

    Send `x-headgate-conversion: strict`, or leave the header out.
    """

    kind = Kind.INVALID
    code = "invalid_conversion_header"


class InvalidRetriesHeaderError(HeadgateError):
    """The header `x-headgate-retries` is not a number of retries.

    Send a number from 0 to 9, or leave the header out.
    """

    kind = Kind.INVALID
    code = "invalid_retries_header"


class HeaderAction(enum.Enum):
    """Say what happens to a request header that no function reads."""

    FORWARD = "forward"
    DROP = "drop"
    CONTENT_TYPE = "content type"
    """Forward it; it decides how the body is read."""
    CONNECTION = "connection"
    """Drop it, and the headers that it names: they are for this hop only (RFC 9110 7.6.1)."""


class RequestHead(msgspec.Struct):
    started_at: float
    request_id: str
    token: bytes = b""
    """The first token that has the form of a key of ours."""
    other_tokens: tuple[bytes, ...] = ()
    """All other tokens that were presented."""
    authorizations: int = 0
    signature: bytes | None = None
    signed: SignedRequest | None = None
    """What is left to check of a signed request."""
    content_type: bytes = b""
    coding: bytes = b""
    credential_name: str | None = None
    correlation_id: str | None = None
    fits_budget: bool = False
    is_strict: bool = False
    retries_max: int | None = None
    project_id: str | None = None
    idempotency_key: bytes | None = None
    metadata: str = ""
    headers: Headers = []
    envelope: Envelope | None = None
    """What the headers `x-vmx-*` and the prefix of VM-X say; then the call's envelope."""
    has_vmx_prefix: bool = False
    record: CallRecord | None = None
    """The call's entry in the request log, of a project that keeps one."""
    grant: Grant | None = None
    endpoint: Endpoint | None = None
    method: str = ""
    path: bytes = b""
    query: bytes = b""


def choose_token(request_head: RequestHead, grants: Grants) -> None:
    """Choose the token that authenticates the request, of several or of none that is a key of ours.

    Raise `MissingApiKeyError`, `DuplicateAuthorizationError`, `ConflictingApiKeysError` and as
    `Grants.find`.
    """
    if request_head.authorizations > 1:
        raise request_keys.make_duplicate_error()
    tokens = ((request_head.token,) if request_head.token else ()) + request_head.other_tokens
    if not tokens:
        raise MissingApiKeyError(
            "No API key. Send `Authorization: Bearer hg_live_...` (or `x-api-key`, `api-key`); "
            "`headgate keys create` makes one."
        )
    _, request_head.token = request_keys.find_grant(grants, tokens)


def _read_bearer(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    request_head.authorizations += 1
    scheme, _, token = value.partition(b" ")
    if scheme.lower() == b"bearer":
        token = token.strip()
        # The usual case, inlined: this runs for every request.
        if token[:3] == request_keys.KEY_PREFIX and not request_head.token:
            request_head.token = token
        else:
            _keep_token(request_head, token)


def _read_api_key(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    _keep_token(request_head, value.strip())


def _keep_token(request_head: RequestHead, token: bytes) -> None:
    if token[:3] == request_keys.KEY_PREFIX and not request_head.token:
        request_head.token = token
    elif token and token != request_head.token:
        request_head.other_tokens += (token,)


def _read_content_length(
    exchange: InboundExchange, _request_head: RequestHead, value: bytes
) -> None:
    exchange.content_length = int(value)
    exchange.body_complete = exchange.content_length == 0


def _read_credential(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    request_head.credential_name = value.decode("utf-8", "replace")


def _read_correlation(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    if CORRELATION_ID.fullmatch(value):
        request_head.correlation_id = value.decode("ascii")


def _read_budget(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    if value.strip().lower() != FIT:
        raise InvalidBudgetHeaderError(
            "The header `x-headgate-budget` has the one value `fit`: lower the output limit of the "
            "request to what budget and balance cover."
        )
    request_head.fits_budget = True


def _read_conversion(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    if value.strip().lower() != STRICT:
        raise InvalidConversionHeaderError(
            "The header `x-headgate-conversion` has the one value `strict`: refuse the request if "
            "its conversion would lose something."
        )
    request_head.is_strict = True


def _read_retries(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    if not RETRIES.fullmatch(value):
        raise InvalidRetriesHeaderError(
            "The header `x-headgate-retries` is a number from 0 to 9: how often the gateway may "
            "repeat the request at most."
        )
    request_head.retries_max = int(value)


def _read_vmx_correlation(
    _exchange: InboundExchange, request_head: RequestHead, value: bytes
) -> None:
    text = value.decode("utf-8", "replace")
    request_head.envelope = vmx.add_correlation_id(request_head.envelope, text)


def _read_vmx_metadata(
    name: bytes, _exchange: InboundExchange, request_head: RequestHead, value: bytes
) -> None:
    request_head.envelope = vmx.add_metadata(request_head.envelope, name, value)


def _read_project(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    request_head.project_id = value.decode("utf-8", "replace")


def _read_metadata(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    request_head.metadata = parse_metadata(value)


def _read_idempotency_key(
    _exchange: InboundExchange, request_head: RequestHead, value: bytes
) -> None:
    is_first = request_head.idempotency_key is None
    request_head.idempotency_key = value if is_first else SENT_TWICE
    request_head.headers.append((b"idempotency-key", value))


def _read_signature(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    request_head.signature = value if request_head.signature is None else SENT_TWICE


def _read_expect(exchange: InboundExchange, _request_head: RequestHead, value: bytes) -> None:
    exchange.expects_continue = value.lower() == b"100-continue"


def _read_te(exchange: InboundExchange, _request_head: RequestHead, value: bytes) -> None:
    names = (each.partition(b";")[0].strip() for each in value.lower().split(b","))
    exchange.takes_trailers = exchange.takes_trailers or b"trailers" in names


def _read_coding(_exchange: InboundExchange, request_head: RequestHead, value: bytes) -> None:
    request_head.headers.append((b"content-encoding", value))
    request_head.coding = (
        request_head.coding + b"," + value if request_head.coding else value
    ).lower()


HeaderReader = Callable[[InboundExchange, RequestHead, bytes], None]

HEADER_ACTIONS: dict[bytes, HeaderAction | HeaderReader] = {
    b"api-key": _read_api_key,
    b"authorization": _read_bearer,
    b"connection": HeaderAction.CONNECTION,
    b"content-encoding": _read_coding,
    b"content-type": HeaderAction.CONTENT_TYPE,
    b"x-api-key": _read_api_key,
    b"content-length": _read_content_length,
    b"x-headgate-budget": _read_budget,
    b"x-headgate-conversion": _read_conversion,
    b"x-headgate-credential": _read_credential,
    b"x-headgate-correlation-id": _read_correlation,
    b"x-headgate-project": _read_project,
    b"x-headgate-metadata": _read_metadata,
    b"x-headgate-retries": _read_retries,
    b"x-headgate-signature": _read_signature,
    b"x-vmx-correlation-id": _read_vmx_correlation,
    b"idempotency-key": _read_idempotency_key,
    b"expect": _read_expect,
    b"te": _read_te,
}


class HeaderActions(dict[bytes, "HeaderAction | HeaderReader"]):
    """Map the names of request headers to actions; a name is judged once and remembered."""

    def __init__(self, denied: HeaderDenylist) -> None:
        super().__init__(HEADER_ACTIONS)
        self._denied = denied

    def read(self, exchange: InboundExchange, request_head: RequestHead) -> None:
        """Read the headers in one pass, and keep those that go on to the provider."""
        named: frozenset[bytes] = NO_NAMES
        for header in exchange.headers:
            name, value = header
            action = self[name]
            if action is HeaderAction.FORWARD:
                request_head.headers.append(header)
            elif action is HeaderAction.DROP:
                continue
            elif action is HeaderAction.CONTENT_TYPE:
                request_head.headers.append(header)
                request_head.content_type = value
            elif action is HeaderAction.CONNECTION:
                if value not in USUAL_CONNECTIONS:
                    named |= frozenset(framing.list_tokens(value))
            else:
                action(exchange, request_head, value)
        if named:
            request_head.headers = [each for each in request_head.headers if each[0] not in named]

    def __missing__(self, name: bytes) -> HeaderAction | HeaderReader:
        action: HeaderAction | HeaderReader
        if name.startswith(vmx.METADATA_PREFIX):
            action = functools.partial(_read_vmx_metadata, name)
        else:
            action = HeaderAction.DROP if self._denied.denies(name) else HeaderAction.FORWARD
        if len(self) < KNOWN_NAMES_MAX and len(name) <= KNOWN_NAME_BYTES_MAX:
            self[name] = action
        return action

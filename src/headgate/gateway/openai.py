"""Handle requests to the OpenAI API: decode the request, run it through the pipeline, answer."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import AsyncIterator, Callable

import msgspec
import structlog

from headgate.gateway import decompression, errors, framing, listing, vmx, vmx_answers
from headgate.gateway.encoder import (
    PLAIN_RATE_PREFIX,
    OpenAiEncoder,
    encode_name,
    render_rate_limits,
)
from headgate.gateway.exchange import (
    BUFFERED_BODY_BYTES,
    InboundExchange,
    RequestTooLargeError,
    describe_limit,
)
from headgate.gateway.messages import MessagesCaller, MessagesEncoder, convert_call
from headgate.gateway.metadata import parse_metadata
from headgate.gateway.models import ModelsPipeline
from headgate.gateway.token_counts import TokenCounts
from headgate.keys.model import request_keys
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.kit.ids import IdGenerator
from headgate.kit.json_limits import JsonLimits
from headgate.kit.rate_limiter import RateLimitedError
from headgate.llm import form, request, routes
from headgate.llm.endpoint import Body, Endpoint, Pricing
from headgate.llm.providers.provider import HeaderDenylist, Provider
from headgate.llm.vmx import Envelope
from headgate.relay.admission import Admission, check_endpoint, choose_project
from headgate.relay.body_budget import BodyBudget
from headgate.relay.call import Call, Caller, CallRecord
from headgate.relay.call_state import InternalError, KeyRevokedError
from headgate.relay.client_response import ResponseEncoder
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.idempotency import IdempotentCalls, digest_call
from headgate.relay.pipeline import CallPipeline
from headgate.relay.ports import Grant, Grants, ModelCatalog
from headgate.relay.request_log import NO_REQUEST_LOG, RefusedRequest, RequestLog
from headgate.signatures.model import Signatures, SignedRequest, check_body, check_stream

V1_BYTES = len(b"/v1")
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
PLAIN_CODINGS = (b"", b"identity")
JSON_TYPES = (b"application/json", b"")
"""What nearly every client sends; a body without a type is parsed as JSON."""
UNCACHED = frozenset((b"no-cache", b"no-store"))
SENT_TWICE = b""
"""Stands for an `Idempotency-Key` or a signature that was sent twice; it is refused."""
CORRELATION_ID = re.compile(rb"[\x21-\x7e]{1,128}")

FIT = b"fit"
STRICT = b"strict"
NO_NAMES: frozenset[bytes] = frozenset()
USUAL_CONNECTIONS = framing.WATCHED_HEADERS[b"connection"]
KNOWN_NAMES_MAX = 1_000
KNOWN_NAME_BYTES_MAX = 64
"""How many header names are cached with their actions, and how long one may be."""

log = structlog.get_logger(__name__)


class MissingApiKeyError(HeadgateError):
    """The request carries no API key.

    Send `Authorization: Bearer hg_live_...`, `x-api-key` or `api-key`.
    """

    kind = Kind.UNAUTHENTICATED
    code = "missing_api_key"


class UnknownMethodError(HeadgateError):
    """The HTTP method is not known.

    Use the method that the documentation of the address names.
    """

    kind = Kind.METHOD
    code = "method_not_allowed"


class UnsupportedContentTypeError(HeadgateError):
    """The body has a content type that this address does not read.

    Send the content type that the message names.
    """

    kind = Kind.MEDIA_TYPE
    code = "unsupported_content_type"


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


class HeaderAction(enum.Enum):
    """Say what happens to a request header that no function reads."""

    FORWARD = "forward"
    DROP = "drop"
    CONTENT_TYPE = "content type"
    """Forward it; it decides how the body is read."""
    CONNECTION = "connection"
    """Drop it, and the headers that it names: they are for this hop only (RFC 9110 7.6.1)."""


class HandlerLimits(msgspec.Struct, frozen=True):
    """Limit request bodies by kind, and the `retry-after` of responses, in bytes and seconds.
    `decodes` says whether compressed bodies are accepted where they are read."""

    json_body_bytes_max: int = 64 << 20
    form_body_bytes_max: int = 64 << 20
    raw_body_bytes_max: int = 1 << 30
    json: JsonLimits = request.LIMITS
    form: form.FormLimits = form.LIMITS
    decodes: bool = True
    decode_ratio_max: int = 100
    retry_after_max_seconds: float = 60.0


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


def ignore_unauthenticated(_error: HeadgateError, _token: bytes, _address: str) -> None:
    """Ignore a request without a valid key."""


RateLimitObserver = Callable[[HeadgateError, Grant, str], None]
"""Gets the error of a refusal with 429, the grant of the key, and the request id."""


def ignore_rate_limited(_error: HeadgateError, _grant: Grant, _request_id: str) -> None:
    """Ignore a request that was refused with 429."""


class OpenAiHandler:
    """Answer everything below `/v1`."""

    def __init__(
        self,
        *,
        grants: Grants,
        pipeline: CallPipeline,
        models: ModelsPipeline,
        embeddings: CallPipeline,
        token_counts: TokenCounts,
        idempotent_calls: IdempotentCalls,
        concurrency: ConcurrencyLimiter,
        admission: Admission,
        bodies: BodyBudget,
        signatures: Signatures,
        provider: Provider,
        catalog: ModelCatalog,
        limits: HandlerLimits,
        ids: IdGenerator,
        clock: Clock,
        on_refusal: Callable[[HeadgateError], None],
        on_unauthenticated: Callable[[HeadgateError, bytes, str], None] = ignore_unauthenticated,
        on_rate_limited: RateLimitObserver = ignore_rate_limited,
        request_log: RequestLog = NO_REQUEST_LOG,
        workspaces: vmx.Workspaces = vmx.NO_WORKSPACES,
    ) -> None:
        """Take the parts of the data plane, and three observers.

        `on_unauthenticated` is called with the error, the token and the client's address for every
        request without a valid key; `on_rate_limited` for every one that a limit of the gateway
        refuses with 429.
        """
        self._grants = grants
        self._pipeline = pipeline
        self._models = models
        self._embeddings = embeddings
        self._token_counts = token_counts
        self._idempotent_calls = idempotent_calls
        self._concurrency = concurrency
        self._admission = admission
        self._bodies = bodies
        self._signatures = signatures
        self._provider = provider
        self._catalog = catalog
        self._header_actions = _HeaderActions(provider.request_headers)
        self._routes = routes.RouteTable(provider.endpoints)
        self._limits = limits
        self._ids = ids
        self._clock = clock
        self._on_refusal = on_refusal
        self._on_unauthenticated = on_unauthenticated
        self._on_rate_limited = on_rate_limited
        self._request_log = request_log
        self._workspaces = workspaces
        self._encoder = OpenAiEncoder(provider, limits.retry_after_max_seconds, clock)
        self._body_bytes_max = {
            Body.NONE: limits.json_body_bytes_max,
            Body.JSON: limits.json_body_bytes_max,
            Body.FORM: limits.form_body_bytes_max,
            Body.RAW: limits.raw_body_bytes_max,
        }

    def open(self, exchange: InboundExchange) -> None:
        """Authenticate the request, and find its endpoint and the limits of its body."""
        request_head = RequestHead(self._clock.monotonic(), self._ids.make("req"))
        exchange.request_head = request_head
        self._read_headers(exchange, request_head)
        if request_head.other_tokens or request_head.authorizations > 1 or not request_head.token:
            choose_token(request_head, self._grants)
        if exchange.method not in METHODS:
            raise UnknownMethodError(f"The method {exchange.method.decode()} is not supported.")
        grant = self._grants.find(request_head.token)
        if request_head.project_id is not None:
            grant = choose_project(grant, request_head.project_id)
        if grant.requires_signature or request_head.signature is not None:
            request_head.signed = self._signatures.check(
                grant, exchange.method, exchange.target, request_head.signature
            )
        request_head.grant = grant
        self._concurrency.check(grant.key_id)
        path, mark, query = exchange.target.partition(b"?")
        path = path[V1_BYTES:]
        if path[: vmx.PREFIX_BYTES] == vmx.PREFIX:
            path, grant = vmx.enter_workspace(path, grant, self._workspaces)
            request_head.grant = grant
            request_head.envelope = request_head.envelope or vmx.EMPTY
            request_head.headers = vmx.keep_passing_headers(request_head.headers)
            request_head.has_vmx_prefix = True
        request_head.path = (
            listing.unescape_slashes(path) if path.startswith(listing.BELOW) else path
        )
        request_head.query = mark + query
        request_head.method = exchange.method.decode()
        try:
            request_head.endpoint = endpoint = self._routes.match(
                request_head.method, request_head.path.decode("latin-1")
            )
        except routes.UnknownUrlError as error:
            known = exchange.base_url
            path = request_head.path.decode("latin-1")
            error.message += (
                f" It should be {routes.find_client_base_url(known, path, exchange.headers)}"
            )
            raise
        exchange.may_take_long = endpoint.body in (Body.FORM, Body.RAW)
        exchange.body_bytes_max = bytes_max = self._body_bytes_max[endpoint.body]
        if exchange.content_length is not None and exchange.content_length > bytes_max:
            raise RequestTooLargeError(describe_limit(bytes_max))
        if request_head.coding not in PLAIN_CODINGS and endpoint.body is not Body.RAW:
            decompression.check_coding(
                request_head.coding.decode("latin-1"), accepted=self._limits.decodes
            )
        if request_head.content_type not in JSON_TYPES:
            check_content_type(endpoint, request_head.content_type)
        exchange.streams_body = endpoint.body is Body.RAW and not exchange.body_complete
        self._reserve_memory(exchange, grant, endpoint)

    def _reserve_memory(self, exchange: InboundExchange, grant: Grant, endpoint: Endpoint) -> None:
        """Check what needs no body, and reserve memory for it, before the body is asked for."""
        if endpoint.lists_models:
            self._models.check_visible(exchange.request_head.path, grant)
        if grant.is_restricted:
            self._admission.check_head(grant, endpoint, exchange)
        elif endpoint.unsupported or endpoint.restricted:
            check_endpoint(grant, endpoint)
        size = exchange.content_length
        if exchange.streams_body:
            size = BUFFERED_BODY_BYTES if size is None else min(size, BUFFERED_BODY_BYTES)
        if size:
            self._bodies.take(grant.key_id, size)
            exchange.held_bytes = size
        exchange.budget, exchange.budget_key_id = self._bodies, grant.key_id

    async def run(self, exchange: InboundExchange) -> None:
        request_head: RequestHead = exchange.request_head
        try:
            call = self._decode_call(exchange, request_head)
            if request_head.signed is not None:
                await self._signatures.claim(request_head.signed)
            is_embedding = call.endpoint.name == "embeddings"
            call.bypasses_cache = is_embedding and bypasses_cache(exchange.headers)
            caller: Caller = exchange
            if call.grant.project_id in self._request_log.projects:
                caller = self._begin_record(call, exchange, request_head)
            encoder: ResponseEncoder = self._encoder
            if call.envelope is not None:
                caller, encoder = vmx_answers.decorate(call, caller, encoder, self._clock)
            if call.endpoint.lists_models:
                await self._models.run(call, caller, exchange.headers)
            elif call.endpoint.name == "messages":
                await self._run_messages(call, exchange, request_head, caller, encoder)
            elif request_head.idempotency_key is None:
                pipeline = self._embeddings if is_embedding else self._pipeline
                await pipeline.run(call, caller, encoder)
            else:
                key = request_head.idempotency_key
                await self._idempotent_calls.run(call, key, request_head.token, caller, encoder)
        except HeadgateError as error:
            self.refuse(exchange, error)
        # An unexpected error must not leave the client without a response. The log has its details.
        except Exception:
            log.exception("gateway.fault", request_id=request_head.request_id)
            self.refuse(exchange, InternalError.for_request(request_head.request_id))
        finally:
            # The exchange, which the record refers to, refers to it.
            request_head.record = None

    def _begin_record(
        self, call: Call, exchange: InboundExchange, request_head: RequestHead
    ) -> Caller:
        """Let the request log follow the call; return the caller that it listens to."""
        caller = self._request_log.begin(
            call, exchange, target=exchange.target, headers=exchange.headers
        )
        request_head.record = call.record
        return caller

    async def _run_messages(
        self,
        call: Call,
        exchange: InboundExchange,
        request_head: RequestHead,
        caller: Caller,
        encoder: ResponseEncoder,
    ) -> None:
        """Answer a call of Anthropic's API: as one of Responses, or with a count of its tokens."""
        if call.endpoint.pricing is Pricing.FREE:
            await self._token_counts.run(call, caller)
            return
        key = request_head.idempotency_key
        if key is not None:
            call.digest = digest_call(call)
        converted = convert_call(call, self._catalog, self._limits.json)
        assert isinstance(call.body, request.JsonRequest)
        # It is held beside the client's own body, so it is counted as well.
        exchange.reserve_memory(len(call.body.body))
        converter = MessagesCaller(caller, converted)
        encoder = MessagesEncoder(encoder, converted)
        if key is None:
            await self._pipeline.run(call, converter, encoder)
        else:
            await self._idempotent_calls.run(call, key, request_head.token, converter, encoder)

    def cancel(self, exchange: InboundExchange, key_ids: frozenset[str]) -> bool:
        """Cancel a running call of one of these keys, and return whether it did. A response that is
        complete is still sent."""
        request_head: RequestHead | None = exchange.request_head
        if request_head is None or request_head.grant is None or exchange.task is None:
            return False
        if request_head.grant.key_id not in key_ids or not exchange.has_listener:
            return False
        return exchange.task.cancel(KeyRevokedError.during_call())

    def _read_headers(self, exchange: InboundExchange, request_head: RequestHead) -> None:
        """Read the headers in one pass, and keep those that go on to the provider."""
        actions = self._header_actions
        named: frozenset[bytes] = NO_NAMES
        for header in exchange.headers:
            name, value = header
            action = actions[name]
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

    def _decode_call(self, exchange: InboundExchange, request_head: RequestHead) -> Call:
        endpoint, grant = request_head.endpoint, request_head.grant
        assert endpoint is not None
        assert grant is not None
        body: request.JsonRequest | bytes | AsyncIterator[bytes] = b""
        model: str | None = None
        streams = exchange.streams_body and not exchange.body_complete
        if streams:
            body = exchange.stream_body()
            if request_head.signed is not None:
                body = check_stream(request_head.signed, body)
        else:
            body = data = self._take_body(exchange, request_head, endpoint)
            if (
                endpoint.body is Body.FORM
                and request_head.content_type[:10].lower() == b"multipart/"
            ):
                content_type = request_head.content_type.decode("latin-1")
                model = form.read_model(data, content_type, self._limits.form, endpoint.checked)
            elif endpoint.body in (Body.JSON, Body.FORM):
                body = request.decode(data, self._limits.json, endpoint.checked)
                model = body.model
        call = Call(
            request_head.request_id,
            grant,
            endpoint,
            request_head.method,
            request_head.path,
            request_head.query,
            request_head.headers,
            body,
            request_head.started_at,
            model,
            exchange.content_length if streams else None,
            request_head.credential_name,
            request_head.correlation_id,
            (),
            request_head.fits_budget,
            0,
            request_head.metadata,
            is_strict=request_head.is_strict,
        )
        if request_head.envelope is not None or (
            type(body) is request.JsonRequest and body.has_envelopes
        ):
            self._add_envelope(call, request_head)
        return call

    def _add_envelope(self, call: Call, request_head: RequestHead) -> None:
        """Put into a call what the envelope of VM-X says, and what its headers and prefix say."""
        # Below the prefix, a name that nobody knows is not passed on to a provider.
        is_unknown = (
            request_head.has_vmx_prefix
            and call.model is not None
            and self._catalog.match(call.model).model is None
        )
        vmx.add_envelope(call, request_head.envelope, needs_resource=is_unknown)
        request_head.envelope, request_head.metadata = call.envelope, call.metadata
        request_head.correlation_id = call.correlation_id

    def _take_body(
        self, exchange: InboundExchange, request_head: RequestHead, endpoint: Endpoint
    ) -> bytes:
        data = exchange.take_body()
        if request_head.signed is not None:
            check_body(request_head.signed, data)
        if request_head.coding in PLAIN_CODINGS or endpoint.body is Body.RAW:
            return data
        request_head.headers = [
            each for each in request_head.headers if each[0] != b"content-encoding"
        ]
        data = decompression.decompress(
            data,
            request_head.coding.decode("latin-1"),
            body_bytes_max=exchange.body_bytes_max,
            ratio_max=self._limits.decode_ratio_max,
        )
        exchange.reserve_memory(len(data))
        return data

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        request_head: RequestHead | None = exchange.request_head
        if request_head is None:
            request_head = RequestHead(self._clock.monotonic(), self._ids.make("req"))
        self._on_refusal(error)
        if error.kind is Kind.UNAUTHENTICATED and request_head.grant is None:
            self._on_unauthenticated(error, request_head.token, try_client_address(exchange))
        if error.kind is Kind.LIMITED and request_head.grant is not None:
            self._on_rate_limited(error, request_head.grant, request_head.request_id)
        grant = request_head.grant
        has_answer = not exchange.response_started
        head = self._render_refusal(exchange, request_head, error) if has_answer else b""
        body = (
            errors.encode_body(error, exchange.target, request_head.request_id, exchange.headers)
            if has_answer
            else b""
        )
        if grant is not None and grant.project_id in self._request_log.projects:
            self._record_refusal(exchange, request_head, grant, error, head, body)
        if has_answer:
            exchange.answer(error.kind.value, head, body)
        else:
            exchange.finish(complete=False)

    def _render_refusal(
        self, exchange: InboundExchange, request_head: RequestHead, error: HeadgateError
    ) -> bytes:
        request_id = request_head.request_id.encode()
        head = errors.encode_head(
            error, retry_after_max_seconds=self._limits.retry_after_max_seconds
        )
        if isinstance(error, RateLimitedError):
            head += render_rate_limits(error.rate_limits) + render_rate_limits(
                error.rate_limits, PLAIN_RATE_PREFIX
            )
        head += b"x-request-id: %b\r\nx-headgate-request-id: %b\r\n" % (request_id, request_id)
        if errors.is_for_anthropic(exchange.target, exchange.headers):
            head += b"request-id: %b\r\n" % request_id
        if request_head.correlation_id is not None:
            head += b"x-headgate-correlation-id: %b\r\n" % encode_name(request_head.correlation_id)
        if request_head.envelope is not None:
            head += vmx_answers.render_request(
                request_head.request_id, request_head.envelope, request_head.correlation_id
            )
        return head

    def _record_refusal(
        self,
        exchange: InboundExchange,
        request_head: RequestHead,
        grant: Grant,
        error: HeadgateError,
        head: bytes,
        body: bytes,
    ) -> None:
        """Tell the request log of a refusal: of a call that it follows, or of a request before
        it."""
        if request_head.record is not None:
            request_head.record.fail(error, head, body)
            return
        refused = RefusedRequest(
            request_head.request_id,
            grant,
            request_head.endpoint.name if request_head.endpoint is not None else "",
            exchange.method.decode("latin-1"),
            exchange.target.partition(b"?")[0].decode("latin-1"),
            try_client_address(exchange),
            find_header(exchange.headers, b"user-agent"),
            request_head.correlation_id,
            request_head.metadata,
            request_head.started_at,
        )
        self._request_log.refuse(refused, error)


def find_header(headers: Headers, name: bytes) -> str:
    """Return the first value of a header as text, empty without one."""
    for each, value in headers:
        if each == name:
            return value.decode("utf-8", "replace")
    return ""


def bypasses_cache(headers: Headers) -> bool:
    """Return whether a client asks for an answer that comes from no cache and enters none."""
    for name, value in headers:
        if name == b"cache-control":
            directives = {each.strip().lower() for each in value.split(b",")}
            if not directives.isdisjoint(UNCACHED):
                return True
        elif name == b"x-headgate-cache" and value.strip().lower() == b"bypass":
            return True
    return False


def check_content_type(endpoint: Endpoint, content_type: bytes) -> None:
    """Raise `UnsupportedContentTypeError` for a type that the endpoint cannot read."""
    kind = content_type.partition(b";")[0].strip().lower()
    is_json = kind == b"application/json" or kind.endswith(b"+json")
    is_form = kind.startswith(b"multipart/") and endpoint.body is Body.FORM
    if endpoint.body in (Body.JSON, Body.FORM) and not is_json and not is_form:
        expected = "application/json"
        if endpoint.body is Body.FORM:
            expected = "multipart/form-data"
        shown = kind[:64].decode("ascii", "replace")
        raise UnsupportedContentTypeError(
            f"Unsupported content type: '{shown}'. This endpoint accepts {expected}."
        )


def try_client_address(exchange: InboundExchange) -> str:
    """Return the client's address, empty where proxies name a malformed one."""
    try:
        return exchange.client_address
    except HeadgateError:
        return ""


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
    b"x-headgate-signature": _read_signature,
    b"x-vmx-correlation-id": _read_vmx_correlation,
    b"idempotency-key": _read_idempotency_key,
    b"expect": _read_expect,
    b"te": _read_te,
}


class _HeaderActions(dict[bytes, "HeaderAction | HeaderReader"]):
    """Map header names to actions; a name is judged once and remembered."""

    def __init__(self, denied: HeaderDenylist) -> None:
        super().__init__(HEADER_ACTIONS)
        self._denied = denied

    def __missing__(self, name: bytes) -> HeaderAction | HeaderReader:
        action: HeaderAction | HeaderReader
        if name.startswith(vmx.METADATA_PREFIX):
            action = functools.partial(_read_vmx_metadata, name)
        else:
            action = HeaderAction.DROP if self._denied.denies(name) else HeaderAction.FORWARD
        if len(self) < KNOWN_NAMES_MAX and len(name) <= KNOWN_NAME_BYTES_MAX:
            self[name] = action
        return action

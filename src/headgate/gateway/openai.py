"""Handle requests to the OpenAI API: decode the request, run it through the pipeline, answer."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from headgate.gateway import decompression, errors, listing, refusals, vmx, vmx_answers
from headgate.gateway.call_decoder import (
    JSON_TYPES,
    PLAIN_CODINGS,
    CallDecoder,
    HandlerLimits,
    check_content_type,
)
from headgate.gateway.encoder import OpenAiEncoder
from headgate.gateway.exchange import (
    BUFFERED_BODY_BYTES,
    InboundExchange,
    RequestTooLargeError,
    describe_limit,
)
from headgate.gateway.messages import MessagesCaller, MessagesEncoder, convert_call
from headgate.gateway.models import ModelsPipeline
from headgate.gateway.request_head import HeaderActions, RequestHead, choose_token
from headgate.gateway.token_counts import TokenCounts
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.kit.ids import IdGenerator
from headgate.llm import request, routes
from headgate.llm.endpoint import MESSAGES, Body, Endpoint, Pricing
from headgate.llm.providers.provider import Provider
from headgate.relay.admission import Admission, check_endpoint, choose_project
from headgate.relay.body_budget import BodyBudget
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import InternalError, KeyRevokedError
from headgate.relay.client_response import ResponseEncoder
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.idempotency import IdempotentCalls, digest_call
from headgate.relay.pipeline import CallPipeline
from headgate.relay.ports import Grant, Grants, ModelCatalog
from headgate.relay.request_log import NO_REQUEST_LOG, RequestLog
from headgate.signatures.model import Signatures

V1_BYTES = len(b"/v1")
METHODS = frozenset(method.encode() for method in routes.METHODS)
UNCACHED = frozenset((b"no-cache", b"no-store"))


log = structlog.get_logger(__name__)


class UnknownMethodError(HeadgateError):
    """The HTTP method is not known.

    Use the method that the documentation of the address names.
    """

    kind = Kind.METHOD
    code = "method_not_allowed"


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
        takes_any_method: bool = False,
    ) -> None:
        """Take the parts of the data plane, and three observers.

        `on_unauthenticated` is called with the error, the token and the client's address for every
        request without a valid key; `on_rate_limited` for every one that a limit of the gateway
        refuses with 429. `takes_any_method` is `RouteTable.is_open`.
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
        self._header_actions = HeaderActions(provider.request_headers)
        self._routes = routes.RouteTable(provider.endpoints, is_open=takes_any_method)
        self._limits = limits
        self._decoder = CallDecoder(limits, catalog)
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
        self._header_actions.read(exchange, request_head)
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
            call = self._decoder.decode(exchange, request_head)
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
            elif call.endpoint.name == MESSAGES:
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

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        request_head: RequestHead | None = exchange.request_head
        if request_head is None:
            request_head = RequestHead(self._clock.monotonic(), self._ids.make("req"))
        self._on_refusal(error)
        if error.kind is Kind.UNAUTHENTICATED and request_head.grant is None:
            self._on_unauthenticated(
                error, request_head.token, refusals.try_client_address(exchange)
            )
        if error.kind is Kind.LIMITED and request_head.grant is not None:
            self._on_rate_limited(error, request_head.grant, request_head.request_id)
        grant = request_head.grant
        head = body = b""
        if not exchange.response_started:
            head = refusals.encode_head(
                error, exchange, request_head, self._limits.retry_after_max_seconds
            )
            body = errors.encode_body(
                error, exchange.target, request_head.request_id, exchange.headers
            )
        if grant is not None and grant.project_id in self._request_log.projects:
            self._record_refusal(exchange, request_head, grant, error, head, body)
        if exchange.response_started:
            exchange.finish(complete=False)
        else:
            exchange.answer(error.kind.value, head, body)

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
        refused = refusals.describe(exchange, request_head, grant)
        self._request_log.refuse(refused, error)


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

"""Wiring of the data plane: each part of the call pipeline with its settings."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import uvicorn

from headgate.billing.service.claimed_calls import ClaimedCalls
from headgate.billing.service.ledger import Ledger
from headgate.gateway.call_decoder import HandlerLimits
from headgate.gateway.catalog_models import CatalogModels
from headgate.gateway.conversions import ConversionTable
from headgate.gateway.cors import CorsPolicy
from headgate.gateway.edge import Edge, RequestHandler
from headgate.gateway.embedding_cache import EmbeddingCache
from headgate.gateway.forwarding import Networks, parse_networks
from headgate.gateway.hosts import HostAllowlist
from headgate.gateway.limits import EdgeLimits
from headgate.gateway.model_metadata import ModelMetadata
from headgate.gateway.models import ModelsBackend, ModelsEncoder, ModelsPipeline
from headgate.gateway.openai import (
    OpenAiHandler,
    RateLimitObserver,
    ignore_rate_limited,
    ignore_unauthenticated,
)
from headgate.gateway.token_counts import TokenCounts
from headgate.kit.clock import SteadyClock
from headgate.kit.db.cache_store import CacheStore
from headgate.kit.db.claim_store import ClaimStore
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.kit.http.addresses import is_public_host
from headgate.kit.http.client import HttpClient
from headgate.kit.http.message import Client, Timeouts
from headgate.kit.json_limits import JsonLimits
from headgate.kit.process.memory import find_memory_bytes
from headgate.llm.form import FormLimits
from headgate.llm.providers import openai
from headgate.main.application import Application
from headgate.relay.admission import Admission
from headgate.relay.backend import ReceiptObserver
from headgate.relay.background import BackgroundCalls
from headgate.relay.balancing import Balancer
from headgate.relay.body_budget import BodyBudget
from headgate.relay.breaker import Breakers
from headgate.relay.call import Call, Caller
from headgate.relay.client_response import ResponseEncoder, ResponseFactory
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.content import ContentFetcher
from headgate.relay.disconnects import Drains
from headgate.relay.idempotency import IdempotentCalls
from headgate.relay.managed_calls import ManagedCallLimiter
from headgate.relay.pipeline import CallPipeline
from headgate.relay.ports import DisconnectPolicy, Grants
from headgate.relay.request_log import NO_REQUEST_LOG, RequestLog
from headgate.relay.reservation import Reservation
from headgate.relay.retry import RetryPolicy
from headgate.relay.routing import Routing
from headgate.relay.stream_usage import UsageRefusals
from headgate.relay.upstream import Upstream
from headgate.request_log.service.recorder import RequestRecorder
from headgate.settings import Settings
from headgate.signatures.service import NonceStore, RequestSignatures
from headgate.telemetry.observers import Observers

MEMORY_SHARE = 4
"""Bodies may take a quarter of the memory; the rest is for their decoded forms."""


class Pipelines(msgspec.Struct, frozen=True):
    calls: CallPipeline
    embeddings: CallPipeline
    idempotent_calls: IdempotentCalls
    models: ModelsPipeline
    admission: Admission
    signatures: RequestSignatures
    token_counts: TokenCounts


class Traffic(msgspec.Struct, frozen=True):
    concurrency: ConcurrencyLimiter
    breakers: Breakers
    drains: Drains
    bodies: BodyBudget
    balancer: Balancer

    @property
    def gauges(self) -> Mapping[str, Callable[[], float]]:
        return {
            "breakers_open": lambda: self.breakers.open,
            "credentials_ejected": lambda: self.balancer.ejected,
            "drains": lambda: self.drains.active,
            "calls_admitted": lambda: self.concurrency.running,
            "calls_of_one_key_max": lambda: self.concurrency.calls_per_key_max,
            "bodies_bytes": lambda: self.bodies.taken,
        }

    @property
    def counters(self) -> Mapping[str, Callable[[], float]]:
        return {
            "breaker_openings": lambda: self.breakers.openings,
            "credential_ejections": lambda: self.balancer.ejections,
            "bodies_refused": lambda: self.bodies.refusals,
        }


def build_observers(settings: Settings, server: uvicorn.Server, client: HttpClient) -> Observers:
    return Observers(
        {
            "connections": lambda: len(server.server_state.connections),
            "requests_in_flight": lambda: len(server.server_state.tasks),
            "provider_connections": lambda: client.stats().open,
            "provider_connections_idle": lambda: client.stats().idle,
            "provider_connections_awaited": lambda: client.stats().waiting,
        },
        access_log=settings.access_log,
        spans=bool(settings.otel_endpoint),
    )


def build_ledger(settings: Settings, application: Application, writer: Writer) -> Ledger:
    """Build the ledger on the writer's queues."""
    return Ledger(
        writer,
        application.clock,
        read_wanted=application.read_wanted,
        lease_seconds=settings.hold_lease_seconds,
        now=application.database_clock.adjust(),
        budgets=application.budgets,
    )


def build_claims(settings: Settings, application: Application, writer: Writer) -> ClaimStore:
    """Build the store of idempotency keys and of the answers to their calls."""
    return ClaimStore(
        writer,
        SteadyClock(application.database_clock),
        keys_max=settings.idempotency_keys_max,
        bytes_max=settings.idempotency_bytes_max,
    )


def build_signatures(
    settings: Settings, application: Application, writer: Writer
) -> RequestSignatures:
    """Build what checks signed requests, with the store of their nonces."""
    clock = application.steady_clock
    return RequestSignatures(
        application.signing_secret_index,
        NonceStore(writer, clock, rows_max=settings.signature_nonces_max),
        clock,
        window_seconds=settings.signature_window_seconds,
    )


def build_cache(settings: Settings, application: Application, writer: Writer) -> CacheStore:
    """Build the store of cached embeddings."""
    return CacheStore(
        application.database,
        writer,
        application.steady_clock,
        bytes_max=settings.embedding_cache_bytes_max,
    )


def build_request_recorder(
    settings: Settings, application: Application, writer: Writer
) -> RequestRecorder:
    """Build what keeps the requests of projects that ask for it."""
    return RequestRecorder(
        writer,
        application.request_log_index,
        application.sealer,
        application.clock,
        payload_bytes_max=settings.request_log_payload_bytes_max,
        pending_bytes_max=settings.request_log_pending_bytes_max,
    )


def build_handler(
    settings: Settings,
    application: Application,
    *,
    pipelines: Pipelines,
    traffic: Traffic,
    on_refusal: Callable[[HeadgateError], None],
    on_unauthenticated: Callable[[HeadgateError, bytes, str], None] = ignore_unauthenticated,
    on_rate_limited: RateLimitObserver = ignore_rate_limited,
    request_log: RequestLog = NO_REQUEST_LOG,
    grants: Grants | None = None,
    takes_any_method: bool = False,
) -> OpenAiHandler:
    """Build the handler of a data plane. `grants` take the place of the index of keys."""
    return OpenAiHandler(
        grants=grants or application.key_index,
        pipeline=pipelines.calls,
        models=pipelines.models,
        embeddings=pipelines.embeddings,
        token_counts=pipelines.token_counts,
        idempotent_calls=pipelines.idempotent_calls,
        concurrency=traffic.concurrency,
        admission=pipelines.admission,
        bodies=traffic.bodies,
        signatures=pipelines.signatures,
        provider=openai.PROVIDER,
        catalog=application.catalog,
        limits=build_handler_limits(settings),
        ids=application.ids,
        clock=application.clock,
        on_refusal=on_refusal,
        on_unauthenticated=on_unauthenticated,
        on_rate_limited=on_rate_limited,
        request_log=request_log,
        workspaces=application.workspace_index,
        takes_any_method=takes_any_method,
    )


def build_pipelines(
    settings: Settings,
    application: Application,
    *,
    ledger: Ledger,
    claims: ClaimStore,
    client: Client,
    traffic: Traffic,
    observer: ReceiptObserver,
    background: BackgroundCalls | None = None,
) -> Pipelines:
    """Build the pipeline of every call, and the one for lists of models."""
    clock, catalog = application.clock, application.catalog
    refusals = UsageRefusals()
    upstream = build_upstream(settings, application, client, traffic.breakers, refusals)
    managed_calls = ManagedCallLimiter(clock, application.plan_limits)
    admission = Admission(
        application.rate_limiter, traffic.concurrency, catalog, managed_calls=managed_calls
    )
    build_pipeline = functools.partial(
        CallPipeline,
        admission=admission,
        reservation=build_reservation(settings, application, ledger, managed_calls),
        responses=ResponseFactory(
            clock,
            body_bytes_max=settings.response_body_bytes_max,
            event_bytes_max=settings.event_bytes_max,
        ),
        models=catalog,
        settlement=ledger,
        drains=traffic.drains,
        observer=observer,
        clock=clock,
        background=background,
        route_observer=application.error_rates,
        resources=application.resource_index,
        balancer=application.balancer,
        capacity=application.capacity,
    )
    route = functools.partial(
        Routing,
        application.credential_resolver,
        catalog,
        managed_routes=application.managed_routes,
        usage_refusals=refusals,
        conversions=ConversionTable(),
    )
    models = build_models_backend(settings, application, upstream)
    encoder = ModelsEncoder(openai.PROVIDER, settings.retry_after_max_seconds, clock, models)
    # A cached list can be served while the breaker of its provider is open; `Upstream` checks the
    # breakers again before it asks the provider.
    no_breakers = Breakers(clock, failures=0)
    calls = build_pipeline(routing=route(breakers=traffic.breakers), upstream=upstream)
    cached = build_embedding_cache(settings, application, upstream, claims.writer)
    embeddings = build_pipeline(routing=route(breakers=traffic.breakers), upstream=cached)
    return Pipelines(
        calls,
        embeddings,
        build_idempotent_calls(settings, calls, embeddings, ledger=ledger, claims=claims),
        ModelsPipeline(
            build_pipeline(routing=route(breakers=no_breakers), upstream=models), encoder
        ),
        admission,
        build_signatures(settings, application, claims.writer),
        TokenCounts(admission, catalog, ContentFetcher(client)),
    )


def build_reservation(
    settings: Settings, application: Application, ledger: Ledger, managed_calls: ManagedCallLimiter
) -> Reservation:
    """Build what sets money aside for calls."""
    return Reservation(
        ledger,
        application.catalog,
        application.clock,
        budgets=application.budgets,
        managed_calls=managed_calls,
        timeouts=msgspec.convert(settings, Timeouts, from_attributes=True),
        tool_calls_assumed=settings.held_tool_calls,
    )


def build_upstream(
    settings: Settings,
    application: Application,
    client: Client,
    breakers: Breakers,
    refusals: UsageRefusals,
) -> Upstream:
    """Build what sends calls to providers."""
    return Upstream(
        client,
        policy=build_retry_policy(settings),
        timeouts=msgspec.convert(settings, Timeouts, from_attributes=True),
        breakers=breakers,
        clock=application.clock,
        capacity_recorder=application.capacity_tracker,
        usage_refusals=refusals,
    )


def build_idempotent_calls(
    settings: Settings,
    calls: CallPipeline,
    embeddings: CallPipeline,
    *,
    ledger: Ledger,
    claims: ClaimStore,
) -> IdempotentCalls:
    def run(call: Call, caller: Caller, encoder: ResponseEncoder) -> Awaitable[None]:
        pipeline = embeddings if call.endpoint.name == "embeddings" else calls
        return pipeline.run(call, caller, encoder)

    return IdempotentCalls(
        run,
        claims,
        ClaimedCalls(ledger, claims),
        answer_bytes_max=settings.idempotency_answer_bytes_max,
    )


def build_embedding_cache(
    settings: Settings, application: Application, upstream: Upstream, writer: Writer
) -> EmbeddingCache:
    return EmbeddingCache(
        upstream,
        build_cache(settings, application, writer),
        application.clock,
        body_bytes_max=settings.response_body_bytes_max,
    )


def build_models_backend(
    settings: Settings, application: Application, upstream: Upstream
) -> ModelsBackend:
    """Build the backend of `/v1/models`."""
    catalog, clock = application.catalog, application.clock
    metadata = ModelMetadata(catalog, application.latencies.find, clock)
    return ModelsBackend(
        upstream,
        metadata,
        application.managed_routes,
        CatalogModels(catalog, application.credential_resolver, metadata, clock),
        clock=clock,
        cache_seconds=settings.models_cache_seconds,
        find_hidden=application.catalog_settings.hidden,
        resources=application.resource_index,
    )


def build_traffic(settings: Settings, application: Application) -> Traffic:
    return Traffic(
        ConcurrencyLimiter(
            settings.requests_in_flight_max, lag_seconds_max=settings.loop_lag_seconds_max
        ),
        Breakers(
            application.clock,
            failures=settings.breaker_failures,
            open_seconds=settings.breaker_open_seconds,
        ),
        Drains(
            policy=DisconnectPolicy(settings.disconnect_policy),
            drain_seconds=settings.drain_seconds,
            drains_max=settings.drains_max,
        ),
        BodyBudget(settings.bodies_bytes_max or find_memory_bytes() // MEMORY_SHARE),
        application.balancer,
    )


def build_retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        retries_max=settings.retries_max,
        budget_ratio=settings.retry_budget_ratio,
        budget_floor_per_second=settings.retry_budget_floor_per_second,
        wait_max_seconds=settings.retry_wait_max_seconds,
        advice_max_seconds=settings.retry_after_max_seconds,
    )


def build_handler_limits(settings: Settings) -> HandlerLimits:
    return HandlerLimits(
        json_body_bytes_max=settings.json_body_bytes_max,
        form_body_bytes_max=settings.form_body_bytes_max,
        raw_body_bytes_max=settings.raw_body_bytes_max,
        json=JsonLimits(
            depth_max=settings.json_depth_max,
            keys_max=settings.json_keys_max,
            items_max=settings.json_items_max,
        ),
        form=FormLimits(settings.form_parts_max, settings.form_part_header_bytes_max),
        decodes=settings.decode_request_bodies,
        decode_ratio_max=settings.decode_ratio_max,
        retry_after_max_seconds=settings.retry_after_max_seconds,
    )


def build_edge(settings: Settings, handler: RequestHandler) -> Edge:
    return Edge(
        handler,
        msgspec.convert(settings, EdgeLimits, from_attributes=True),
        hosts=HostAllowlist(settings.allowed_hosts, is_public=is_public_host(settings.host)),
        trusted_proxies=build_trusted_proxies(settings),
        cors=build_cors(settings),
    )


def build_cors(settings: Settings) -> CorsPolicy | None:
    """Build the CORS policy; None where no origin is allowed. Raise `InvalidCorsOriginError`."""
    return CorsPolicy(settings.cors_origins) if settings.cors_origins else None


def build_trusted_proxies(settings: Settings) -> Networks:
    """Parse the networks of proxies that are trusted. Raise `InvalidTrustedProxiesError`."""
    return parse_networks(settings.trusted_proxies, allow_any=settings.trust_any_proxy)

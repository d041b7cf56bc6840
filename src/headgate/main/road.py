"""Builds the road of a call: every part of the journey with the settings that bound it."""

from __future__ import annotations

from collections.abc import Callable

from headgate.billing.service import Ledger
from headgate.gateway.limits import EdgeLimits
from headgate.gateway.openai import FaceLimits, OpenAiFace
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Client, Timeouts
from headgate.kit.settings import Settings
from headgate.llm.providers import openai
from headgate.main.installation import Installation
from headgate.relay.admission import Admission
from headgate.relay.attendance import Drains
from headgate.relay.delivery import Carriage
from headgate.relay.holding import Holding
from headgate.relay.journey import Journey, Observer
from headgate.relay.retry import RetryPolicy
from headgate.relay.routing import Routing
from headgate.relay.upstream import Upstream


def build_ledger(settings: Settings, installation: Installation, writer: Writer) -> Ledger:
    """The ledger, on the writer's lanes. Nobody subscribes to events yet, but for tests."""
    return Ledger(
        writer,
        installation.clock,
        subscribed=lambda _topic: settings.test_mode,
        lease_seconds=settings.hold_lease_seconds,
    )


def build_face(
    settings: Settings,
    installation: Installation,
    journey: Journey,
    on_refusal: Callable[[HeadgateError], None],
) -> OpenAiFace:
    """The OpenAI face before a journey."""
    return OpenAiFace(
        grants=installation.key_ring,
        journey=journey,
        provider=openai.PROVIDER,
        limits=build_face_limits(settings),
        ids=installation.ids,
        clock=installation.clock,
        on_refusal=on_refusal,
    )


def build_journey(
    settings: Settings,
    installation: Installation,
    *,
    ledger: Ledger,
    client: Client,
    observer: Observer,
) -> Journey:
    """The road that every face shares."""
    clock = installation.clock
    return Journey(
        admission=Admission(clock),
        routing=Routing(installation.vault, installation.catalog),
        holding=Holding(ledger, installation.catalog, clock),
        upstream=Upstream(
            client,
            policy=build_retry_policy(settings),
            timeouts=build_timeouts(settings),
            clock=clock,
        ),
        carriage=Carriage(
            clock,
            body_bytes_max=settings.response_body_bytes_max,
            event_bytes_max=settings.event_bytes_max,
        ),
        models=installation.catalog,
        settlement=ledger,
        drains=Drains(drain_seconds=settings.drain_seconds, drains_max=settings.drains_max),
        observer=observer,
        clock=clock,
    )


def build_timeouts(settings: Settings) -> Timeouts:
    """The deadlines of one attempt."""
    return Timeouts(
        connect_seconds=settings.connect_seconds,
        first_byte_seconds=settings.first_byte_seconds,
        idle_seconds=settings.idle_seconds,
        total_seconds=settings.total_seconds,
    )


def build_retry_policy(settings: Settings) -> RetryPolicy:
    """When a failed attempt is made again."""
    return RetryPolicy(
        retries_max=settings.retries_max,
        budget_ratio=settings.retry_budget_ratio,
        budget_floor_per_second=settings.retry_budget_floor_per_second,
    )


def build_face_limits(settings: Settings) -> FaceLimits:
    """What a request's body may be."""
    return FaceLimits(
        json_body_bytes_max=settings.json_body_bytes_max,
        form_body_bytes_max=settings.form_body_bytes_max,
        raw_body_bytes_max=settings.raw_body_bytes_max,
        retry_after_max_seconds=settings.retry_after_max_seconds,
    )


def build_edge_limits(settings: Settings) -> EdgeLimits:
    """What a connection may cost."""
    return EdgeLimits(
        header_bytes_max=settings.header_bytes_max,
        header_count_max=settings.header_count_max,
        target_bytes_max=settings.target_bytes_max,
        connections_max=settings.connections_max,
        requests_in_flight_max=settings.requests_in_flight_max,
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        write_seconds=settings.write_seconds,
        keepalive_seconds=settings.keepalive_seconds,
        allowed_hosts=frozenset(name.lower() for name in settings.allowed_hosts),
    )

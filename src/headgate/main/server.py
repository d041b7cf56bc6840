"""Runs one server process: open the data directory, build both planes, listen, drain, close."""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
from collections.abc import Collection, Coroutine
from typing import Any

import msgspec
import structlog
import uvloop

from headgate.api import app as api
from headgate.api.access_denials import AccessDenialLog
from headgate.billing.service.ledger import Ledger
from headgate.connectors.service.action_receipts import ActionReceipts
from headgate.data_directory import directory_lock
from headgate.data_directory.assets import build_storage_config
from headgate.data_directory.directory_lock import DirectoryLock
from headgate.data_directory.disk_space import explain_lack_of_room
from headgate.data_directory.rescue import DatabaseRescue
from headgate.gateway import cancellation
from headgate.gateway.openai import OpenAiHandler, RateLimitObserver
from headgate.kit import failpoint
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.engine import StorageUnavailableError
from headgate.kit.db.migration import UnusableSchemaError
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.kit.http.client import HttpClient
from headgate.kit.jobs import running
from headgate.kit.process import descriptors
from headgate.kit.process.collector import tune_collector
from headgate.kit.process.listener import open_listeners
from headgate.main import banner, data_plane, platform, waiting
from headgate.main.actions import InProcessModels
from headgate.main.application import Application, open_application
from headgate.main.background_jobs import BackgroundJobs
from headgate.main.capacity import share_capacity
from headgate.main.egress import check_authorities, open_client
from headgate.main.exposure import check_certificate, check_exposure
from headgate.main.first_start import (
    find_default_credential,
    prepare_credential,
    prepare_first_start,
)
from headgate.main.listening import Server, attach, create_server
from headgate.main.login_settings import check_login_settings
from headgate.main.mcp import build_mcp
from headgate.main.mcp_servers import (
    McpServerParts,
    build_mcp_server_tools,
    build_mcp_servers,
)
from headgate.main.payment_settings import check_payments
from headgate.main.replay import InProcessReplayer
from headgate.main.simulator import check_simulator, load_simulator
from headgate.main.webhooks import WebhookDelivery
from headgate.relay.body_budget import BodyBudget
from headgate.request_log.service.recorder import RequestRecorder
from headgate.settings import FAILPOINTS, Settings
from headgate.telemetry.observers import Observers
from headgate.vault.model.base_url import parse_base_url

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Raise a `HeadgateError` when the start is refused."""
    failpoint.arm(settings.failpoint, FAILPOINTS, test_mode=settings.test_mode)
    connections, requests = descriptors.share(
        settings.connections_max, settings.requests_in_flight_max
    )
    settings = msgspec.structs.replace(
        settings, connections_max=connections, requests_in_flight_max=requests
    )
    check_exposure(settings)
    check_certificate(settings)
    check_authorities(settings)
    check_login_settings(settings)
    check_payments(settings)
    build_storage_config(settings)
    check_simulator(settings)
    data_plane.build_trusted_proxies(settings)
    data_plane.build_cors(settings)
    listeners = open_listeners(settings.host, settings.port, hint="--port, or HEADGATE_PORT")
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        settings = msgspec.structs.replace(settings, port=listeners[0].getsockname()[1])
        while True:
            try:
                return _open_and_serve(settings, listeners)
            except (StorageUnavailableError, UnusableSchemaError, OSError) as error:
                reason = explain_lack_of_room(settings, error)
                if reason is None:
                    raise
            if not waiting.wait_for_room(settings, listeners, reason):
                return None


def _open_and_serve(settings: Settings, listeners: list[socket.socket]) -> None:
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(directory_lock.hold(settings, directory_lock.SERVE))
        application = open_application(settings)
        stack.callback(application.close)
        application.database.flush_wal()
        is_first = prepare_first_start(application)
        with application.database.transaction(exclusive=True) as connection:
            is_owner_missing = application.first_owner.invite(connection)
        start_state = banner.StartState(is_first=is_first, is_owner_missing=is_owner_missing)
        uvloop.run(_serve(settings, application, listeners, start_state=start_state, lock=lock))


async def _serve(
    settings: Settings,
    application: Application,
    listeners: list[socket.socket],
    *,
    start_state: banner.StartState,
    lock: DirectoryLock,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        settings = await _prepare_provider(settings, application, stack, lock)
        writer = Writer(application.database)
        server, rescue = create_server(settings), DatabaseRescue(settings)
        writer.start(server.stop_at_once, rescue=rescue)
        stack.push_async_callback(writer.stop)
        client = _open_client(settings, application, stack)
        observers = _start_observers(settings, application, server, client, stack)
        webhooks = _build_webhooks(settings, application, writer, stack, observers)
        ledger = data_plane.build_ledger(settings, application, writer)
        jobs = BackgroundJobs(
            settings,
            application,
            writer=writer,
            client=client,
            ledger=ledger,
            server=server,
            observe=observers.observe,
        )
        traffic = data_plane.build_traffic(settings, application)
        observers.watch({**jobs.gauges, **traffic.gauges}, traffic.counters)
        await jobs.prepare()
        requests = _build_requests(settings, application, jobs, server, stack)
        denials = platform.build_access_denial_log(application, writer, reload=jobs.reload)
        handler = _build_handler(
            settings,
            application,
            ledger=ledger,
            jobs=jobs,
            client=client,
            traffic=traffic,
            observers=observers,
            denials=denials,
            on_rate_limited=webhooks.notices.observe,
            requests=requests,
        )
        edge = data_plane.build_edge(settings, handler)
        app = await _build_app(
            application,
            writer,
            stack,
            background_jobs=jobs,
            ledger=ledger,
            client=client,
            observers=observers,
            denials=denials,
            requests=requests,
            bodies=traffic.bodies,
        )
        attach(server, app, edge)
        connections: Any = server.server_state.connections
        tasks = [
            *(edge.run(connections), jobs.run(), traffic.concurrency.watch(), webhooks.run()),
            _watch_keys(application, handler, connections, requests),
            _announce(server, settings, application, start_state),
        ]
        await stack.enter_async_context(running(*tasks))
        tune_collector()
        await server.serve(sockets=listeners)
        await _end_calls(server, jobs, writer, rescue)


async def _end_calls(
    server: Server, background_jobs: BackgroundJobs, writer: Writer, rescue: DatabaseRescue
) -> None:
    failpoint.failpoint("stopping")
    await server.end_calls()
    with contextlib.suppress(HeadgateError):
        await background_jobs.recover()
        await background_jobs.end()
    await rescue.check(writer)


def _start_observers(
    settings: Settings,
    application: Application,
    server: Server,
    client: HttpClient,
    stack: contextlib.AsyncExitStack,
) -> Observers:
    observers = data_plane.build_observers(settings, server, client)
    observers.start()
    stack.callback(observers.stop)
    share_capacity(settings, application, stack, observers)
    return observers


class InProcessParts(msgspec.Struct, frozen=True):
    recorder: RequestRecorder
    replayer: InProcessReplayer
    models: InProcessModels


def _build_requests(
    settings: Settings,
    application: Application,
    jobs: BackgroundJobs,
    server: Server,
    stack: contextlib.AsyncExitStack,
) -> InProcessParts:
    """Build what sends requests without a connection, and what records all."""
    stack.push_async_callback(jobs.recorder.drain)
    replayer = InProcessReplayer(settings, application, jobs.claims)
    stack.push_async_callback(replayer.close)
    models = InProcessModels(
        application.sealer,
        server.server_state.tasks,
        answer_bytes_max=settings.response_body_bytes_max,
    )
    return InProcessParts(jobs.recorder, replayer, models)


def _watch_keys(
    application: Application,
    handler: OpenAiHandler,
    connections: Collection[Any],
    requests: InProcessParts,
) -> Coroutine[Any, Any, None]:
    """Cancel the calls of keys that end: of clients, and of actions."""
    take = application.key_index.take_deactivated
    return cancellation.watch_keys(take, handler, connections, requests.models.running)


def _build_webhooks(
    settings: Settings,
    application: Application,
    writer: Writer,
    stack: contextlib.AsyncExitStack,
    observers: Observers,
) -> WebhookDelivery:
    client = _open_client(settings, application, stack)
    webhooks = WebhookDelivery(settings, application, writer, client)
    observers.watch(webhooks.gauges, webhooks.counters)
    return webhooks


async def _start_mcp_servers(
    application: Application,
    writer: Writer,
    stack: contextlib.AsyncExitStack,
    jobs: BackgroundJobs,
) -> McpServerParts:
    client = _open_client(application.settings, application, stack)
    storage = AsyncDatabase(application.database, writer, reload=jobs.reload)
    parts = build_mcp_servers(application, storage, client)
    await stack.enter_async_context(running(parts.run()))
    return parts


def _open_client(
    settings: Settings, application: Application, stack: contextlib.AsyncExitStack
) -> HttpClient:
    client = open_client(settings, application.egress_rules)
    stack.push_async_callback(client.close)
    return client


async def _announce(
    server: Server, settings: Settings, application: Application, start_state: banner.StartState
) -> None:
    if sys.stderr.isatty() or settings.simulator:
        await banner.show_banner(
            server, settings, start_state, find_default_credential(application)
        )


async def _build_app(
    application: Application,
    writer: Writer,
    stack: contextlib.AsyncExitStack,
    *,
    background_jobs: BackgroundJobs,
    ledger: Ledger,
    client: HttpClient,
    observers: Observers,
    denials: AccessDenialLog,
    requests: InProcessParts,
    bodies: BodyBudget,
) -> Any:
    mcp_servers = await _start_mcp_servers(application, writer, stack, background_jobs)
    services = platform.build_services(
        application,
        writer,
        reload=background_jobs.reload,
        client=client,
        settlement=ledger,
        observe=observers.observe,
        denials=denials,
        replayer=requests.replayer,
        models=requests.models,
        mcp=mcp_servers,
    )
    receipts = ActionReceipts(ledger, application.clock, observers.observe)
    tools = build_mcp_server_tools(application, mcp_servers, receipts)
    agents = build_mcp(
        application,
        writer,
        services,
        servers=tools,
        models=requests.models,
        bodies=bodies,
        log_call=None if observers.access_log is None else observers.log,
    )
    observers.watch(agents.gauges, agents.counters)
    stack.push_async_callback(agents.endpoint.close)
    return api.build_app(
        health=background_jobs,
        render_metrics=observers.render,
        make_id=application.ids.make,
        platform=[*platform.build_routes_of(services), *agents.routes],
    )


def _build_handler(
    settings: Settings,
    application: Application,
    *,
    ledger: Ledger,
    jobs: BackgroundJobs,
    client: HttpClient,
    traffic: data_plane.Traffic,
    observers: Observers,
    denials: AccessDenialLog,
    on_rate_limited: RateLimitObserver,
    requests: InProcessParts,
) -> OpenAiHandler:
    pipelines = data_plane.build_pipelines(
        settings,
        application,
        ledger=ledger,
        claims=jobs.claims,
        background=jobs.responses.calls,
        client=client,
        traffic=traffic,
        observer=observers,
    )
    idempotent_calls, recorder = pipelines.idempotent_calls, requests.recorder
    observers.watch(
        {},
        {
            "idempotent_replays": lambda: idempotent_calls.replays,
            "idempotency_conflicts": lambda: idempotent_calls.conflicts,
            "request_log_dropped": lambda: recorder.dropped,
            "request_payloads_dropped": lambda: recorder.payloads_dropped,
        },
    )
    build = functools.partial(
        data_plane.build_handler,
        settings,
        application,
        pipelines=pipelines,
        traffic=traffic,
        on_refusal=observers.metrics.count_refusal,
        on_unauthenticated=denials.record_model_call,
        on_rate_limited=on_rate_limited,
        request_log=recorder,
    )
    requests.replayer.connect(build(grants=requests.replayer.grants))
    requests.models.connect(build(grants=requests.models.grants, takes_any_method=True))
    return build()


async def _prepare_provider(
    settings: Settings,
    application: Application,
    stack: contextlib.AsyncExitStack,
    lock: DirectoryLock,
) -> Settings:
    """Prepare the credential of the environment, or start the simulator without one.

    Return the settings with the simulator's port; they are written into the lock's file, where
    commands find them.
    """
    url: str | None = None
    if settings.is_simulated:
        running = await load_simulator().start("127.0.0.1", settings.simulator_port)
        stack.push_async_callback(running.stop)
        url = f"{running.address}/v1"
        origin = parse_base_url(url)[0]
        application.allow(origin)
        settings = msgspec.structs.replace(settings, simulator_port=origin.port)
    prepare_credential(application, url)
    lock.write(directory_lock.describe(settings, directory_lock.SERVE))
    return settings

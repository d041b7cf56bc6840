"""`headgate requests`: list, show and follow requests, and send them again."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import sqlalchemy as sa
import typer

from headgate.api.schemas.requests import (
    RequestSelection,
    to_payload_response,
    to_replay_response,
    to_request_response,
)
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, parse_past
from headgate.cli.receipts import Organization
from headgate.cli.request_view import print_replay, print_request, print_requests, print_tail
from headgate.kit.db.snapshots import SnapshotReloader
from headgate.kit.db.writer import Writer
from headgate.kit.page_cursor import PageCursor
from headgate.main.application import Application
from headgate.main.replay import InProcessReplayer, open_replayer
from headgate.request_log.model.entry import (
    RequestEntry,
    RequestFilter,
    RequestList,
    RequestNotFoundError,
)
from headgate.request_log.model.payload import StoredExchange
from headgate.request_log.model.replay import ReplayResult, ReplayTarget
from headgate.request_log.service.replay import replay as replay_request
from headgate.request_log.service.tail import RequestTails

PAGE_ROWS = 500
DAY_SECONDS = 86_400

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List, show, follow and replay requests of the request log.",
)

Request = Annotated[str, typer.Argument(help="Request id (x-headgate-request-id).")]
Project = Annotated[str | None, typer.Option(help="Only requests of this project id.")]
Model = Annotated[str | None, typer.Option(help="Only requests for this model.")]
Resource = Annotated[str | None, typer.Option(help="Only requests to this resource.")]
Status = Annotated[int | None, typer.Option(help="Only requests of this HTTP status.")]
Failed = Annotated[
    bool | None, typer.Option("--failed/--succeeded", help="Only requests that failed, or did not.")
]


@app.callback()
def describe() -> None:
    """List, show, follow and replay requests of the request log."""


@app.command("list")
def list_requests(
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Number of requests, newest first.")
    ] = 50,
    since: Annotated[
        str | None, typer.Option(help="Only since an age such as 24h, or an ISO 8601 time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only before an age or a time.")] = None,
    key: Annotated[str | None, typer.Option(help="Only requests of this key id.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Only requests to this endpoint: chat.completions, ...")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option(help="Only requests of this outcome: completed, refused, ...")
    ] = None,
    correlation: Annotated[
        str | None, typer.Option(help="Only requests with this correlation id.")
    ] = None,
    project: Project = None,
    model: Model = None,
    resource: Resource = None,
    status: Status = None,
    failed: Failed = None,
) -> None:
    """List requests, newest first."""
    selection = RequestSelection(
        project_id=project,
        key_id=key,
        model=model,
        resource=resource,
        endpoint=endpoint,
        outcome=outcome,
        status=status,
        failed=failed,
        correlation_id=correlation,
    )
    with open_data_directory(data) as application, application.database.reading() as connection:
        now = application.clock.now()
        owner = application.accounts.find_organization(connection, organization)
        filters = msgspec.structs.replace(
            selection.select(owner.id, projects=()),
            since=None if since is None else parse_past(since, now),
            until=None if until is None else parse_past(until, now),
        )
        entries = _read_pages(application, connection, filters, limit)
    if as_json:
        typer.echo(msgspec.json.encode([to_request_response(entry) for entry in entries]))
        return
    print_requests(entries)


@app.command()
def show(
    request: Request,
    data: Data = None,
    as_json: Json = False,
    payload: Annotated[
        bool, typer.Option(help="Show the bodies as well, if they are kept.")
    ] = False,
) -> None:
    """Show a request, with its events and the parts of its time."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        entry = find_entry(application, connection, request)
        stored = open_stored(application, connection, entry) if payload else None
    shown = to_request_response(entry)
    bodies = None if stored is None else to_payload_response(entry, stored)
    if as_json:
        whole = msgspec.to_builtins(shown)
        if bodies is not None:
            whole["payload"] = msgspec.to_builtins(bodies)
        typer.echo(msgspec.json.encode(whole))
        return
    print_request(shown, bodies)


@app.command()
def tail(
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    seconds: Annotated[
        int, typer.Option(min=1, help="End after so many seconds; without it, with Ctrl-C.")
    ] = DAY_SECONDS,
    project: Project = None,
    model: Model = None,
    resource: Resource = None,
    status: Status = None,
    failed: Failed = None,
) -> None:
    """Print requests while they end, one line each. Every process of the server is followed."""
    selection = RequestSelection(
        project_id=project, model=model, resource=resource, status=status, failed=failed
    )
    with open_data_directory(data) as application:
        with application.database.reading() as connection:
            owner = application.accounts.find_organization(connection, organization)
        filters = selection.select(owner.id, projects=())
        try:
            asyncio.run(_follow(application, filters, seconds=seconds, as_json=as_json))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


@app.command()
def replay(
    request: Request,
    data: Data = None,
    as_json: Json = False,
    *,
    target: Annotated[
        ReplayTarget, typer.Option(help="Who answers: simulator, or provider (which costs).")
    ] = "simulator",
    credential: Annotated[
        str | None, typer.Option(help="Name or id of the credential that asks the provider.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Name of a field that may differ, such as id, created or vmx."),
    ] = None,
) -> None:
    """Send a kept request again, and show where the answers differ. The exit status is 1 where they
    do."""
    with open_data_directory(data) as application:
        with application.database.reading() as connection:
            entry = find_entry(application, connection, request)
            stored = open_stored(application, connection, entry)
        SnapshotReloader(application.database, application.load).reload()
        result = asyncio.run(
            _replay(
                application,
                entry,
                stored,
                target=target,
                credential=credential,
                ignored=ignore or (),
            )
        )
    if as_json:
        typer.echo(msgspec.json.encode(to_replay_response(result)))
    else:
        print_replay(to_replay_response(result))
    if not result.matches:
        raise typer.Exit(1)


def find_entry(
    application: Application, connection: sa.Connection, request_id: str
) -> RequestEntry:
    """Return a request of any organization. Raise `RequestNotFoundError`."""
    entry = application.request_log.find(connection, request_id)
    if entry is None:
        raise RequestNotFoundError(f"The request log has no request {request_id[:200]!r}.")
    return entry


def open_stored(
    application: Application, connection: sa.Connection, entry: RequestEntry
) -> StoredExchange:
    """Return the bodies of a request. Raise `PayloadNotKeptError`."""
    visible = RequestFilter(organization_id=entry.organization_id)
    sealer = application.unlock(connection).sealer
    return application.request_log.open_payload(connection, sealer, visible, entry.id)[1]


def _read_pages(
    application: Application, connection: sa.Connection, filters: RequestFilter, limit: int
) -> list[RequestEntry]:
    """Return up to `limit` requests, also beyond pages that end early."""
    found: list[RequestEntry] = []
    after: PageCursor | None = None
    while len(found) < limit:
        rows = min(PAGE_ROWS, limit - len(found))
        page = application.request_log.list(connection, filters, after=after, limit=rows)
        found += page.entries
        after = page.next
        if after is None:
            break
    return found


async def _follow(
    application: Application, filters: RequestFilter, *, seconds: int, as_json: bool
) -> None:
    tails = RequestTails(application.clock, seconds_max=seconds)

    def query(wanted: RequestFilter, limit: int) -> RequestList:
        with application.database.reading() as connection:
            return application.request_log.list(connection, wanted, after=None, limit=limit)

    async def read(wanted: RequestFilter, limit: int) -> RequestList:
        return await asyncio.to_thread(functools.partial(query, wanted, limit))

    async for entries in tails.follow(read, filters, seconds=seconds):
        for entry in entries:
            if as_json:
                typer.echo(msgspec.json.encode(to_request_response(entry)))
            else:
                print_tail(entry)


async def _replay(
    application: Application,
    entry: RequestEntry,
    stored: StoredExchange,
    *,
    target: ReplayTarget,
    credential: str | None,
    ignored: Collection[str],
) -> ReplayResult:
    async with _running(application) as replayer:
        return await replay_request(
            replayer, entry, stored, target=target, credential=credential, ignored=ignored
        )


@asynccontextmanager
async def _running(application: Application) -> AsyncGenerator[InProcessReplayer]:
    writer = Writer(application.database)
    writer.start()
    try:
        async with open_replayer(application, writer) as replayer:
            yield replayer
    finally:
        await writer.stop()

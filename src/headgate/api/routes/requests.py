"""The request log: what was asked, how it went, and on wish the bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.event_stream import MEDIA_TYPE, ServerSentEvents
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes.projects import find as find_project
from headgate.api.routes.resources import find as find_resource
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.requests import (
    ReplayFields,
    ReplayResponse,
    RequestLogFields,
    RequestLogResponse,
    RequestPage,
    RequestPayloadResponse,
    RequestQuery,
    RequestResponse,
    RequestTailQuery,
    ResourceErrorRateQuery,
    ResourceErrorRateResponse,
    to_payload_response,
    to_replay_response,
    to_request_log_response,
    to_request_response,
)
from headgate.kit.page_cursor import parse_page_cursor
from headgate.relay.request_log import AttemptFilter
from headgate.request_log.model.entry import (
    RequestEntry,
    RequestFilter,
    RequestList,
)
from headgate.request_log.model.payload import StoredExchange
from headgate.request_log.service.replay import replay

OPERATIONS = Operations(
    "Requests",
    "The request log: one row for each request to the model API, and on wish its bodies. A project "
    "chooses what it keeps.",
)
READ = organization("requests:read")
READ_PAYLOAD = organization("request_payloads:read")
DELETE_PAYLOAD = organization("request_payloads:write")
REPLAY = organization("request_replays:write")
READ_PROJECT = organization("projects:read")
WRITE_PROJECT = organization("projects:write")
COMMENT = b": nothing new\n\n"


@OPERATIONS.get("/api/requests", access=READ, summary="List requests")
async def list_requests(context: RequestContext[RequestQuery, Empty]) -> RequestPage:
    """Return requests of the projects that keep a request log, newest first: completed ones,
    refused ones, and those that failed or broke off. A page ends when it is full, or when 100,000
    rows were examined for its filters: pass `next_cursor` as `cursor` until there is none."""
    query = context.query
    filters = query.select(context.organization_id, projects=context.principal.projects)
    after = None if query.cursor is None else parse_page_cursor(query.cursor)
    page = await context.read(
        lambda connection: context.services.request_log.list(
            connection, filters, after=after, limit=query.limit
        )
    )
    responses = [to_request_response(entry) for entry in page.entries]
    return RequestPage(responses, None if page.next is None else str(page.next))


@OPERATIONS.get(
    "/api/requests/tail",
    access=READ,
    summary="Send requests as they end",
    media_types=(MEDIA_TYPE,),
)
async def tail_requests(context: RequestContext[RequestTailQuery, Empty]) -> ServerSentEvents:
    """Send requests as server-sent events while they end, for at most `seconds`. Each event is a
    request as in the list. A comment comes every 15 seconds where nothing happens. The stream ends
    when the caller may not read requests any more."""
    query = context.query
    filters = query.select(context.organization_id, projects=context.principal.projects)

    async def read(wanted: RequestFilter, limit: int) -> RequestList:
        return await context.read(
            lambda connection: context.services.request_log.list(
                connection, wanted, after=None, limit=limit
            )
        )

    async def encode() -> AsyncIterator[bytes]:
        tails = context.services.request_tails
        follow = tails.follow(read, filters, seconds=query.seconds, check=context.check_access)
        async for entries in follow:
            events = [
                b"event: request\nid: %b\ndata: %b\n\n"
                % (entry.id.encode(), msgspec.json.encode(to_request_response(entry)))
                for entry in entries
            ]
            yield b"".join(events) or COMMENT

    return await ServerSentEvents(encode()).begin()


@OPERATIONS.get("/api/requests/{request_id}", access=READ, summary="Read a request")
async def get_request(context: RequestContext[Empty, Empty]) -> RequestResponse:
    """Return a request by the `x-headgate-request-id` of its answer."""
    entry = await context.read(
        lambda connection: context.services.request_log.get(
            connection, make_visible(context), context.path["request_id"]
        )
    )
    return to_request_response(entry)


@OPERATIONS.get(
    "/api/requests/{request_id}/payload",
    access=READ_PAYLOAD,
    summary="Read the bodies of a request",
)
async def get_payload(context: RequestContext[Empty, Empty]) -> RequestPayloadResponse:
    """Return what the client sent, what the provider got, and what the client got. Attachments are
    digests, and what the project's limit cuts is marked."""
    services = context.services
    entry, stored = await context.read(
        lambda connection: services.request_log.open_payload(
            connection, services.sealer, make_visible(context), context.path["request_id"]
        )
    )
    return to_payload_response(entry, stored)


@OPERATIONS.delete(
    "/api/requests/{request_id}/payload",
    access=DELETE_PAYLOAD,
    status=204,
    summary="Delete the bodies of a request",
    is_versioned=False,
)
async def delete_payload(context: RequestContext[Empty, Empty]) -> None:
    """Delete the bodies of a request for good. Its row stays."""

    def delete(connection: sa.Connection) -> None:
        service = context.services.request_log
        entry = service.get(connection, make_visible(context), context.path["request_id"])
        service.delete_payload(connection, entry, by=context.actor)

    await context.write(delete)


@OPERATIONS.post(
    "/api/requests/{request_id}/replay",
    access=REPLAY,
    summary="Send a request again",
    example={"target": "simulator", "ignore": ["vmx"]},
    errors=(409, 503),
)
async def replay_request(context: RequestContext[Empty, ReplayFields]) -> ReplayResponse:
    """Send a kept request again, and compare the answers byte for byte. The simulator answers the
    same bytes for the same request, and nothing is recorded. A provider is asked with the key of
    the request, within its limits: that call has a receipt, and costs what it costs."""
    services, body = context.services, context.body

    def open_stored(connection: sa.Connection) -> tuple[RequestEntry, StoredExchange]:
        entry, stored = services.request_log.open_payload(
            connection, services.sealer, make_visible(context), context.path["request_id"]
        )
        services.request_log.note_replay(connection, entry, body.target, by=context.actor)
        return entry, stored

    entry, stored = await context.write(open_stored)
    result = await replay(
        services.replayer,
        entry,
        stored,
        target=body.target,
        credential=body.credential,
        ignored=body.ignore,
    )
    return to_replay_response(result)


@OPERATIONS.get(
    "/api/resources/{resource_id}/error-rate",
    access=READ,
    summary="Read the error rate of a resource",
)
async def get_resource_error_rate(
    context: RequestContext[ResourceErrorRateQuery, Empty],
) -> ResourceErrorRateResponse:
    """Return the share of the attempts of the last minutes that failed, as the conditions of the
    resource see it: each attempt counts, also one that a fallback made good. `GET
    /api/usage/error-rate` counts calls instead."""
    services, query = context.services, context.query
    resource = await context.read(lambda connection: find_resource(context, connection))
    total = services.error_rates.sum(
        resource.project_id,
        AttemptFilter(
            resource_id=resource.id,
            credential=query.credential,
            model=query.model,
            status=query.status_code,
        ),
        minutes=query.window_minutes,
    )
    return ResourceErrorRateResponse(
        window_minutes=query.window_minutes,
        attempts=total.attempts,
        failed=total.failed,
        error_rate=total.percent / 100,
    )


@OPERATIONS.get(
    "/api/projects/{project_id}/request-log",
    access=READ_PROJECT,
    summary="Read what a project keeps of its requests",
)
async def get_request_log(context: RequestContext[Empty, Empty]) -> RequestLogResponse:
    """Return what the project keeps: `off` (nothing), `metadata` (a row for each request) or `full`
    (the bodies as well), and for how many days."""

    def read(connection: sa.Connection) -> RequestLogResponse:
        project = find_project(context, connection)
        settings = context.services.request_log.read_settings(connection, project.id)
        return to_request_log_response(project.id, settings)

    return await context.read(read)


@OPERATIONS.patch(
    "/api/projects/{project_id}/request-log",
    access=WRITE_PROJECT,
    summary="Change what a project keeps of its requests",
    example={"mode": "metadata", "retention_days": 30},
)
async def update_request_log(
    context: RequestContext[Empty, RequestLogFields],
) -> RequestLogResponse:
    """Change what is kept of requests from now on. Fewer days also apply to what is kept already.
    Bodies are sealed with the key of the organization."""

    def update(connection: sa.Connection) -> RequestLogResponse:
        project = find_project(context, connection)
        service = context.services.request_log
        context.check_version(service.read_settings(connection, project.id))
        settings = service.change_settings(
            connection,
            context.organization_id,
            project.id,
            mode=context.body.mode,
            retention_days=context.body.retention_days,
            by=context.actor,
        )
        return to_request_log_response(project.id, settings)

    return await context.write(update)


def make_visible(context: RequestContext[Any, Any]) -> RequestFilter:
    """Return the filter of what the principal may see."""
    return RequestFilter(
        organization_id=context.organization_id, projects=context.principal.projects
    )

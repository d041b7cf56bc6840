"""Webhook endpoints of an organization, and the deliveries to them."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.pages import PageQuery
from headgate.api.schemas.webhooks import (
    IssuedWebhookEndpointResponse,
    WebhookDeliveryDetailsResponse,
    WebhookDeliveryPage,
    WebhookDeliveryQuery,
    WebhookDeliveryResponse,
    WebhookEndpointCreate,
    WebhookEndpointPage,
    WebhookEndpointResponse,
    WebhookEndpointUpdate,
    WebhookEventTypeList,
    WebhookEventTypeResponse,
    WebhookReplayRequest,
    WebhookReplayResponse,
    WebhookRotationRequest,
    to_delivery_details_response,
    to_delivery_response,
    to_endpoint_response,
    to_issued_endpoint_response,
)
from headgate.webhooks.model import EVENTS, DeliveryFilter, WebhookEndpoint, WebhookEndpointRequest

OPERATIONS = Operations(
    "Webhooks", "Endpoints that receive signed events, and the deliveries to them."
)
READ = organization("webhooks:read")
WRITE = organization("webhooks:write")
_EXAMPLE = {"url": "https://8.8.8.8/hooks", "enabled_events": ["wallet.recharged"]}
_ALL = "/webhooks/endpoints"
_ONE = "/webhooks/endpoints/{endpoint_id}"


@OPERATIONS.both("GET", _ALL, access=READ, summary="List webhook endpoints")
async def list_webhook_endpoints(context: RequestContext[PageQuery, Empty]) -> WebhookEndpointPage:
    """Return the webhook endpoints of the organization, oldest first, without their secrets."""
    context.principal.check_organization_wide()
    query = context.query
    endpoints, total = await context.read(
        lambda connection: context.services.webhooks.list(
            connection, context.organization_id, limit=query.limit, offset=query.offset
        )
    )
    responses = [to_endpoint_response(each) for each in endpoints]
    return WebhookEndpointPage(endpoints=responses, **query.position(total))


@OPERATIONS.both(
    "POST",
    _ALL,
    access=WRITE,
    status=201,
    summary="Create a webhook endpoint",
    errors=(409,),
    example=_EXAMPLE,
)
async def create_webhook_endpoint(
    context: RequestContext[Empty, WebhookEndpointCreate],
) -> IssuedWebhookEndpointResponse:
    """Register an endpoint and return its signing secret in `secret`, which is shown only in this
    answer. The URL must use https and lead to a public address."""
    context.principal.check_organization_wide()
    body = context.body
    await context.services.webhooks.check_address(body.url)
    request = WebhookEndpointRequest(
        organization_id=context.organization_id,
        url=body.url,
        enabled_events=tuple(body.enabled_events),
        description=body.description,
        ordered=body.ordered,
    )
    issued = await context.create(
        lambda connection: to_issued_endpoint_response(
            context.services.webhooks.create(connection, request, by=context.actor)
        )
    )
    # From the answer on, no event is missed (decision 0027).
    await context.services.storage.wait_for_earlier_writes()
    return issued


@OPERATIONS.both("GET", _ONE, access=READ, summary="Read a webhook endpoint")
async def get_webhook_endpoint(context: RequestContext[Empty, Empty]) -> WebhookEndpointResponse:
    """Return one endpoint without its secret."""
    context.principal.check_organization_wide()
    return to_endpoint_response(await context.read(lambda connection: find(context, connection)))


@OPERATIONS.both(
    "PATCH",
    _ONE,
    access=WRITE,
    summary="Change a webhook endpoint",
    example={"ordered": True},
)
async def update_webhook_endpoint(
    context: RequestContext[Empty, WebhookEndpointUpdate],
) -> WebhookEndpointResponse:
    """Change the given fields, or disable or enable the endpoint. A disabled endpoint keeps its
    pending deliveries, and gets no event that happens meanwhile."""
    context.principal.check_organization_wide()
    given = msgspec.structs.asdict(context.body)
    changes = {name: value for name, value in given.items() if value is not UNSET}
    enabled: bool | None = changes.pop("enabled", None)
    if "enabled_events" in changes:
        changes["enabled_events"] = tuple(changes["enabled_events"])
    if "url" in changes:
        await context.services.webhooks.check_address(changes["url"])

    def change(connection: sa.Connection) -> WebhookEndpoint:
        endpoint = context.check_version(find(context, connection))
        return context.services.webhooks.update(
            connection, endpoint, changes, enabled=enabled, by=context.actor
        )

    changed = await context.write(change)
    await context.services.storage.wait_for_earlier_writes()
    return to_endpoint_response(changed)


@OPERATIONS.both("DELETE", _ONE, access=WRITE, status=204, summary="Delete a webhook endpoint")
async def delete_webhook_endpoint(context: RequestContext[Empty, Empty]) -> None:
    """Delete the endpoint with its secrets and its deliveries."""
    context.principal.check_organization_wide()

    def delete(connection: sa.Connection) -> None:
        endpoint = context.check_version(find(context, connection))
        context.services.webhooks.delete(connection, endpoint, by=context.actor)

    await context.write(delete)


@OPERATIONS.both(
    "POST",
    f"{_ONE}/rotate",
    access=WRITE,
    summary="Rotate a webhook secret",
    example={"overlap_seconds": 86400},
    is_versioned=True,
)
async def rotate_webhook_secret(
    context: RequestContext[Empty, WebhookRotationRequest],
) -> IssuedWebhookEndpointResponse:
    """Make a new secret and return it in `secret`. Deliveries carry signatures of both secrets for
    `overlap_seconds`."""
    context.principal.check_organization_wide()

    def rotate(connection: sa.Connection) -> IssuedWebhookEndpointResponse:
        endpoint = context.check_version(find(context, connection))
        issued = context.services.webhooks.rotate(
            connection, endpoint, overlap_seconds=context.body.overlap_seconds, by=context.actor
        )
        return to_issued_endpoint_response(issued)

    return await context.create(rotate)


@OPERATIONS.both(
    "POST",
    f"{_ONE}/test",
    access=WRITE,
    status=202,
    summary="Test a webhook endpoint",
    errors=(409,),
)
async def test_webhook_endpoint(context: RequestContext[Empty, Empty]) -> WebhookDeliveryResponse:
    """Queue the event `webhook.test` for the endpoint, and return its delivery. Read the delivery
    again to see the result."""
    context.principal.check_organization_wide()
    webhooks = context.services.webhooks
    return await context.write(
        lambda connection: to_delivery_response(
            webhooks.send_test(connection, find(context, connection), by=context.actor)
        )
    )


@OPERATIONS.both("GET", f"{_ONE}/deliveries", access=READ, summary="List webhook deliveries")
async def list_webhook_deliveries(
    context: RequestContext[WebhookDeliveryQuery, Empty],
) -> WebhookDeliveryPage:
    """Return the deliveries to an endpoint, newest first. `next_cursor` selects the next page."""
    context.principal.check_organization_wide()
    query = context.query

    def read(connection: sa.Connection) -> WebhookDeliveryPage:
        chosen = DeliveryFilter(
            endpoint_id=find(context, connection).id,
            status=query.status,
            event_type=query.event_type,
        )
        page, cursor = context.services.webhooks.list_deliveries(
            connection, chosen, cursor=query.cursor, limit=query.limit
        )
        return WebhookDeliveryPage([to_delivery_response(each) for each in page], cursor)

    return await context.read(read)


@OPERATIONS.both(
    "GET",
    f"{_ONE}/deliveries/{{delivery_id}}",
    access=READ,
    summary="Read a webhook delivery",
)
async def get_webhook_delivery(
    context: RequestContext[Empty, Empty],
) -> WebhookDeliveryDetailsResponse:
    """Return a delivery with the body that is sent and its last attempts, oldest first. Of each
    answer the beginning is kept."""
    context.principal.check_organization_wide()
    delivery_id, webhooks = context.path["delivery_id"], context.services.webhooks
    return await context.read(
        lambda connection: to_delivery_details_response(
            webhooks.get_delivery(connection, find(context, connection), delivery_id)
        )
    )


@OPERATIONS.both(
    "POST",
    f"{_ONE}/deliveries/{{delivery_id}}/replay",
    access=WRITE,
    status=202,
    summary="Send a webhook delivery again",
    errors=(409,),
)
async def replay_webhook_delivery(
    context: RequestContext[Empty, Empty],
) -> WebhookDeliveryResponse:
    """Send a delivery again, with the same `webhook-id`."""
    context.principal.check_organization_wide()
    delivery_id, webhooks = context.path["delivery_id"], context.services.webhooks
    return await context.write(
        lambda connection: to_delivery_response(
            webhooks.replay(connection, find(context, connection), delivery_id, by=context.actor)
        )
    )


@OPERATIONS.both(
    "POST",
    f"{_ONE}/replay",
    access=WRITE,
    status=202,
    summary="Send failed webhook deliveries again",
    errors=(409,),
    example={"since": "2026-11-01T00:00:00Z"},
)
async def replay_failed_webhook_deliveries(
    context: RequestContext[Empty, WebhookReplayRequest],
) -> WebhookReplayResponse:
    """Send all deliveries again that failed since a time."""
    context.principal.check_organization_wide()
    since = context.body.since.timestamp()

    def replay(connection: sa.Connection) -> WebhookReplayResponse:
        endpoint = find(context, connection)
        return WebhookReplayResponse(
            context.services.webhooks.replay_failed(
                connection, endpoint, since=since, by=context.actor
            )
        )

    return await context.write(replay)


@OPERATIONS.both("GET", "/webhooks/event-types", access=READ, summary="List webhook event types")
async def list_webhook_event_types(
    _context: RequestContext[Empty, Empty],
) -> WebhookEventTypeList:
    """Return the names of all events that an endpoint can subscribe to, with what each of them
    tells."""
    return WebhookEventTypeList(
        [WebhookEventTypeResponse(name, text) for name, text in sorted(EVENTS.items())]
    )


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> WebhookEndpoint:
    """Return the endpoint of the path. Raise `WebhookEndpointNotFoundError`."""
    return context.services.webhooks.get(
        connection, context.organization_id, context.path["endpoint_id"]
    )

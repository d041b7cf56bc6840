"""`headgate webhooks`: register endpoints, rotate their secrets, look at deliveries."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time, parse_past
from headgate.cli.tables import print_table
from headgate.webhooks.model import (
    EVENTS,
    DeliveryFilter,
    DeliveryStatus,
    WebhookEndpoint,
    WebhookEndpointRequest,
)
from headgate.webhooks.service import OVERLAP_SECONDS, IssuedWebhookEndpoint

LIST_MAX = 10_000

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Manage webhook endpoints and deliveries."
)

EndpointId = Annotated[
    str, typer.Argument(help="Id of the endpoint; see `headgate webhooks list`.")
]
Events = Annotated[
    list[str] | None, typer.Option("--event", help="Event to send; can be repeated. * is all.")
]
Organization = Annotated[
    str | None, typer.Option(help="Organization id; needed where there are several.")
]


@app.command("list")
def list_endpoints(data: Data = None, as_json: Json = False) -> None:
    """List all endpoints, without their secrets."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        endpoints, _ = application.unlock(connection).webhooks.list(
            connection, None, limit=LIST_MAX
        )
    if as_json:
        typer.echo(msgspec.json.encode(endpoints))
        return
    table = Table("Id", "URL", "Events", "State", "Failing since")
    for endpoint in endpoints:
        table.add_row(
            endpoint.id,
            endpoint.url,
            " ".join(endpoint.enabled_events),
            _describe_state(endpoint),
            format_time(endpoint.failing_since),
        )
    print_table(table)


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="Address that receives the events, with https.")],
    data: Data = None,
    as_json: Json = False,
    *,
    events: Events = None,
    organization: Organization = None,
    description: Annotated[str, typer.Option(help="Free text.")] = "",
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Deliver the events of a key one after the other.")
    ] = False,
) -> None:
    """Register an endpoint and print its secret, which cannot be shown again."""
    with open_data_directory(data) as application:
        with application.database.transaction() as connection:
            owner = application.accounts.find_organization(connection, organization)
            request = WebhookEndpointRequest(
                organization_id=owner.id,
                url=url,
                enabled_events=tuple(events or ("*",)),
                description=description,
                ordered=ordered,
            )
            issued = application.unlock(connection).webhooks.create(
                connection, request, by=COMMAND_LINE
            )
        application.database.wait_for_earlier_writes()
    _print_secret(issued, as_json=as_json)


@app.command()
def show(endpoint_id: EndpointId, data: Data = None, as_json: Json = False) -> None:
    """Show an endpoint without its secret."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        endpoint = application.unlock(connection).webhooks.get(connection, None, endpoint_id)
    _print_endpoint(endpoint, as_json=as_json)


@app.command()
def update(
    endpoint_id: EndpointId,
    data: Data = None,
    as_json: Json = False,
    *,
    url: Annotated[str | None, typer.Option(help="New address.")] = None,
    events: Events = None,
    description: Annotated[str | None, typer.Option(help="Free text.")] = None,
    ordered: Annotated[
        bool | None, typer.Option(help="Deliver the events of a key one after the other.")
    ] = None,
) -> None:
    """Change the given fields of an endpoint."""
    given = {
        "url": url,
        "enabled_events": tuple(events) if events else None,
        "description": description,
        "ordered": ordered,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    _print_endpoint(_change(endpoint_id, data, changes), as_json=as_json)


@app.command("events")
def list_events(as_json: Json = False) -> None:
    """List the events that an endpoint can subscribe to."""
    if as_json:
        found = [{"name": name, "description": text} for name, text in sorted(EVENTS.items())]
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("Event", "What it tells")
    for name, text in sorted(EVENTS.items()):
        table.add_row(name, text)
    print_table(table)


@app.command()
def disable(endpoint_id: EndpointId, data: Data = None, as_json: Json = False) -> None:
    """Send nothing to an endpoint until it is enabled again. Pending deliveries wait."""
    endpoint = _change(endpoint_id, data, {}, enabled=False)
    typer.echo(msgspec.json.encode(endpoint) if as_json else f"{endpoint.id} is disabled.")


@app.command()
def enable(endpoint_id: EndpointId, data: Data = None, as_json: Json = False) -> None:
    """Enable an endpoint. Its pending deliveries are sent."""
    endpoint = _change(endpoint_id, data, {}, enabled=True)
    typer.echo(msgspec.json.encode(endpoint) if as_json else f"{endpoint.id} is enabled.")


@app.command()
def delete(endpoint_id: EndpointId, data: Data = None, as_json: Json = False) -> None:
    """Delete an endpoint with its secrets and deliveries."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        webhooks = application.unlock(connection).webhooks
        webhooks.delete(connection, webhooks.get(connection, None, endpoint_id), by=COMMAND_LINE)
    deleted = {"id": endpoint_id, "deleted": True}
    typer.echo(msgspec.json.encode(deleted) if as_json else f"{endpoint_id} is deleted.")


@app.command()
def rotate(
    endpoint_id: EndpointId,
    data: Data = None,
    as_json: Json = False,
    *,
    overlap_seconds: Annotated[
        int, typer.Option(help="How long deliveries carry signatures of both secrets.")
    ] = OVERLAP_SECONDS,
) -> None:
    """Make a new secret and print it."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        webhooks = application.unlock(connection).webhooks
        issued = webhooks.rotate(
            connection,
            webhooks.get(connection, None, endpoint_id),
            overlap_seconds=overlap_seconds,
            by=COMMAND_LINE,
        )
    _print_secret(issued, as_json=as_json)


@app.command("test")
def send_test(endpoint_id: EndpointId, data: Data = None, as_json: Json = False) -> None:
    """Queue the event webhook.test for an endpoint. The server sends it; see `deliveries`."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        webhooks = application.unlock(connection).webhooks
        endpoint = webhooks.get(connection, None, endpoint_id)
        delivery = webhooks.send_test(connection, endpoint, by=COMMAND_LINE)
    typer.echo(msgspec.json.encode(delivery) if as_json else f"{delivery.id} is queued.")


@app.command()
def deliveries(
    endpoint_id: EndpointId,
    data: Data = None,
    as_json: Json = False,
    *,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only those in this state.")] = None,
    event: Annotated[str | None, typer.Option(help="Only those of this event.")] = None,
    limit: Annotated[int, typer.Option(help="How many to show.", min=1, max=LIST_MAX)] = 20,
) -> None:
    """List the newest deliveries to an endpoint."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        webhooks = application.unlock(connection).webhooks
        endpoint = webhooks.get(connection, None, endpoint_id)
        chosen = DeliveryFilter(endpoint_id=endpoint.id, status=status, event_type=event)
        found, _ = webhooks.list_deliveries(connection, chosen, limit=limit)
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("Id", "Event", "Status", "Attempts", "Code", "Next attempt", "Error")
    for each in found:
        table.add_row(
            each.id,
            each.event_type,
            each.status.value,
            str(each.attempts),
            str(each.status_code or "-"),
            format_time(each.next_attempt_at),
            each.error,
        )
    print_table(table)


@app.command()
def delivery(
    endpoint_id: EndpointId,
    delivery_id: Annotated[str, typer.Argument(help="Id of the delivery; see `deliveries`.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show a delivery with its body and its last attempts."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        webhooks = application.unlock(connection).webhooks
        endpoint = webhooks.get(connection, None, endpoint_id)
        details = webhooks.get_delivery(connection, endpoint, delivery_id)
    body = msgspec.json.decode(details.body)
    if as_json:
        fields = msgspec.to_builtins(details.delivery)
        typer.echo(msgspec.json.encode({**fields, "body": body, "history": details.history}))
        return
    found = details.delivery
    typer.echo(f"{found.id} is {found.status.value} after {found.attempts} attempts.")
    table = Table("At", "Code", "Milliseconds", "Error", "Answer")
    for each in details.history:
        latency = f"{each.latency_microseconds / 1000:.1f}"
        code = str(each.status_code or "-")
        table.add_row(format_time(each.at), code, latency, each.error, each.response_body)
    print_table(table)
    typer.echo(msgspec.json.format(msgspec.json.encode(body), indent=2))


@app.command()
def replay(
    endpoint_id: EndpointId,
    data: Data = None,
    as_json: Json = False,
    *,
    delivery_id: Annotated[
        str | None, typer.Option("--delivery", help="Id of one delivery.")
    ] = None,
    since: Annotated[
        str, typer.Option(help="Without --delivery: all that failed since then, such as 2d.")
    ] = "1d",
) -> None:
    """Send one delivery again, or all that failed since a time."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        webhooks = application.unlock(connection).webhooks
        endpoint = webhooks.get(connection, None, endpoint_id)
        count = 1
        if delivery_id is not None:
            webhooks.replay(connection, endpoint, delivery_id, by=COMMAND_LINE)
        else:
            at = parse_past(since, application.clock.now())
            count = webhooks.replay_failed(connection, endpoint, since=at, by=COMMAND_LINE)
    queued = msgspec.json.encode({"count": count})
    typer.echo(queued if as_json else f"{count} deliveries are queued again.")


def _change(
    endpoint_id: str, data: Any, changes: dict[str, Any], *, enabled: bool | None = None
) -> WebhookEndpoint:
    with open_data_directory(data) as application:
        with application.database.transaction() as connection:
            webhooks = application.unlock(connection).webhooks
            endpoint = webhooks.get(connection, None, endpoint_id)
            changed = webhooks.update(
                connection, endpoint, changes, enabled=enabled, by=COMMAND_LINE
            )
        application.database.wait_for_earlier_writes()
    return changed


def _print_secret(issued: IssuedWebhookEndpoint, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(issued))
        return
    typer.echo(issued.secret)
    note = f"This is the secret of {issued.endpoint.id}. Store it now: it is not shown again."
    typer.echo(note, err=True)


def _print_endpoint(endpoint: WebhookEndpoint, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(endpoint))
        return
    table = Table(show_header=False, box=None)
    table.add_row("state", _describe_state(endpoint))
    for name in ("id", "organization_id", "url", "description", "ordered", "version"):
        table.add_row(name.replace("_", " "), str(getattr(endpoint, name)))
    table.add_row("events", " ".join(endpoint.enabled_events))
    print_table(table)


def _describe_state(endpoint: WebhookEndpoint) -> str:
    reason = endpoint.disabled_reason
    return "enabled" if reason is None else f"disabled ({reason.value})"

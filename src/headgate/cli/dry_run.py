"""`headgate resources dry-run`: test the rules of a resource without a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.api.schemas.dry_runs import (
    DryRunCreate,
    DryRunResponse,
    LiveState,
    read_dry_run,
    to_dry_run_response,
)
from headgate.cli.data_directory import open_data_directory
from headgate.cli.files import read_bytes
from headgate.cli.keys import InvalidOptionError
from headgate.cli.options import Data, Json
from headgate.cli.tables import print_table
from headgate.credentials.service.references import list_references
from headgate.main.application import Application
from headgate.resources.model.explanation import ConditionResult
from headgate.resources.model.resource import Resource, ResourceFilter
from headgate.resources.model.routing_config import RoutingConfig
from headgate.resources.service import DryRuns, LiveValuesSource


def dry_run(
    resource: Annotated[str, typer.Argument(help="Id or name of the resource.")],
    data: Data = None,
    as_json: Json = False,
    organization: Annotated[
        str | None, typer.Option(help="Organization id or name; needed where there are several.")
    ] = None,
    *,
    request: Annotated[
        str | None, typer.Option(help="The request as JSON, as a client would send it.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file with the request; - for standard input.")
    ] = None,
    surface: Annotated[
        str,
        typer.Option(
            "--format",
            help="chat-completions, responses or anthropic. [default: what its fields suggest]",
        ),
    ] = "",
    metadata: Annotated[list[str] | None, typer.Option(help="key=text")] = None,
    correlation_id: Annotated[
        str | None, typer.Option(help="Decides about shares of traffic, as it does for calls.")
    ] = None,
    draw: Annotated[
        float | None, typer.Option(help="Decides about shares of traffic, from 0 to under 100.")
    ] = None,
    error_rate: Annotated[
        float | None, typer.Option(help="What errorRate gives, in percent. [default: 0]")
    ] = None,
    requests_used: Annotated[
        float | None, typer.Option(help="What capacityUsage gives of requests, in percent.")
    ] = None,
    tokens_used: Annotated[
        float | None, typer.Option(help="What capacityUsage gives of tokens, in percent.")
    ] = None,
    routing: Annotated[
        Path | None, typer.Option(help="A file with rules to try in the place of the resource's.")
    ] = None,
) -> None:
    """Tell which rule of a resource decides about a request, and why. Nothing is sent.

    Error rates and usage are those of the options: only a running server knows the others, and
    tells them with `POST /api/resources/{resource_id}/dry-run`.
    """
    body = DryRunCreate(
        request=_read_json(request, file, dict[str, Any]),
        format=surface,
        metadata=dict(_split_pairs(metadata or ())),
        correlation_id=correlation_id,
        draw=draw,
        live=LiveState(
            error_rate=error_rate,
            requests_usage_percent=requests_used,
            tokens_usage_percent=tokens_used,
        ),
        routing=None if routing is None else _read_json(None, routing, RoutingConfig),
    )
    with open_data_directory(data) as application, application.database.reading() as connection:
        found = _find(application, connection, resource, organization)
        told = _run(connection, found, body)
    if as_json:
        typer.echo(msgspec.json.encode(told))
    else:
        _show(told)


def _find(
    application: Application, connection: sa.Connection, reference: str, organization: str | None
) -> Resource:
    owner = application.accounts.find_organization(connection, organization)
    filters = ResourceFilter(organization_id=owner.id)
    return application.resources.find(connection, filters, reference)


def _run(connection: sa.Connection, found: Resource, body: DryRunCreate) -> DryRunResponse:
    names = {each.id: each.name for each in list_references(connection, found.organization_id)}
    result = DryRuns(LiveValuesSource()).run(found, read_dry_run(body), body.routing)
    return to_dry_run_response(found.id, found.name, result, names)


def _read_json(text: str | None, file: Path | None, wanted: Any) -> Any:
    if (text is None) is (file is None):
        raise InvalidOptionError("Give the request with --request or with --file.")
    source = "--request" if file is None else str(file)
    try:
        return msgspec.json.decode(read_bytes(file) if file else text or "", type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        what = "rules" if wanted is RoutingConfig else "a request"
        raise InvalidOptionError(f"{source} is not JSON of {what}: {error}.") from None


def _split_pairs(pairs: Sequence[str]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        key, mark, text = pair.partition("=")
        if not mark:
            raise InvalidOptionError(f"Write metadata as key=text, not {pair!r}.")
        yield key, text


def _show(told: DryRunResponse) -> None:
    typer.echo(told.decision.explanation)
    typer.echo(f"{told.format}, about {told.input_tokens} input tokens")
    if told.targets:
        targets = Table("Tried", "Model", "Credential", "Weight")
        for number, each in enumerate(told.targets, 1):
            weight = "" if each.weight is None else str(each.weight)
            targets.add_row(str(number), each.model, each.credential or "", weight)
        print_table(targets)
    if not told.rules:
        return
    rules = Table("Rule", "Condition", "Found", "Matches", "Why")
    for rule in told.rules:
        title = rule.description or rule.expression or rule.action
        matches = "yes" if rule.matched else "no"
        rules.add_row(str(rule.index), title, "", matches, rule.error or rule.reason)
        for line in _list_conditions(rule.conditions, "  "):
            rules.add_row("", *line)
    print_table(rules)


def _list_conditions(
    conditions: Sequence[ConditionResult], indent: str
) -> Iterator[tuple[str, str, str, str]]:
    for each in conditions:
        matches = "yes" if each.matched else "no"
        if each.type == "variable":
            yield f"{indent}{each.expression}", each.actual or "", "", ""
        elif each.type == "group":
            yield f"{indent}{each.operator}", "", matches, ""
            yield from _list_conditions(each.conditions, indent + "  ")
        else:
            told = f"{indent}{each.expression} {each.comparator} {each.value}".rstrip()
            yield told, each.actual or "", matches, each.error or ""

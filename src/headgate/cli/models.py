"""`headgate models`: manage the managed models and the credentials that serve them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json
from headgate.cli.tables import print_table
from headgate.credentials.model.managed_model import (
    ManagedModel,
    ManagedModelChange,
    ManagedModelRequest,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Attach, list, deprecate and detach the managed models that are paid in credits.",
)

Model = Annotated[str, typer.Argument(help="The model's id, as callers name it.")]
Credential = Annotated[str, typer.Option(help="The id or name of a credential of the platform.")]


@app.command("list")
def list_models(data: Data = None, as_json: Json = False) -> None:
    """List every managed model, with the credential and model that serve it."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        managed = application.managed_models.list(connection)
    if as_json:
        typer.echo(msgspec.json.encode(managed))
        return
    table = Table("Model", "Name", "Credential", "Sent to the provider", "State")
    for each in managed:
        table.add_row(
            each.model_id,
            each.display_name,
            each.credential_id,
            each.wire_id or "as in the catalog",
            describe_state(each),
        )
    print_table(table)


@app.command()
def attach(
    model: Model,
    data: Data = None,
    as_json: Json = False,
    *,
    credential: Credential,
    wire_id: Annotated[
        str, typer.Option(help="The model id sent to the provider. Default: as in the catalog.")
    ] = "",
    name: Annotated[str, typer.Option(help="The display name. Default: the id.")] = "",
    default: Annotated[
        bool, typer.Option("--default", help="Serve the ids that are not managed models.")
    ] = False,
) -> None:
    """Attach a managed model to a credential of the platform. The catalog must have its price."""
    request = ManagedModelRequest(
        model_id=model,
        credential=credential,
        wire_id=wire_id,
        display_name=name,
        is_default=default,
    )
    with open_data_directory(data) as application, application.database.transaction() as connection:
        managed = application.managed_models.attach(connection, request, by=COMMAND_LINE)
    print_model(managed, as_json=as_json)


@app.command()
def detach(model: Model, data: Data = None) -> None:
    """Detach a managed model: calls to it are rejected from now on."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        service = application.managed_models
        managed = service.find(connection, model)
        service.detach(connection, managed, by=COMMAND_LINE)
    typer.echo(f"{managed.model_id} is detached.")


@app.command()
def default(
    model: Model,
    data: Data = None,
    as_json: Json = False,
    *,
    none: Annotated[bool, typer.Option("--none", help="Stop being the default.")] = False,
) -> None:
    """Make a model the default that serves unknown model ids."""
    change(model, data, ManagedModelChange(is_default=not none), as_json=as_json)


@app.command()
def deprecate(
    model: Model,
    data: Data = None,
    as_json: Json = False,
    *,
    replacement: Annotated[
        str | None, typer.Option(help="The managed model that serves its calls from now on.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Remove the deprecation.")] = False,
) -> None:
    """Mark a model as deprecated; with a replacement, its calls are served by that."""
    changes = ManagedModelChange(deprecated=not undo, replacement_id=replacement)
    change(model, data, changes, as_json=as_json)


@app.command()
def enable(model: Model, data: Data = None, as_json: Json = False) -> None:
    """Accept calls to a model again."""
    change(model, data, ManagedModelChange(enabled=True), as_json=as_json)


@app.command()
def disable(model: Model, data: Data = None, as_json: Json = False) -> None:
    """Reject calls to a model until it is enabled again."""
    change(model, data, ManagedModelChange(enabled=False), as_json=as_json)


def change(model: str, data: Data, changes: ManagedModelChange, *, as_json: bool) -> None:
    with open_data_directory(data) as application, application.database.transaction() as connection:
        service = application.managed_models
        managed = service.change(
            connection, service.find(connection, model), changes, by=COMMAND_LINE
        )
    print_model(managed, as_json=as_json)


def print_model(managed: ManagedModel, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(managed))
        return
    typer.echo(f"{managed.model_id}: {describe_state(managed)}, by {managed.credential_id}.")


def describe_state(managed: ManagedModel) -> str:
    words = ["enabled" if managed.enabled else "disabled"]
    if managed.is_default:
        words.append("default")
    if managed.deprecated:
        served = f", served by {managed.replacement_id}" if managed.replacement_id else ""
        words.append(f"deprecated{served}")
    return ", ".join(words)

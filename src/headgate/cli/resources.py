"""`headgate resources`: named targets of calls, with fallbacks and default arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.accounts.model import Project
from headgate.api.schemas.resources import ResourceCreate, read_config, to_resource_response
from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.dry_run import dry_run
from headgate.cli.files import read_bytes
from headgate.cli.keys import InvalidOptionError
from headgate.cli.options import Data, Json
from headgate.cli.tables import print_table
from headgate.credentials.service.references import list_references
from headgate.main.application import Application
from headgate.resources.model.resource import Resource, ResourceFilter, ResourceRequest
from headgate.resources.model.slot import ModelSlot

LIST_MAX = 10_000

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Manage named targets of calls.")
app.command("dry-run")(dry_run)

Reference = Annotated[str, typer.Argument(help="Id or name of the resource.")]
Organization = Annotated[
    str | None, typer.Option(help="Organization id or name; needed where there are several.")
]
ProjectName = Annotated[
    str | None, typer.Option("--project", help="Id or name of the project. [default: the oldest]")
]


@app.command("list")
def list_resources(
    data: Data = None, as_json: Json = False, organization: Organization = None
) -> None:
    """List the resources of the organization, with the models that answer."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        owner = application.accounts.find_organization(connection, organization)
        found, _ = application.resources.list_page(
            connection, ResourceFilter(organization_id=owner.id), limit=LIST_MAX
        )
        names = list_names(connection, owner.id)
        projects = list_projects(application, connection, owner.id)
    if as_json:
        typer.echo(msgspec.json.encode([to_resource_response(each, names) for each in found]))
        return
    if not found:
        typer.echo("There are no resources. `headgate resources create NAME --model …` makes one.")
        return
    table = Table("Id", "Name", "Project", "Model", "Then", "Rules", "Version")
    for each in found:
        config = each.config
        then = config.fallback_models if config.use_fallback else ()
        table.add_row(
            each.id,
            each.name,
            projects.get(each.project_id, each.project_id),
            show_slot(config.model, names),
            ", ".join(show_slot(slot, names) for slot in then),
            str(len(config.routing.conditions)) if config.routing is not None else "",
            str(each.version),
        )
    print_table(table)


@app.command()
def show(
    resource: Reference,
    data: Data = None,
    organization: Organization = None,
    project: ProjectName = None,
) -> None:
    """Show a resource as JSON, in the form that `create --file` reads."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        found = find(application, connection, resource, organization, project)
        response = to_resource_response(found, list_names(connection, found.organization_id))
    typer.echo(msgspec.json.format(msgspec.json.encode(response)))


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name, which calls send as their model.")],
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    project: ProjectName = None,
    model: Annotated[
        str | None, typer.Option(help="Model, or credential/model, that answers.")
    ] = None,
    credential: Annotated[
        str | None, typer.Option(help="Id or name of the credential of that model.")
    ] = None,
    retries: Annotated[int, typer.Option(help="Retries before the next model is tried.")] = 0,
    timeout_ms: Annotated[int | None, typer.Option(help="Longest time for one model.")] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(help="Model, or credential/model, that is tried next; can be repeated."),
    ] = None,
    description: Annotated[str | None, typer.Option(help="Description for people.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="JSON file with the fields of POST /api/resources; - reads stdin."),
    ] = None,
) -> None:
    """Create a resource, from options or from a JSON file with all of its fields."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        owner = application.accounts.find_organization(connection, organization)
        place = find_project(application, connection, owner.id, project)
        known = list_names(connection, owner.id)
        if file is not None:
            body = read_file(file, name)
        elif model is None:
            raise InvalidOptionError("Name the model with --model, or give a --file.")
        else:
            fields: dict[str, Any] = {
                "name": name,
                "description": description,
                "model": {
                    **parse_slot(model, {} if credential is not None else known),
                    **name_credential(credential, known),
                    "max_retries": retries,
                    "timeout_ms": timeout_ms,
                },
                "use_fallback": bool(fallback),
                "fallback_models": [parse_slot(each, known) for each in fallback or ()],
            }
            body = convert(fields)
            warn_of_prefixes(application, body)
        request = ResourceRequest(
            organization_id=owner.id,
            project_id=place.id,
            name=body.name,
            description=body.description,
            config=read_config(body),
            assign_api_keys=body.assign_api_keys,
        )
        made = application.resources.create(connection, request, by=COMMAND_LINE)
    if as_json:
        typer.echo(msgspec.json.encode(to_resource_response(made, known)))
        return
    typer.echo(f'{made.id} is created. Calls of {place.name} name it as "model": "{made.name}".')


@app.command()
def delete(
    resource: Reference,
    data: Data = None,
    organization: Organization = None,
    project: ProjectName = None,
) -> None:
    """Delete a resource. Calls that name it go to a model of that name, if there is one."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        found = find(application, connection, resource, organization, project)
        application.resources.delete(connection, found, by=COMMAND_LINE)
    typer.echo(f"{found.id} ({found.name}) is deleted.")


def find(
    application: Application,
    connection: sa.Connection,
    reference: str,
    organization: str | None,
    project: str | None,
) -> Resource:
    """Return the resource of an id or name. Raise `ResourceNotFoundError`."""
    owner = application.accounts.find_organization(connection, organization)
    place = None
    if project is not None:
        place = find_project(application, connection, owner.id, project).id
    filters = ResourceFilter(organization_id=owner.id, project_id=place)
    return application.resources.find(connection, filters, reference)


def find_project(
    application: Application, connection: sa.Connection, organization_id: str, name: str | None
) -> Project:
    """Return the project of an id or name, else the oldest one. Raise `InvalidOptionError`."""
    accounts = application.accounts
    projects, _ = accounts.list_projects(connection, organization_id, limit=LIST_MAX)
    found = [each for each in projects if name in (None, each.id, each.name)]
    if not found or (name is not None and len(found) > 1):
        named = "has no project" if name is None else f"has not one project {name!r}"
        raise InvalidOptionError(f"The organization {named}.")
    return found[0]


def list_projects(
    application: Application, connection: sa.Connection, organization_id: str
) -> dict[str, str]:
    projects, _ = application.accounts.list_projects(
        connection, organization_id, archived=True, limit=LIST_MAX
    )
    return {each.id: each.name for each in projects}


def list_names(connection: sa.Connection, organization_id: str) -> dict[str, str]:
    """Return the names of the credentials that an organization can use, by id."""
    return {each.id: each.name for each in list_references(connection, organization_id)}


def parse_slot(text: str, known: dict[str, str]) -> dict[str, Any]:
    """Return the slot of a model, or of `credential/model` where there is such a credential."""
    prefix, _, model = text.partition("/")
    if model and (prefix in known or prefix in known.values()):
        return {"model": model, **name_credential(prefix, known)}
    return {"model": text}


def warn_of_prefixes(application: Application, body: ResourceCreate) -> None:
    """Tell of models whose id begins like `credential/`, where there is no such credential."""
    for slot in (body.model, *body.fallback_models):
        prefix, mark, _ = slot.model.partition("/")
        named = slot.credential_id is not None or slot.credential_name is not None
        if mark and not named and prefix not in application.catalog.providers:
            typer.echo(
                f"{slot.model} is taken as the id of a model: there is no credential {prefix!r}.",
                err=True,
            )


def name_credential(reference: str | None, known: dict[str, str]) -> dict[str, str]:
    if reference is None:
        return {}
    return {"credential_id" if reference in known else "credential_name": reference}


def show_slot(slot: ModelSlot, names: dict[str, str]) -> str:
    """Show a model with its credential, as `credential/model`."""
    used = [slot.credential_id, *(each.credential_id for each in slot.credentials)]
    shown = "+".join(names.get(each, each) for each in used if each is not None)
    return f"{shown}/{slot.model}" if shown else slot.model


def read_file(file: Path, name: str) -> ResourceCreate:
    """Read the fields of a resource; `name` replaces that of the file. What `show` adds is left
    out. Raise `InvalidOptionError`."""
    try:
        fields = msgspec.json.decode(read_bytes(file), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise InvalidOptionError(f"{file} is not a JSON object: {error}.") from error
    for added in ("id", "organization_id", "project_id", "created_at", "updated_at", "version"):
        fields.pop(added, None)
    return convert({**fields, "name": name})


def convert(fields: dict[str, Any]) -> ResourceCreate:
    try:
        return msgspec.convert(fields, ResourceCreate)
    except msgspec.ValidationError as error:
        raise InvalidOptionError(f"The resource is invalid: {error}.") from error

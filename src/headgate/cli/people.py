"""`headgate people`: manage who can sign in."""

from __future__ import annotations

from typing import Annotated

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.accounts.model import Person, PersonNotFoundError, PersonRequest, Role, check_email
from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import Application, open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.passwords import ask_email, ask_password_hash
from headgate.cli.tables import print_table

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Manage who can sign in.")

PEOPLE_MAX = 10_000
Email = Annotated[str, typer.Argument(help="E-mail address; see `headgate people list`.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@app.command("list")
def list_people(data: Data = None, as_json: Json = False) -> None:
    """List everybody, including disabled people."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        people, _ = application.people.list(connection, limit=PEOPLE_MAX)
        roles = {
            person.id: application.people.list_memberships(connection, person.id)
            for person in people
        }
    if as_json:
        typer.echo(msgspec.json.encode(people))
        return
    table = Table("Id", "E-mail", "Name", "Operator", "Roles", "Created", "Disabled")
    for person in people:
        table.add_row(
            person.id,
            person.email,
            person.name,
            "yes" if person.is_operator else "",
            ", ".join(
                f"{each.role.value} of {each.organization_name}" for each in roles[person.id]
            ),
            format_time(person.created_at),
            format_time(person.disabled_at),
        )
    print_table(table)


@app.command()
def add(
    data: Data = None,
    *,
    email: Annotated[str | None, typer.Option(help="E-mail address. [default: prompt]")] = None,
    name: Annotated[str | None, typer.Option(help="Name. [default: the e-mail address]")] = None,
    organization: Annotated[
        str | None, typer.Option(help="Organization id or name. [default: the only one]")
    ] = None,
    role: Annotated[Role, typer.Option(help="Role in the organization.")] = Role.ADMIN,
    operator: Annotated[
        bool, typer.Option("--operator", help="Also make an operator of the installation.")
    ] = False,
    password_stdin: FromStdin = False,
    without_password: Annotated[
        bool, typer.Option("--without-password", help="Sign-in at an issuer only.")
    ] = False,
) -> None:
    """Add a person to an organization."""
    address = ask_email(email)
    hashed = None if without_password else ask_password_hash(address, from_stdin=password_stdin)
    with open_data_directory(data) as application, application.database.transaction() as connection:
        request = PersonRequest(
            email=address,
            name=name or address,
            password_hash=hashed,
            is_operator=operator,
            is_verified=True,
        )
        owner = application.accounts.find_organization(connection, organization)
        person = application.people.add(connection, request, by=COMMAND_LINE)
        application.people.join(connection, person, owner.id, role=role, by=COMMAND_LINE)
    typer.echo(f"{person.id} ({person.email}) is {role.value} of {owner.name}.")


@app.command("set-password")
def set_password(email: Email, data: Data = None, password_stdin: FromStdin = False) -> None:
    """Set a person's password and end their sessions."""
    hashed = ask_password_hash(check_email(email), from_stdin=password_stdin)
    with open_data_directory(data) as application, application.database.transaction() as connection:
        person = find(application, connection, email)
        ended = application.people.set_password(connection, person, hashed, by=COMMAND_LINE)
    typer.echo(f"{person.email} has a new password; {ended} sessions ended.")


@app.command()
def disable(email: Email, data: Data = None) -> None:
    """Disable a person and end their sessions at once."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        person = application.people.disable(
            connection, find(application, connection, email), by=COMMAND_LINE
        )
    typer.echo(f"{person.email} is disabled.")


@app.command()
def enable(email: Email, data: Data = None) -> None:
    """Allow a disabled person to sign in again."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        person = application.people.enable(
            connection, find(application, connection, email), by=COMMAND_LINE
        )
    typer.echo(f"{person.email} can sign in again.")


@app.command()
def link(
    email: Email,
    data: Data = None,
    *,
    issuer: Annotated[
        str, typer.Option(help="Issuer, as in HEADGATE_OIDC_ISSUER or HEADGATE_JWT_ISSUER.")
    ],
    subject: Annotated[
        str, typer.Option(help="The `sub` claim by which the issuer identifies them.")
    ],
) -> None:
    """Link a person to an issuer's subject, where its tokens have no verified e-mail."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        person = find(application, connection, email)
        application.people.link_identity(
            connection, person, issuer=issuer, subject=subject, by=COMMAND_LINE
        )
    typer.echo(f"{person.email} is linked to {issuer}.")


def find(application: Application, connection: sa.Connection, email: str) -> Person:
    """Return the person of an e-mail. Raise `PersonNotFoundError`."""
    person = application.people.find(connection, check_email(email))
    if person is None:
        raise PersonNotFoundError(
            f"There is no person with the e-mail {email!r}; see `headgate people list`."
        )
    return person

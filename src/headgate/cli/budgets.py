"""`headgate budgets`: show, set and remove monthly budgets."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.billing.model.budget_limits import (
    KEY,
    ORGANIZATION,
    PROJECT,
    BudgetLimit,
    BudgetState,
)
from headgate.cli.data_directory import open_data_directory
from headgate.cli.keys import InvalidOptionError
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.cli.wallet import InvalidAmountError
from headgate.keys.model.budget import THRESHOLDS
from headgate.kit.money import format_dollars, nano_from_dollars
from headgate.main.application import Application

BAR_WIDTH = 20
FULL, HELD, FREE = "█", "▒", "░"

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Show, set and remove monthly budgets."
)

Organization = Annotated[
    str | None, typer.Option(help="Organization id or name; needed where there are several.")
]
Project = Annotated[str | None, typer.Option(help="Id or name of the project that is limited.")]
KeyId = Annotated[str | None, typer.Option("--key", help="Id of the key that is limited.")]


@app.command("list")
def list_budgets(
    data: Data = None, as_json: Json = False, organization: Organization = None
) -> None:
    """List the budgets with what is used of them in this month."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        budgets, found = application.budget_service, application.accounts
        owner = found.find_organization(connection, organization)
        states = budgets.read_states(connection, budgets.list(connection, owner.id))
    if as_json:
        typer.echo(msgspec.json.encode([describe(state) for state in states]))
        return
    if not states:
        typer.echo("There are no budgets. `headgate budgets set 50` sets one.")
        return
    table = Table("Limits", "Id", "Name", "Counts", "Limit $", "Used $", "Held $", "Left $", "Use")
    for state in states:
        limit = state.limit
        table.add_row(
            limit.scope,
            limit.scope_id,
            limit.name,
            "managed calls" if limit.managed_only else "all calls",
            show_cents(limit.limit_nano),
            show_cents(state.used_nano),
            show_cents(state.held_nano),
            show_cents(state.remaining_nano),
            draw_bar(state),
        )
    print_table(table)
    typer.echo(f"{states[0].month}; reset at {format_time(states[0].resets_at)} UTC.")


@app.command("set")
def set_budget(
    dollars: Annotated[str, typer.Argument(help="Limit per calendar month in US dollars.")],
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    project: Project = None,
    key: KeyId = None,
    managed_only: Annotated[
        bool, typer.Option(help="Count only the calls that the wallet pays.")
    ] = False,
    thresholds: Annotated[
        list[int] | None,
        typer.Option("--threshold", help="Percentage that is announced. [default: 50, 80, 100]"),
    ] = None,
) -> None:
    """Set the budget of the organization, of a project or of a key."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        scope, scope_id, organization_id = find_object(
            application, connection, organization=organization, project=project, key=key
        )
        request = BudgetLimit(
            scope=scope,
            scope_id=scope_id,
            organization_id=organization_id,
            limit_nano=parse_limit(dollars),
            managed_only=managed_only,
            thresholds=THRESHOLDS if thresholds is None else tuple(thresholds),
        )
        limit = application.budget_service.set(connection, request, by=COMMAND_LINE)
        [state] = application.budget_service.read_states(connection, [limit])
    if as_json:
        typer.echo(msgspec.json.encode(describe(state)))
        return
    typer.echo(
        f"{limit.name} ({limit.scope_id}) may spend ${show_cents(limit.limit_nano)} in a month; "
        f"${show_cents(state.used_nano)} is used."
    )


@app.command()
def remove(
    data: Data = None,
    organization: Organization = None,
    *,
    project: Project = None,
    key: KeyId = None,
) -> None:
    """Remove the budget of the organization, of a project or of a key."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        scope, scope_id, organization_id = find_object(
            application, connection, organization=organization, project=project, key=key
        )
        budgets = application.budget_service
        limit = budgets.get(connection, organization_id, scope=scope, scope_id=scope_id)
        budgets.remove(connection, limit, by=COMMAND_LINE)
    typer.echo(f"{limit.name} ({limit.scope_id}) has no budget any more.")


def find_object(
    application: Application,
    connection: sa.Connection,
    *,
    organization: str | None,
    project: str | None,
    key: str | None,
) -> tuple[str, str, str]:
    """Return scope and id of the object that the options name, and its organization's id."""
    if key is not None and project is not None:
        raise InvalidOptionError("Name a project or a key, not both.")
    if key is not None:
        found = application.keys.get(connection, None, key)
        return KEY, found.id, found.organization_id
    if project is not None:
        owner = application.accounts.find_project(connection, project)
        return PROJECT, owner.id, owner.organization_id
    known = application.accounts.find_organization(connection, organization)
    return ORGANIZATION, known.id, known.id


def parse_limit(text: str) -> int:
    """Return an amount in nano-dollars, which may be 0. Raise `InvalidAmountError`."""
    try:
        return nano_from_dollars(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError) as error:
        message = f"{text!r} is not an amount in dollars, such as 25 or 0.50."
        raise InvalidAmountError(message) from error


def describe(state: BudgetState) -> dict[str, Any]:
    """Return a budget as JSON types; amounts are dollars as text."""
    limit = state.limit
    return {
        "scope": limit.scope,
        "scope_id": limit.scope_id,
        "organization_id": limit.organization_id,
        "name": limit.name,
        "limit": format_dollars(limit.limit_nano),
        "managed_only": limit.managed_only,
        "thresholds": limit.thresholds,
        "month": state.month,
        "used": format_dollars(state.used_nano),
        "held": format_dollars(state.held_nano),
        "remaining": format_dollars(state.remaining_nano),
        "used_percent": state.used_percent,
        "resets_at": state.resets_at,
    }


def draw_bar(state: BudgetState) -> str:
    """Draw what is used, held and left of a budget, and the used percentage."""
    limit = state.limit.limit_nano
    if not limit:
        return f"{FULL * BAR_WIDTH} nothing is allowed"
    used = min(BAR_WIDTH, -(-state.used_nano * BAR_WIDTH // limit))
    held = min(BAR_WIDTH - used, -(-state.held_nano * BAR_WIDTH // limit))
    return f"{FULL * used}{HELD * held}{FREE * (BAR_WIDTH - used - held)} {state.used_percent} %"


def show_cents(nano: int) -> str:
    """Format an amount with at least two decimal places, and no zeros after them."""
    whole, _, parts = format_dollars(nano).partition(".")
    return f"{whole}.{parts.rstrip('0').ljust(2, '0')}"

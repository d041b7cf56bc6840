"""`headgate plans`: list plans, define them, and assign them to organizations."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.billing.model.plans import PlanVersion
from headgate.cli.budgets import Organization, parse_limit, show_cents
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time, parse_expiry
from headgate.cli.tables import print_table

PREPAID = "none"

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, define and assign plans.")

From = Annotated[
    str | None, typer.Option("--from", help="When it begins: 30d, or an ISO 8601 time. Now.")
]


@app.command("list")
def list_plans(
    data: Data = None,
    as_json: Json = False,
    *,
    history: Annotated[bool, typer.Option(help="Include past and future versions.")] = False,
) -> None:
    """List the plans that are in force. One credit is $0.001."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        plans = application.plans
        versions = plans.list_history(connection) if history else plans.list(connection)
    if as_json:
        typer.echo(msgspec.json.encode(versions))
        return
    table = Table("Id", "Name", "Credits a month", "Overage", "$ a month", "Since", "Defined by")
    for each in versions:
        table.add_row(
            each.id,
            each.name,
            f"{each.credits_per_month:,}",
            "allowed" if each.overage else "no",
            "by agreement" if each.price_nano is None else show_cents(each.price_nano),
            format_time(each.effective_from),
            each.created_by or "Headgate",
        )
    print_table(table)


@app.command("set")
def set_plan(
    plan_id: Annotated[str, typer.Argument(help="Id of the plan, such as pro.")],
    data: Data = None,
    as_json: Json = False,
    *,
    credits_per_month: Annotated[int, typer.Option("--credits", help="1,000 credits are $1.")],
    name: Annotated[str | None, typer.Option(help="Name for people. [default: the id]")] = None,
    overage: Annotated[
        bool, typer.Option(help="Allow organizations to pay more from their wallet.")
    ] = False,
    price: Annotated[str | None, typer.Option(help="US dollars a month, for people.")] = None,
    begins: From = None,
) -> None:
    """Define a plan, or a new version of a plan. Earlier versions stay in the history."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        version = PlanVersion(
            id=plan_id,
            name=name or plan_id.capitalize(),
            effective_from=parse_expiry(begins, application.clock.now()) or 0.0,
            credits_per_month=credits_per_month,
            overage=overage,
            price_nano=None if price is None else parse_limit(price),
        )
        defined = application.plans.define(connection, version, by=COMMAND_LINE)
    if as_json:
        typer.echo(msgspec.json.encode(defined))
        return
    since = format_time(defined.effective_from)
    typer.echo(f"{defined.name} ({defined.id}): {credits_per_month:,} credits from {since} UTC on.")


@app.command()
def assign(
    plan_id: Annotated[str, typer.Argument(help="Id of the plan; `none` for a prepaid wallet.")],
    data: Data = None,
    as_json: Json = False,
    organization: Organization = None,
    *,
    overage: Annotated[
        bool, typer.Option(help="Let the wallet pay what exceeds the credits.")
    ] = False,
    begins: From = None,
) -> None:
    """Set the plan of an organization."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        found = application.accounts.find_organization(connection, organization)
        subscription = application.plans.assign(
            connection,
            found.id,
            None if plan_id == PREPAID else plan_id,
            overage=overage,
            effective_from=parse_expiry(begins, application.clock.now()) or 0.0,
            by=COMMAND_LINE,
        )
    if as_json:
        typer.echo(msgspec.json.encode(subscription))
        return
    since = format_time(subscription.effective_from)
    plan = "no plan" if subscription.plan_id is None else f"the plan {subscription.plan_id}"
    typer.echo(f"{found.name} ({found.id}) has {plan} from {since} UTC on.")

"""`headgate prices`: list the price book, and compare it with the prices of genai-prices."""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.catalog.model.manifest import IntegrationManifest
from headgate.catalog.model.price import MICROSECONDS, OPERATOR, format_moment, format_rates
from headgate.catalog.service.prices import ListedPrice, PriceFilter, PriceRequest
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, parse_expiry
from headgate.cli.tables import print_table
from headgate.kit.errors import HeadgateError, Kind
from headgate.main.application import Application

if TYPE_CHECKING:
    from headgate.cli.price_source import Difference

ROWS_MAX = 1_000_000

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List prices, compare them with genai-prices, and add prices for what differs.",
)

Integration = Annotated[
    str, typer.Option(help="The integration of the catalog whose models are compared.")
]


class PricesNotInstalledError(HeadgateError):
    """There is no price list to compare with, or no integration of that name.

    Install `headgate[prices]`, and check the name.
    """

    kind = Kind.INVALID
    code = "prices_missing"


@app.command("list")
def list_prices(
    data: Data = None,
    as_json: Json = False,
    *,
    integration: Annotated[
        str | None, typer.Option(help="Only prices of this integration.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only prices of this model.")] = None,
    tier: Annotated[str | None, typer.Option(help="default, batch, flex, priority, ...")] = None,
    history: Annotated[
        bool, typer.Option(help="Include prices that are no longer in force.")
    ] = False,
) -> None:
    """List the prices in force and those of the future, in dollars."""
    price_filter = PriceFilter(integration=integration, model=model, tier=tier, history=history)
    with open_data_directory(data) as application, application.database.reading() as connection:
        listed, _ = application.prices.list(connection, price_filter, limit=ROWS_MAX)
    if as_json:
        typer.echo(msgspec.json.encode([_show(each) for each in listed]))
        return
    table = Table("Model", "Tier", "Above", "Since", "State", "Rates", "Source")
    for each in listed:
        entry = each.entry
        table.add_row(
            f"{entry.integration}/{entry.model}",
            entry.tier,
            _show_threshold(entry.above_input_tokens),
            format_moment(entry.effective_from),
            each.state.value,
            ", ".join(f"{name} {rate:f}" for name, rate in entry.rates.amounts().items()),
            entry.source,
        )
    print_table(table)


@app.command()
def diff(data: Data = None, as_json: Json = False, *, integration: Integration = "openai") -> None:
    """Show the differences to the installed genai-prices; the exit status is 1 if there are any."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        source, differences, operator_rows = _compare(application, connection, integration)
    if as_json:
        typer.echo(msgspec.json.encode(differences))
    else:
        _print(source, differences, operator_rows=operator_rows)
    if differences:
        raise typer.Exit(1)


@app.command()
def apply(
    data: Data = None,
    *,
    integration: Integration = "openai",
    effective_from: Annotated[
        str | None,
        typer.Option(help="Start of the new prices: 2027-01-31T12:00:00Z or 12h. Default: now."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Add prices for all differences. Prices set by an operator and those of the past stay
    unchanged."""
    with open_data_directory(data) as application:
        with application.database.reading() as connection:
            source, differences, operator_rows = _compare(application, connection, integration)
        _print(source, differences, operator_rows=operator_rows)
        if not differences:
            return
        if not yes:
            typer.confirm(f"Write {len(differences)} rows?", abort=True)
        since = parse_expiry(effective_from, application.clock.now())
        requests = [_request(integration, each, since) for each in differences]
        with application.database.transaction() as connection:
            written = application.prices.add_all(
                connection, requests, by=COMMAND_LINE, source=source
            )
    typer.echo(f"{len(written)} rows are in force from {format_moment(written[0].effective_from)}.")


def _compare(
    application: Application, connection: sa.Connection, integration: str
) -> tuple[str, list[Difference], int]:
    """Return the source's name and version, the differences, and the number of rows set by an
    operator."""
    manifest = _find(application, integration)
    assert manifest.price_source is not None
    try:
        source = importlib.import_module("headgate.cli.price_source")
    except ModuleNotFoundError as error:
        message = "The list is not installed; add it: pip install 'headgate[prices]'."
        raise PricesNotInstalledError(message) from error
    now = datetime.datetime.fromtimestamp(application.clock.now(), datetime.UTC)
    prices = source.PriceList(manifest.price_source.provider, now)
    current = application.prices.find_in_force(connection, integration)
    operator_rows = sum(entry.source == OPERATOR for entry in current.values())
    return prices.source, source.compare(manifest, prices, current), operator_rows


def _find(application: Application, integration: str) -> IntegrationManifest:
    manifest = application.catalog.integrations.get(integration)
    if manifest is None:
        raise PricesNotInstalledError(f"There is no integration {integration!r}.")
    if manifest.price_source is None:
        message = f"{integration} has no [price_source]: its file names no list to compare with."
        raise PricesNotInstalledError(message)
    return manifest


def _print(source: str, differences: Sequence[Difference], *, operator_rows: int) -> None:
    if operator_rows:
        typer.echo(f"{operator_rows} prices that an operator set are left unchanged.")
    if not differences:
        typer.echo(f"All compared prices are equal to those of {source}.")
        return
    table = Table("Model", "Tier", "Above", "Rate", "Book", source, "Change")
    for each in differences:
        for name, (ours, theirs) in each.rates.items():
            threshold = _show_threshold(each.above_input_tokens)
            table.add_row(each.model, each.tier, threshold, name, *_show_change(ours, theirs))
    print_table(table)


def _show_change(ours: Decimal | None, theirs: Decimal | None) -> Iterator[str]:
    for rate in (ours, theirs):
        yield "-" if rate is None else f"{rate:f}"
    if ours is None or theirs is None:
        yield "added" if ours is None else "removed"
    else:
        yield f"{(theirs - ours) / ours * 100:+.1f} %" if ours else "changed"


def _request(integration: str, difference: Difference, since: float | None) -> PriceRequest:
    return PriceRequest(
        integration=integration,
        model=difference.model,
        tier=difference.tier,
        above_input_tokens=difference.above_input_tokens,
        rates=difference.expected,
        effective_from=None
        if since is None
        else datetime.datetime.fromtimestamp(since, datetime.UTC),
    )


def _show(listed: ListedPrice) -> dict[str, Any]:
    entry = listed.entry
    return {
        "integration": entry.integration,
        "model": entry.model,
        "tier": entry.tier,
        "above_input_tokens": entry.above_input_tokens,
        "effective_from": format_moment(entry.effective_from),
        "state": listed.state.value,
        "currency": entry.currency,
        "rates": format_rates(entry.rates),
        "source": entry.source,
        "number": entry.number,
        "created_by": entry.created_by,
        "created_at": entry.created_at / MICROSECONDS,
    }


def _show_threshold(tokens: int) -> str:
    return "" if tokens < 0 else f"{tokens:,}"

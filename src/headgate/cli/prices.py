"""`headgate prices`: list the price book, compare it with genai-prices, and recompute receipts."""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.billing.model.recomputation import Basis
from headgate.billing.service.recomputation import (
    CostDifference,
    RecomputationTotals,
    Recomputer,
)
from headgate.catalog.model.manifest import IntegrationManifest
from headgate.catalog.model.price import MICROSECONDS, OPERATOR, format_moment, format_rates
from headgate.catalog.service.prices import ListedPrice, PriceFilter, PriceRequest
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, parse_expiry, parse_past
from headgate.cli.tables import print_table
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import format_dollars
from headgate.main.application import Application
from headgate.metering.model.receipt_filter import ReceiptFilter

if TYPE_CHECKING:
    from headgate.cli.price_source import Difference

ROWS_MAX = 1_000_000
ROWS_BETWEEN_LINES = 100_000
BASES: dict[Basis, str] = {
    "usage": "its usage gives",
    "hold": "its hold was",
    "highest_rates": "its tokens at the highest rates give",
    "free": "it is free:",
    "correction": "it corrects by",
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List prices, compare them with genai-prices, and recompute what calls cost.",
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


@app.command()
def recompute(
    data: Data = None,
    as_json: Json = False,
    *,
    organization: Annotated[
        str | None, typer.Option(help="Only receipts of this organization (id or name).")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only since an age such as 30d, or an ISO 8601 time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only before an age or a time.")] = None,
) -> None:
    """Recompute the cost of every receipt from its recorded usage, at the price version that it
    names, and show each that differs. The exit status is 1 if there are any.

    The server may run meanwhile. Nothing is changed.
    """
    with open_data_directory(data) as application:
        now = application.clock.now()
        recomputer = Recomputer(application.database, application.prices)
        owners = recomputer.list_organizations()
        if organization is not None:
            with application.database.reading() as connection:
                owners = [application.accounts.find_organization(connection, organization).id]
        ranges = [
            ReceiptFilter(
                organization_id=owner,
                since=None if since is None else parse_past(since, now),
                until=None if until is None else parse_past(until, now),
            )
            for owner in owners
        ]
        differences = recomputer.run(ranges, make_progress())
        if as_json:
            _write_differences(differences, recomputer.totals)
        else:
            _print_differences(differences, recomputer.totals)
    if recomputer.totals.differences:
        raise typer.Exit(1)


def make_progress() -> Callable[[RecomputationTotals], None]:
    """Return what prints a line for every so many receipts."""
    printed = 0

    def print_progress(totals: RecomputationTotals) -> None:
        nonlocal printed
        if totals.receipts - printed >= ROWS_BETWEEN_LINES:
            printed = totals.receipts
            typer.echo(f"{totals.receipts} receipts so far", err=True)

    return print_progress


def _write_differences(differences: Iterator[CostDifference], totals: RecomputationTotals) -> None:
    """Write one JSON object, each difference as soon as it is found: there may be many."""
    typer.echo('{"differences":[', nl=False)
    for number, each in enumerate(differences):
        typer.echo(("," if number else "") + msgspec.json.encode(each).decode(), nl=False)
    typer.echo(f'],"totals":{msgspec.json.encode(totals).decode()}}}')


def _print_differences(differences: Iterator[CostDifference], totals: RecomputationTotals) -> None:
    for each in differences:
        recorded = f"${format_dollars(each.cost_nano)}"
        why = each.problem
        if why is None and each.recomputed_nano is not None:
            why = f"{BASES[each.basis]} ${format_dollars(each.recomputed_nano)}"
        price = f" at {each.price_id}" if each.price_id else ""
        typer.echo(f"{each.request_id}: the receipt says {recorded}{price}, but {why}.")
    counted = ", ".join(f"{count} by {name}" for name, count in sorted(totals.by_basis.items()))
    typer.echo(
        f"{totals.receipts} receipts, ${format_dollars(totals.cost_nano)}"
        f"{f' ({counted})' if counted else ''}: "
        + (f"{totals.differences} differ." if totals.differences else "all cost the same.")
    )


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

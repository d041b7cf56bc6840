"""`headgate usage`: show what was called, what it used and cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.accounts.model import Organization
from headgate.cli.data_directory import open_data_directory
from headgate.cli.keys import InvalidOptionError
from headgate.cli.options import Data, Json
from headgate.cli.tables import print_table
from headgate.kit.money import format_dollars
from headgate.main.application import Application
from headgate.metering.model.usage import Measures
from headgate.metering.model.usage_groups import parse_group_by
from headgate.metering.model.usage_range import read_range
from headgate.metering.model.usage_table import (
    find_latencies,
    list_columns,
    to_cells,
    to_local_time,
)
from headgate.metering.model.zones import Period
from headgate.metering.service.export import Encoder, ExportFormat, open_encoder
from headgate.metering.service.usage import (
    UsageAnswer,
    UsageRequest,
    UsageRow,
    query_usage,
    stream_usage,
)
from headgate.metering.store.usage import UsageFilter

BAR_WIDTH = 12
FULL = "█"
TODAY = "today"
FORMATS: dict[str, ExportFormat] = {".csv": "csv", ".parquet": "parquet"}
SHOWN_MAX = 500
"""Rows of the table on the screen. JSON and exports have them all."""
READ_MAX = 1_000_000
EXPORTED_ROWS = 5_000
"""Rows of one piece of an export."""

app = typer.Typer(add_completion=False)

Option = typer.Option


@app.command()
def usage(
    data: Data = None,
    as_json: Json = False,
    *,
    organization: Annotated[
        str | None, Option(help="Organization id or name; needed where there are several.")
    ] = None,
    since: Annotated[
        str, Option(help="First day (2026-01-31) or time, `today`, or an age in days such as 30d.")
    ] = TODAY,
    until: Annotated[
        str, Option(help="Last day, or the time before which it ends. [default: now]")
    ] = "",
    by: Annotated[
        str,
        Option(
            help="Names with commas: project, key, credential, provider, model, managed, "
            "metadata.NAME, and hour, day or month."
        ),
    ] = "model,key",
    zone: Annotated[
        str, Option(help="Time zone of the days. [default: that of the organization]")
    ] = "",
    project: Annotated[str, Option(help="Only calls of this project (id).")] = "",
    key: Annotated[str, Option(help="Only calls of this key (id).")] = "",
    model: Annotated[str, Option(help="Only calls of this model.")] = "",
    provider: Annotated[str, Option(help="Only calls to this provider.")] = "",
    output: Annotated[
        Path | None, Option(help="Write all rows to this file: FILE.csv or FILE.parquet.")
    ] = None,
) -> None:
    """Show calls, tokens, cost and latency: those of today, by model and key."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        owner = application.accounts.find_organization(connection, organization)
        zone = zone or owner.reporting_zone
        granularity, group_by = parse_group_by([name for name in by.split(",") if name])
        start, end = parse_range(since, until, zone, application.clock.now())
        query = UsageRequest(
            filters=UsageFilter(
                organization_id=owner.id,
                project_id=project,
                key_id=key,
                model=model,
                provider=provider,
            ),
            start=start,
            end=end,
            zone=zone,
            granularity=granularity,
            group_by=group_by,
            limit=READ_MAX,
        )
        if output is not None:
            export(connection, query, output)
            return
        answer = query_usage(connection, query)
        if as_json:
            typer.echo(describe(query, answer.rows, answer.period, answer.total))
            return
        names = find_names(application, connection, owner)
    show(query, answer, names)


def parse_range(since: str, until: str, zone: str, now: float) -> tuple[int, int]:
    """Return start and end in microseconds since 1970. Raise `UsageRangeError`."""
    today = to_local_time(zone, int(now * 1_000_000)).date()
    if since == TODAY:
        since = today.isoformat()
    elif since.endswith("d") and since[:-1].isdigit() and len(since) <= len("3660d"):
        since = today.fromordinal(max(1, today.toordinal() - int(since[:-1]))).isoformat()
    return read_range(since, until, zone=zone, now=now)


def export(connection: sa.Connection, query: UsageRequest, output: Path) -> None:
    """Write all rows to a file, whose name says the format."""
    export_format = FORMATS.get(output.suffix)
    if export_format is None:
        raise InvalidOptionError("The name of the output ends in .csv or .parquet.")
    encoder = open_encoder(export_format, list_columns(query.group_by), zone=query.zone)
    count = 0
    with output.open("wb") as file:
        for rows, piece in _encode(encoder, query, stream_usage(connection, query)):
            file.write(piece)
            count += rows
    typer.echo(f"{count} rows are written to {output}.")


def _encode(
    encoder: Encoder, query: UsageRequest, rows: Iterator[UsageRow]
) -> Iterator[tuple[int, bytes]]:
    while batch := list(itertools.islice(rows, EXPORTED_ROWS)):
        yield len(batch), encoder.add([_flatten(query, row) for row in batch])
    yield 0, encoder.end()


def _flatten(query: UsageRequest, row: UsageRow) -> list[Any]:
    return to_cells(query.zone, query.group_by, row.period, row.group, row.measures)


def describe(query: UsageRequest, rows: list[UsageRow], period: Period, total: Measures) -> bytes:
    """Return the report as JSON; amounts are dollars as text."""
    columns, sums = list_columns(query.group_by), list_columns(())
    cells = to_cells(query.zone, (), period, (), total)
    report = {
        "time_zone": query.zone,
        "data": [_name_cells(columns, _flatten(query, row)) for row in rows],
        "total": _name_cells(sums, cells),
    }
    return msgspec.json.encode(report)


def _name_cells(columns: list[str], cells: list[Any]) -> dict[str, Any]:
    texts = [format(cell, "f") if isinstance(cell, Decimal) else cell for cell in cells]
    return dict(zip(columns, texts, strict=True))


def find_names(
    application: Application, connection: sa.Connection, owner: Organization
) -> dict[str, str]:
    """Return the names of keys and projects by their ids."""
    keys = [each for each in application.keys.list(connection) if each.organization_id == owner.id]
    projects, _ = application.accounts.list_projects(
        connection, owner.id, archived=True, limit=10_000
    )
    return {each.id: each.name for each in (*keys, *projects)}


def show(query: UsageRequest, answer: UsageAnswer, names: dict[str, str]) -> None:
    """Print the rows as a table: by time, or the most expensive ones first."""
    rows, total, period = answer.rows, answer.total, answer.period
    is_timed = query.granularity is not None
    shown = rows if is_timed else sorted(rows, key=lambda row: -row.measures.cost_nano)
    most = max([row.measures.cost_nano for row in rows], default=0)
    heads = [name.removesuffix("_id").capitalize() for name in query.group_by]
    table = Table(*["From"] * is_timed, *heads)
    for head in ("Calls", "Errors", "Input", "Cached", "Output", "Cost $", "p50 ms", "p95 ms"):
        table.add_column(head, justify="right")
    table.add_column("")
    for row in shown[:SHOWN_MAX]:
        at = [to_local_time(query.zone, row.period.start).strftime("%Y-%m-%d %H:%M")] * is_timed
        cells = [_show_value(value, names) for value in row.group]
        table.add_row(*at, *cells, *_show_measures(row.measures), _draw(row.measures, most))
    if len(rows) != 1 or query.group_by or is_timed:
        table.add_section()
    blanks = [""] * max(0, len(query.group_by) + is_timed - 1)
    table.add_row(*(["Total"] if heads or is_timed else []), *blanks, *_show_measures(total), "")
    print_table(table)
    begin, end = (
        to_local_time(query.zone, at).strftime("%Y-%m-%d %H:%M")
        for at in (period.start, period.end)
    )
    typer.echo(f"{begin} to {end} {query.zone}, at list price.")
    if len(rows) > SHOWN_MAX:
        typer.echo(f"These are {SHOWN_MAX} of {len(rows)} rows; --output writes them all.")


def _show_value(value: Any, names: dict[str, str]) -> str:
    if isinstance(value, int):
        return "managed" if value else "own key"
    return f"{names[value]} ({value})" if value in names else value or "-"


def _show_measures(measures: Measures) -> list[str]:
    latencies = find_latencies(measures)
    counts = (
        measures.requests,
        measures.errors,
        measures.input_tokens,
        measures.cached_tokens,
        measures.output_tokens,
    )
    return [
        *(f"{count:,}" for count in counts),
        _show_cost(measures.cost_nano),
        *(
            "-" if value is None else f"{value:,.0f}"
            for value in (latencies["p50_ms"], latencies["p95_ms"])
        ),
    ]


def _show_cost(nano: int) -> str:
    whole, _, parts = format_dollars(nano).partition(".")
    return f"{whole}.{parts.rstrip('0').ljust(2, '0')}"


def _draw(measures: Measures, most: int) -> str:
    """Draw a bar of the cost next to the greatest one."""
    return FULL * max(0, -(-measures.cost_nano * BAR_WIDTH // most)) if most > 0 else ""

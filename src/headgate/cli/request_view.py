"""Draw requests for people: a list of them, one with all that happened, and the end of a replay."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import msgspec
import typer
from rich.table import Table

from headgate.api.schemas.money import show_dollars
from headgate.api.schemas.requests import (
    PayloadBody,
    ReplayResponse,
    RequestPayloadResponse,
    RequestResponse,
)
from headgate.cli.tables import print_table
from headgate.request_log.model.entry import MICROSECONDS, RequestEntry

NAME_WIDTH = 16
NONE = (
    "There are no such requests. A project keeps them once its request log is on: docs/requests.md"
)


def print_requests(entries: Sequence[RequestEntry]) -> None:
    """Print a line for each request, and their number."""
    if not entries:
        typer.echo(NONE)
        return
    table = Table("Request", "At (UTC)", "Endpoint", "Model", "Result", "From")
    for name in ("Attempts", "ms", "Cost $"):
        table.add_column(name, justify="right")
    for entry in entries:
        table.add_row(
            entry.id,
            format_at(entry),
            entry.endpoint or entry.path,
            entry.model or "-",
            describe_result(entry),
            entry.client_address or "-",
            str(entry.attempts),
            format_milliseconds(entry),
            show_dollars(entry.cost_nano),
        )
    print_table(table)
    failed = sum(is_failed(entry) for entry in entries)
    number = "1 request" if len(entries) == 1 else f"{len(entries)} requests"
    typer.echo(f"{number}, {failed} of them failed or refused.")


def print_tail(entry: RequestEntry) -> None:
    """Print one line for a request that has ended."""
    place = entry.resource_name or entry.model or "-"
    reason = f"  {entry.failure_reason}" if entry.failure_reason else ""
    typer.echo(
        f"{format_at(entry)}  {entry.id}  {describe_result(entry)}  "
        f"{entry.endpoint or entry.path}  {place}  {format_milliseconds(entry)} ms{reason}"
    )


def print_request(request: RequestResponse, payload: RequestPayloadResponse | None) -> None:
    """Print what is known of a request, line by line."""
    facts = msgspec.to_builtins(request)
    latency, events = facts.pop("latency"), facts.pop("events")
    for name, value in facts.items():
        if value not in (None, "", {}, []):
            _print_fact(name, value)
    for name, value in latency.items():
        if value is not None:
            _print_fact(name, f"{value:,.3f}")
    for event in events:
        _print_fact("event", event)
    if payload is None:
        return
    _print_fact("headers", dict(payload.headers))
    for name, body in (
        ("request", payload.request),
        ("provider request", payload.provider_request),
        ("response", payload.response),
    ):
        if body is not None:
            typer.echo(f"\n{name}: {describe_body(body)}")
            print_body(body)


def print_replay(result: ReplayResponse) -> None:
    """Print whether the answers are the same, and where they differ."""
    typer.echo(f"recorded  {result.recorded_status}  {describe_body(result.recorded)}")
    typer.echo(f"replayed  {result.replayed_status}  {describe_body(result.replayed)}")
    if result.is_identical:
        typer.echo("The answers are the same, byte for byte.")
        return
    if result.matches:
        typer.echo("The answers differ in nothing but the ignored fields.")
        return
    for difference in result.differences:
        typer.echo(f"{difference.path}")
        typer.echo(f"  - {show_value(difference.recorded)}")
        typer.echo(f"  + {show_value(difference.replayed)}")
    number = len(result.differences)
    typer.echo(f"They differ in {number} places." if number > 1 else "They differ in 1 place.")


def print_body(body: PayloadBody) -> None:
    if body.json is not None:
        typer.echo(msgspec.json.format(msgspec.json.encode(body.json)))
    elif body.text is not None:
        typer.echo(body.text)


def describe_body(body: PayloadBody) -> str:
    notes = [f"{body.bytes:,} bytes", body.media_type or "no type"]
    if body.attachments:
        notes.append(f"{body.attachments} attachments as digests")
    if body.is_cut:
        notes.append("cut")
    digest = f", sha256 {body.sha256[:16]}…" if body.sha256 else ""
    return ", ".join(notes) + digest


def describe_result(entry: RequestEntry) -> str:
    words = f"{entry.status} {entry.outcome}"
    return f"{words} ({entry.error_code})" if entry.error_code else words


def is_failed(entry: RequestEntry) -> bool:
    return entry.status >= 400 or entry.outcome in ("broken", "unknown", "upstream_error")


def format_at(entry: RequestEntry) -> str:
    at = datetime.datetime.fromtimestamp(entry.created_at / MICROSECONDS, datetime.UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def format_milliseconds(entry: RequestEntry) -> str:
    return f"{entry.total_microseconds / 1000:,.1f}"


def show_value(value: Any) -> str:
    return "(absent)" if value is None else msgspec.json.encode(value).decode()


def _print_fact(name: str, value: Any) -> None:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    typer.echo(f"{name:<{NAME_WIDTH}}  {text}")

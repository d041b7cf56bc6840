"""Draw receipts for people: a list of them, and one with everything that explains its amount."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import msgspec
import typer
from rich.table import Table

from headgate.api.schemas.money import show_dollars
from headgate.billing.model.receipts import ReceiptDetails, find_corrected, find_wallet_debit
from headgate.catalog.model.line_items import LineItem
from headgate.cli.tables import print_table
from headgate.relay.ports import Receipt

NAME_WIDTH = 16
UNITS = {
    ("token", 1_000_000): "per million tokens",
    ("character", 1_000_000): "per million characters",
    ("millisecond", 60_000): "per minute",
}


def print_receipts(receipts: Sequence[Receipt]) -> None:
    """Print a line for each receipt, and their sum."""
    if not receipts:
        typer.echo("There are no such receipts.")
        return
    table = Table("Request", "At (UTC)", "Endpoint", "Model", "Result")
    for name in ("Input", "Output", "Cost $"):
        table.add_column(name, justify="right")
    table.add_column("Paid by")
    for receipt in receipts:
        usage = receipt.usage
        table.add_row(
            receipt.request_id,
            format_second(receipt.created_at),
            receipt.endpoint,
            receipt.model_requested or receipt.model_served or "-",
            describe_result(receipt),
            f"{usage.input_tokens:,}" if usage else "-",
            f"{usage.output_tokens:,}" if usage else "-",
            show_dollars(receipt.cost_nano),
            describe_payer(receipt),
        )
    print_table(table)
    total = sum(receipt.cost_nano for receipt in receipts)
    paid = sum(find_wallet_debit(receipt) for receipt in receipts)
    number = "1 receipt" if len(receipts) == 1 else f"{len(receipts)} receipts"
    typer.echo(
        f"{number}, ${show_dollars(total)} at list price, "
        f"${show_dollars(paid)} of it paid by the wallet."
    )


def print_details(details: ReceiptDetails) -> None:
    receipt = details.receipt
    _print_facts(receipt)
    _print_line_items(details)
    _print_hold(details)
    if details.entries:
        table = Table("No.", "Transaction", "Account", title="Ledger entries", title_justify="left")
        table.add_column("Amount $", justify="right")
        for entry in details.entries:
            account = entry.account_id.partition(":")[2]
            amount = show_signed(entry.amount_nano)
            table.add_row(str(entry.number), entry.transaction_id, account, amount)
        print_table(table)
    if details.corrections:
        table = Table("Receipt", "At (UTC)", title="Corrections", title_justify="left")
        table.add_column("Change $", justify="right")
        for each in details.corrections:
            at, change = format_second(each.created_at), show_signed(each.cost_nano)
            table.add_row(each.request_id, at, change)
        print_table(table)
        typer.echo(f"With its corrections the call costs ${show_dollars(details.total_nano)}.")


def _print_facts(receipt: Receipt) -> None:
    model = receipt.model_requested
    if receipt.model_served not in (None, model):
        model = f"{model or '-'} (answered by {receipt.model_served})"
    pairs = msgspec.json.decode(receipt.metadata or "{}", type=dict[str, str])
    facts: list[tuple[str, str | None]] = [
        ("Receipt", receipt.request_id),
        ("Corrects", find_corrected(receipt)),
        ("Ended", f"{format_second(receipt.created_at)} UTC"),
        ("Organization", receipt.organization_id),
        ("Project, key", f"{receipt.project_id}, {receipt.key_id}"),
        ("Call", f"{receipt.method} {receipt.endpoint}{' (stream)' if receipt.streamed else ''}"),
        ("Provider", f"{receipt.provider or '-'}, credential {receipt.credential_id or '-'}"),
        ("Model", model),
        ("Result", describe_result(receipt)),
        ("Attempts", str(receipt.attempts)),
        ("Time", _describe_times(receipt)),
        ("Answer id", receipt.answer_id),
        ("x-request-id", receipt.upstream_request_id),
        ("Correlation id", receipt.correlation_id),
        ("Metadata", ", ".join(f"{name}={value}" for name, value in pairs.items()) or None),
        ("Cache", None if receipt.cache_status == "bypass" else receipt.cache_status),
        ("Cost", f"${show_dollars(receipt.cost_nano)} ({_describe_payment(receipt)})"),
        ("Pricing", _describe_pricing(receipt)),
        ("Price", receipt.price_id),
        ("Service tier", receipt.service_tier),
    ]
    for name, value in facts:
        if value is not None:
            typer.echo(f"{name:{NAME_WIDTH}}{value}")


def _print_line_items(details: ReceiptDetails) -> None:
    found, receipt = details.recomputation, details.receipt
    if found.itemization is None:
        typer.echo(f"The cost cannot be recomputed: {found.problem}.")
        return
    itemization = found.itemization
    if itemization.items:
        table = Table("Item", title="Line items", title_justify="left")
        for name in ("Quantity", "Rate $", "Amount $"):
            table.add_column(name, justify="right")
        for item in itemization.items:
            quantity = f"{item.quantity:,}"
            table.add_row(item.name, quantity, describe_rate(item), show_dollars(item.amount_nano))
        table.add_section()
        if itemization.rounding_nano:
            table.add_row("rounding", "", "", show_signed(itemization.rounding_nano))
        table.add_row("total", "", "", show_dollars(itemization.cost_nano))
        print_table(table)
    if found.matches(receipt):
        typer.echo("Recomputed from the recorded usage: the cost is the same.")
    else:
        recomputed, recorded = itemization.cost_nano, receipt.cost_nano
        typer.echo(
            f"Recomputed from the recorded usage, the cost is ${show_dollars(recomputed)}, "
            f"and the receipt says ${show_dollars(recorded)}."
        )


def _print_hold(details: ReceiptDetails) -> None:
    hold = details.hold
    if hold is None:
        typer.echo("Nothing was held for the call.")
        return
    holder = "wallet, credits and budgets" if hold.managed else "budgets only"
    released = hold.find_released(details.receipt.cost_nano)
    typer.echo(
        f"Held: ${show_dollars(hold.amount_nano)} in {hold.month or '-'} by {holder}; "
        f"released: ${show_dollars(released)}; {hold.state}."
    )


def describe_result(receipt: Receipt) -> str:
    status = f"{receipt.status} " if receipt.status else ""
    code = f" ({receipt.error_code})" if receipt.error_code else ""
    return f"{status}{receipt.outcome}{code}"


def describe_payer(receipt: Receipt) -> str:
    """Return who paid: the wallet, the plan's credits, or the owner of the credential; a dash where
    there was nothing to pay."""
    if not receipt.managed:
        return "own key"
    if not receipt.cost_nano:
        return "-"
    if not receipt.credit_nano:
        return "wallet"
    if receipt.credit_nano == receipt.cost_nano:
        return "credits"
    return f"credits ${show_dollars(receipt.credit_nano)}, wallet"


def _describe_payment(receipt: Receipt) -> str:
    if receipt.managed:
        return f"paid by {describe_payer(receipt)}" if receipt.cost_nano else "nothing to pay"
    return "at list price; an own key, so nothing was charged"


def describe_rate(item: LineItem) -> str:
    if item.rate_nano is None:
        return "no price"
    unit = UNITS.get((item.unit, item.per), f"per {item.unit}")
    return f"{show_dollars(item.rate_nano)} {unit}"


def _describe_pricing(receipt: Receipt) -> str | None:
    if receipt.unpriced_reason:
        return f"{receipt.pricing}: {receipt.unpriced_reason}"
    estimate = ", by an estimate of the usage" if receipt.estimated else ""
    return f"{receipt.pricing}{estimate}"


def _describe_times(receipt: Receipt) -> str:
    names = (
        ("total", receipt.total_microseconds),
        ("first byte", receipt.first_byte_microseconds),
        ("provider", receipt.upstream_microseconds),
        ("gateway", receipt.overhead_microseconds),
    )
    return ", ".join(f"{name} {at / 1000:.1f} ms" for name, at in names if at >= 0) or "-"


def show_signed(nano: int) -> str:
    return show_dollars(nano) if nano < 0 else f"+{show_dollars(nano)}"


def format_second(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")

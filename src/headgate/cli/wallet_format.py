"""Wallets as `headgate wallet` prints them. Amounts are dollars as text."""

from __future__ import annotations

from typing import Any

from headgate.billing.model.transactions import WalletEntry
from headgate.billing.service.plans import BillingState
from headgate.billing.service.wallet import WalletBalance
from headgate.cli.options import format_time
from headgate.kit.money import format_dollars
from headgate.payments.model.order import format_cents
from headgate.payments.service.auto_top_ups import AutoTopUpState


def pays_overage(state: BillingState) -> bool:
    """Return whether the wallet pays what exceeds the credits; without a plan it pays all."""
    if state.plan is None:
        return True
    return state.plan.overage and state.subscription is not None and state.subscription.overage


def describe_wallet(
    balance: WalletBalance, state: BillingState, top_up: AutoTopUpState
) -> dict[str, Any]:
    """Return a wallet as JSON types."""
    return {
        "organization_id": state.organization_id,
        "currency": "usd",
        "available": format_dollars(balance.available_nano),
        "held": format_dollars(balance.held_nano),
        "debt": format_dollars(balance.debt_nano),
        "credits": {
            "plan": None if state.plan is None else state.plan.id,
            "granted": format_dollars(state.credits_nano),
            "remaining": format_dollars(state.remaining_nano),
            "overage": pays_overage(state),
            "resets_at": state.resets_at,
        },
        "auto_top_up": describe_auto_top_up(top_up),
    }


def describe_auto_top_up(state: AutoTopUpState) -> dict[str, Any]:
    """Return an automatic top-up as JSON types."""
    settings = state.settings
    maximum = settings.month_cents
    return {
        "enabled": settings.enabled,
        "threshold": format_dollars(settings.threshold_nano),
        "amount": format_cents(settings.amount_cents),
        "monthly_maximum": None if maximum is None else format_cents(maximum),
        "charged_this_month": format_cents(state.charged_cents),
        "has_payment_method": settings.payment_method_id is not None,
        "failures": settings.failures,
        "last_failure": settings.failure,
        "retry_at": settings.retry_at or None,
    }


def describe_top_up(state: AutoTopUpState) -> str:
    """Return an automatic top-up as a text of one or two lines."""
    settings = state.settings
    if not settings.enabled:
        why = f" Last failure: {settings.failure}" if settings.failure else ""
        method = "a" if settings.payment_method_id else "no"
        return f"Automatic top-ups are off. There is {method} saved payment method.{why}"
    maximum = settings.month_cents
    limit = "without a monthly maximum"
    if maximum is not None:
        limit = f"at most ${format_cents(maximum)} a month"
    text = (
        f"Automatic top-up of ${format_cents(settings.amount_cents)} below "
        f"${format_dollars(settings.threshold_nano)}, {limit}; "
        f"${format_cents(state.charged_cents)} charged this month."
    )
    if settings.failure:
        text += f"\nDeclined: {settings.failure} Next attempt {format_time(settings.retry_at)} UTC."
    return text


def describe_entry(entry: WalletEntry) -> dict[str, Any]:
    """Return a change of a wallet as JSON types."""
    return {
        "id": str(entry.number),
        "kind": entry.kind,
        "amount": format_dollars(entry.amount_nano),
        "transaction_id": entry.transaction_id,
        "request_id": entry.request_id or None,
        "reference": entry.reference or None,
        "created_at": entry.created_at,
    }

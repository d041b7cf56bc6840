"""One example of every event, as its feature stores it in the outbox."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.billing.events import ResponseEnded, UsageThresholdReached
from headgate.keys.events import KeyRevoked
from headgate.kit import outbox
from headgate.llm.usage import Usage
from headgate.metering.events import RequestCompleted, UsageImplausible
from headgate.payments.events import InvoicePaid, TopUpFailed, WalletRecharged
from headgate.relay.ports import BackgroundWork, add_work
from headgate.webhooks.events import RequestRateLimited, WebhookEndpointDisabled, WebhookTest
from tests.fakes.example_receipt import make_receipt

NOW = 1_796_040_000.0
"""2026-11-30T12:00:00Z"""
ORGANIZATION, PROJECT, KEY = "org_1", "proj_1", "key_1"

_RECEIPT = make_receipt(
    created_at=NOW - 2,
    managed=True,
    usage=Usage(input_tokens=1_200, cached_tokens=1_000, output_tokens=350),
    price_id="openai/gpt-5.4-mini@2026-11-01",
    cost_nano=2_475_000,
    credit_nano=475_000,
    metadata='{"customer":"c_17"}',
    path="/v1/chat/completions",
    request_bytes=4_096,
    response_bytes=2_048,
)


def _make_response(status: str, **changes: Any) -> ResponseEnded:
    fields = {"usage": Usage(input_tokens=1_200, output_tokens=350), **changes}
    receipt = msgspec.structs.replace(_RECEIPT, **fields)
    return ResponseEnded.of(add_work(receipt, BackgroundWork("resp_1", status)))


EXAMPLES: dict[str, Any] = {
    "invoice.paid": InvoicePaid(
        organization_id=ORGANIZATION,
        invoice_id="inv_1",
        number="HG-2026-000001",
        kind="payment",
        month="",
        total_nano=25_000_000_000,
        currency="usd",
        paid_at=NOW,
    ),
    "key.revoked": KeyRevoked(KEY, ORGANIZATION, PROJECT, "production", NOW),
    "request.completed": RequestCompleted(_RECEIPT),
    "request.rate_limited": RequestRateLimited(
        organization_id=ORGANIZATION,
        project_id=PROJECT,
        key_id=KEY,
        request_id="req_1",
        code="rate_limited",
        message="The key has used its 60 requests per minute. Try again in 12 seconds.",
        count=42,
        first_at=NOW,
        last_at=NOW + 0.75,
    ),
    "response.cancelled": _make_response(
        "cancelled",
        outcome="cancelled",
        error_code="cancelled",
        usage=Usage(input_tokens=1_200),
        estimated=True,
        cost_nano=900_000,
    ),
    "response.completed": _make_response("completed"),
    "response.failed": _make_response(
        "failed",
        outcome="upstream_error",
        error_code="server_error",
        usage=None,
        cost_nano=0,
        pricing="free",
    ),
    "response.incomplete": _make_response("incomplete", error_code="max_output_tokens"),
    "usage.implausible": UsageImplausible(
        msgspec.structs.replace(
            _RECEIPT,
            pricing="implausible",
            unpriced_reason="output_tokens is above the limit of the request",
            usage=Usage(input_tokens=1_200, output_tokens=9_000_000),
        )
    ),
    "usage.threshold_reached": UsageThresholdReached(
        organization_id=ORGANIZATION,
        scope="project",
        scope_id=PROJECT,
        month="2026-11",
        threshold=80,
        limit_nano=250_000_000_000,
        used_nano=200_012_500_000,
        managed_only=False,
        request_id="req_1",
    ),
    "wallet.recharged": WalletRecharged(
        organization_id=ORGANIZATION,
        payment_id="pay_1",
        amount_nano=25_000_000_000,
        currency="usd",
        available_nano=27_350_000_000,
        debt_nano=0,
        kind="automatic",
        created_at=NOW,
    ),
    "wallet.top_up_failed": TopUpFailed(
        organization_id=ORGANIZATION,
        payment_id="pay_1",
        amount_nano=25_000_000_000,
        currency="usd",
        code="declined",
        reason="Your card was declined.",
        failures=1,
        enabled=True,
        retry_at=NOW + 3_600,
        created_at=NOW,
    ),
    "webhook.endpoint_disabled": WebhookEndpointDisabled(
        organization_id=ORGANIZATION,
        endpoint_id="whe_1",
        url="https://app.example.com/hooks",
        reason="failing",
        failing_since=NOW - 5 * 86_400,
        disabled_at=NOW,
    ),
    "webhook.test": WebhookTest(ORGANIZATION, "whe_1", "This is a test of your webhook endpoint."),
}


def make_row(name: str) -> outbox.Row:
    """Return the example of an event as a row of the outbox."""
    payload = msgspec.json.encode(EXAMPLES[name])
    return f"{name}:1", int(NOW * 1_000_000), name, ORGANIZATION, payload

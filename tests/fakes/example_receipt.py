"""An example receipt, of which a test changes the fields that it is about."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from headgate.llm.usage import Usage
from headgate.relay.ports import Receipt

PLAIN = Receipt(
    request_id="req_1",
    created_at=1_800_000_000.0,
    organization_id="org_1",
    project_id="proj_1",
    key_id="key_1",
    credential_id="cred_1",
    managed=False,
    endpoint="chat.completions",
    method="POST",
    provider="openai",
    model_requested="gpt-5.4-mini",
    model_served="gpt-5.4-mini-2026-03-17",
    answer_id="chatcmpl-1",
    upstream_request_id="req_up",
    correlation_id=None,
    status=200,
    outcome="completed",
    error_code=None,
    streamed=False,
    usage=Usage(input_tokens=1, output_tokens=1),
    estimated=False,
    service_tier="default",
    pricing="priced",
    unpriced_reason=None,
    price_id="openai/gpt-5.4-mini@2026-01-01",
    cost_nano=5_250,
    attempts=1,
    first_byte_microseconds=900,
    upstream_microseconds=1_000,
    total_microseconds=1_200,
    overhead_microseconds=200,
)


def make_receipt(**changes: Any) -> Receipt:
    return replace(PLAIN, **changes)

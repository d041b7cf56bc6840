"""Random receipts, and the plain sums over them that the roll-ups must equal."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterable
from typing import Any

from headgate.kit.ids import first_id
from headgate.llm.usage import Usage
from headgate.metering.model import MICROSECONDS
from headgate.relay.ports import Receipt
from tests.fakes.example_receipt import make_receipt

START = datetime.datetime(2026, 3, 27, tzinfo=datetime.UTC).timestamp()
DAYS = 5
OUTCOMES = (
    "completed",
    "completed",
    "completed",
    "cancelled",
    "upstream_error",
    "refused",
    "corrected",
)


def make_random_receipts(seed: int, count: int, *, first: int = 0) -> list[Receipt]:
    """Make receipts of two organizations over the days around a change of the clock."""
    random_ = random.Random(seed)
    return [_make_one(random_, number) for number in range(first, first + count)]


def _make_one(random_: random.Random, number: int) -> Receipt:
    at = START + random_.randrange(DAYS * 86_400 * 1000) / 1000
    managed = random_.random() < 0.5
    outcome = random_.choice(OUTCOMES)
    is_correction = outcome == "corrected"
    cost = random_.randrange(-(10**6) if is_correction else 0, 10**7)
    provider = random_.choice(["openai", "local"])
    model = random_.choice(["gpt-5.4", f"{provider}/gpt-5.4", "gpt-5.4-mini", None])
    return make_receipt(
        request_id=f"{first_id('req', at)}{number:020x}",
        created_at=at,
        organization_id=random_.choice(["org_1", "org_1", "org_2"]),
        project_id=random_.choice(["proj_1", "proj_2"]),
        key_id=random_.choice(["key_1", "key_2", "key_3"]),
        credential_id=random_.choice(["cred_1", None]),
        provider=provider,
        model_requested=model,
        model_served=random_.choice(["gpt-5.4-2026-03-05", None]),
        managed=managed,
        outcome=outcome,
        usage=random_.choice(
            [
                None,
                Usage(
                    input_tokens=random_.randrange(1000) + 500,
                    cached_tokens=random_.randrange(500),
                    input_audio_tokens=random_.randrange(3),
                    output_image_tokens=random_.randrange(3),
                    output_tokens=random_.randrange(900) + 100,
                    reasoning_tokens=random_.randrange(100),
                ),
            ]
        ),
        cost_nano=cost,
        credit_nano=random_.randrange(cost + 1) if managed and cost >= 0 else 0,
        cache_status=random_.choice(["bypass", "hit", "miss"]),
        total_microseconds=random_.randrange(10**8) if outcome == "completed" else -1,
        metadata=random_.choice(["", '{"team":"a"}', '{"team":"b","user":"u1"}']),
    )


def name_model(receipt: Receipt) -> str:
    named = receipt.model_requested or receipt.model_served or ""
    return named.removeprefix(f"{receipt.provider}/")


def add_up(
    receipts: Iterable[Receipt], group: Callable[[Receipt], Any], *, start: float, end: float
) -> dict[Any, dict[str, int]]:
    """Return the sums of each group, the plain way."""
    sums: dict[Any, dict[str, int]] = {}
    for receipt in receipts:
        at = int(receipt.created_at * MICROSECONDS)
        if not start * MICROSECONDS <= at < end * MICROSECONDS:
            continue
        total = sums.setdefault(group(receipt), dict.fromkeys(NAMES, 0))
        is_call = receipt.outcome != "corrected"
        usage = (receipt.usage if is_call else None) or Usage()
        failed = is_call and receipt.outcome not in ("completed", "cancelled")
        values = (
            int(is_call),
            int(receipt.outcome == "completed"),
            int(failed),
            int(is_call and receipt.cache_status == "hit"),
            usage.input_tokens,
            usage.cached_tokens,
            usage.input_audio_tokens,
            usage.output_image_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            receipt.cost_nano,
            receipt.cost_nano - receipt.credit_nano if receipt.managed else 0,
            receipt.credit_nano if receipt.managed else 0,
        )
        for name, value in zip(NAMES, values, strict=True):
            total[name] += value
    return sums


NAMES = (
    "requests",
    "completed",
    "errors",
    "cache_hits",
    "input_tokens",
    "cached_tokens",
    "input_audio_tokens",
    "output_image_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano",
    "wallet_nano",
    "credit_nano",
)

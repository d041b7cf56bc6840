"""The contract of a refused hold: what the client reads and what its SDK does."""

from __future__ import annotations

import json

import pytest

from headgate.gateway import errors
from headgate.relay.capacity import CapacityExhaustedError
from headgate.relay.ports import Denial, HoldRefusedError

RESETS_AT = 1_796_083_200.0


class OverBudgetError(HoldRefusedError):
    code = "budget_exceeded"


class OutOfCreditsError(HoldRefusedError):
    code = "credits_exhausted"


REFUSALS = [
    (OverBudgetError, "quota", "budget.key", "key_1", RESETS_AT),
    (OverBudgetError, "quota", "budget.project", "proj_1", RESETS_AT),
    (OverBudgetError, "quota", "budget.organization", "org_1", RESETS_AT),
    (OutOfCreditsError, "credit", "credits.monthly", "org_1", RESETS_AT),
    (HoldRefusedError, "wallet", "wallet", "org_1", None),
]


def refuse(
    kind: type[HoldRefusedError], layer: str, key: str, scope_id: str, resets_at: float | None
) -> HoldRefusedError:
    denial = Denial(
        layer=layer,
        key=key,
        scope_id=scope_id,
        limit_nano=1_000_000_000,
        used_nano=900_000_000,
        held_nano=50_000_000,
        needed_nano=60_000_000,
        available_nano=50_000_000,
        resets_at=resets_at,
    )
    error = kind("It does not fit.", denial=denial)
    error.fits_tokens, error.fits_nano = 1_234, 49_999_000
    return error


@pytest.mark.parametrize(("kind", "layer", "key", "scope_id", "resets_at"), REFUSALS)
def test_refusal_names_the_limit_and_its_state_in_the_shape_of_openai(
    kind: type[HoldRefusedError], layer: str, key: str, scope_id: str, resets_at: float | None
) -> None:
    error = refuse(kind, layer, key, scope_id, resets_at)
    assert error.kind.value == 402
    body = json.loads(errors.encode_body(error, b"/v1/chat/completions", "req_7"))
    assert body == {
        "error": {
            "message": "It does not fit.",
            "type": "insufficient_quota",
            "param": None,
            "code": kind.code,
            "denial": {
                "code": kind.code,
                "layer": layer,
                "key": key,
                "scope_id": scope_id,
                "limit": "1.000000000",
                "used": "0.900000000",
                "held": "0.050000000",
                "needed": "0.060000000",
                "available": "0.050000000",
                "currency": "USD",
                "resets_at": None if resets_at is None else "2026-12-01T00:00:00Z",
                "fits": {"output_tokens": 1_234, "amount": "0.049999000"},
                "request_id": "req_7",
            },
        }
    }


@pytest.mark.parametrize(("kind", "layer", "key", "scope_id", "resets_at"), REFUSALS)
def test_refusal_tells_the_sdk_not_to_try_again(
    kind: type[HoldRefusedError], layer: str, key: str, scope_id: str, resets_at: float | None
) -> None:
    error = refuse(kind, layer, key, scope_id, resets_at)
    lines = errors.encode_head(error, retry_after_max_seconds=60).split(b"\r\n")
    assert b"x-should-retry: false" in lines
    assert b"x-headgate-error-source: gateway" in lines
    reset = b"x-headgate-budget-reset: 2026-12-01T00:00:00Z"
    assert (reset in lines) is (resets_at is not None)
    assert not any(line.startswith(b"retry-after") for line in lines)


def test_refusal_that_no_output_limit_avoids_has_no_fit() -> None:
    error = refuse(*REFUSALS[0])
    error.fits_tokens = None
    body = json.loads(errors.encode_body(error, b"/v1/embeddings", "req_7"))
    assert body["error"]["denial"]["fits"] is None


@pytest.mark.parametrize(
    ("wait", "told", "retries"), [(59.5, 60, None), (61.0, 61, False), (900.0, 900, False)]
)
def test_exhausted_capacity_tells_how_long_it_lasts(
    wait: float, told: int, retries: bool | None
) -> None:
    error = CapacityExhaustedError("It is used up.", wait_seconds=wait)
    assert error.should_retry is retries
    lines = errors.encode_head(error, retry_after_max_seconds=60).split(b"\r\n")
    assert b"retry-after: %d" % told in lines

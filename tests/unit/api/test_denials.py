"""Refused managed work on the platform API (M96 to M99): six flat fields, and the status of the
layer. Everything else keeps its own shape."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from headgate.api.access import organization
from headgate.api.denials import CODES
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes import ALL
from headgate.api.schemas.fields import Empty
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.rate_limiter import RateLimit, RateLimitedError
from headgate.relay.managed_calls import PlanConcurrencyError
from headgate.relay.ports import Denial, HoldRefusedError
from tests.fakes.api import Api, Props, running_api

DOLLAR = 1_000_000_000
FIELDS = {"code", "layer", "key", "current", "limit", "reason"}


class UpstreamLimitError(HeadgateError):
    """A rate limit of the provider."""

    kind = Kind.LIMITED
    code = "upstream_rate_limited"


def refuse(layer: str, key: str, *, limit: int, used: int, held: int) -> HoldRefusedError:
    denial = Denial(layer, key, "org_1", limit, used, held, DOLLAR, limit - used - held)
    return HoldRefusedError("The call can cost $1.", denial=denial)


ERRORS: dict[str, HeadgateError] = {
    "quota": refuse("quota", "budget.project", limit=5 * DOLLAR, used=4 * DOLLAR, held=DOLLAR // 2),
    "credit": refuse("credit", "credits.monthly", limit=DOLLAR, used=DOLLAR, held=0),
    "wallet": refuse("wallet", "wallet", limit=DOLLAR // 4, used=0, held=DOLLAR // 4),
    "rate": RateLimitedError(
        "Too many.",
        wait_seconds=2.5,
        rate_limits=(RateLimit("requests", 60, 9, 50.0), RateLimit("tokens", 1000, 0, 60.0)),
    ),
    "concurrency": PlanConcurrencyError(5, 5),
    "upstream": UpstreamLimitError("The provider is busy.", retry_after_seconds=3),
}
OPERATIONS = Operations("Runs", "Operations of this test.")
ACCESS = organization("runs:write")


@OPERATIONS.get("/api/runs/{key_id}", access=ACCESS, summary="Start a run", is_managed=True)
async def start_run(context: RequestContext[Empty, Empty]) -> None:
    """Refuse."""
    raise ERRORS[context.path["key_id"]]


@OPERATIONS.get("/api/own-runs/{key_id}", access=ACCESS, summary="Start a run")
async def start_own_run(context: RequestContext[Empty, Empty]) -> None:
    """Refuse."""
    raise ERRORS[context.path["key_id"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api]:
    props = Props(modules=(*ALL, OPERATIONS))
    with running_api(tmp_path_factory.mktemp("runs") / "data", props) as api:
        yield api


@pytest.mark.parametrize(
    ("layer", "status", "expected"),
    [
        ("quota", 403, {"key": "budget.project", "current": 4.5, "limit": 5}),
        ("rate", 429, {"key": "tokens_per_minute", "current": 1000, "limit": 1000}),
        ("credit", 402, {"key": "credits.monthly", "current": 1000, "limit": 1000}),
        ("wallet", 402, {"key": "wallet", "current": 0.25, "limit": 0.25}),
    ],
)
def test_refused_managed_work_has_six_flat_fields(
    runs: Api, layer: str, status: int, expected: dict[str, Any]
) -> None:
    answer = runs.get(f"/api/runs/{layer}")
    assert (answer.status, set(answer.json)) == (status, FIELDS)
    assert answer.json | expected == answer.json
    assert (answer.json["layer"], answer.json["code"]) == (layer, CODES[layer])
    assert answer.json["reason"]
    assert ("retry-after" in answer.headers) == (layer == "rate")


def test_plan_without_a_free_place_denies_by_rate(runs: Api) -> None:
    answer = runs.get("/api/runs/concurrency")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert (answer.json["layer"], answer.json["key"]) == ("rate", "concurrent_requests")
    assert (answer.json["current"], answer.json["limit"]) == (5, 5)


def test_rate_limit_of_the_provider_is_no_denial(runs: Api) -> None:
    answer = runs.get("/api/runs/upstream")
    assert (answer.status, set(answer.json)) == (429, {"detail", "code"})
    assert answer.json["code"] == "upstream_rate_limited"


@pytest.mark.parametrize("layer", ERRORS)
def test_other_operations_never_answer_with_a_denial(runs: Api, layer: str) -> None:
    assert set(runs.get(f"/api/own-runs/{layer}").json) == {"detail", "code"}


def test_no_operation_on_credentials_answers_402() -> None:
    for operations in ALL:
        for operation in operations.all:
            if "credential" in operation.path or "connection" in operation.path:
                assert not operation.is_managed
                assert 402 not in operation.errors


def test_document_shows_the_denial(runs: Api) -> None:
    document = runs.get("/openapi.json").json
    responses = document["paths"]["/api/runs/{key_id}"]["get"]["responses"]
    for status in ("402", "403", "429"):
        schema = responses[status]["content"]["application/json"]["schema"]
        assert {"$ref": "#/components/schemas/DenialEnvelope"} in schema["anyOf"]

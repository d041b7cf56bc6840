"""Output limits that a hold covers: chosen for who states none, clamped for who asks for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headgate.catalog.service.catalog import Catalog
from headgate.gateway.conversions import ConversionTable
from headgate.kit.http.message import Timeouts
from headgate.llm.request import JsonRequest
from headgate.relay.breaker import Breakers
from headgate.relay.call_bound import CallBound, bound_call
from headgate.relay.call_state import CallState
from headgate.relay.ports import Budget, Grant, HoldRefusedError, Model
from headgate.relay.reservation import (
    FITTED_TOKENS_MIN,
    OUTPUT_TOKENS_MIN,
    REASONING_OUTPUT_TOKENS_MIN,
    InvalidOutputLimitError,
    Reservation,
    UnpricedModelError,
)
from headgate.relay.routing import Routing
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeBudgets,
    FakeCaller,
    FakeCredentials,
    FakeLedger,
    FakeModels,
    FlatPrice,
    ManualClock,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

MANAGED = replace(CREDENTIAL, managed=True)
BUDGET = Budget("key", "key_1", 1_000_000)
MODEL = Model("gpt-5.4-mini", "gpt-5.4-mini", 1_000, 500, limit_field="max_completion_tokens")
CEILING_NANO = 10 * 500


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def hold(
    body: bytes,
    *,
    path: str = "/chat/completions",
    available: int | None = None,
    fits: bool = False,
    model: Model = MODEL,
    managed: bool = True,
    budgets: FakeBudgets | None = None,
    ledger: FakeLedger | None = None,
    models: FakeModels | None = None,
) -> CallState:
    models = models or FakeModels(model)
    state = make_state(make_call(path, body=body))
    state.call.fits_budget = fits
    state.caller = FakeCaller()
    credential = MANAGED if managed else CREDENTIAL
    breakers, table = Breakers(ManualClock()), ConversionTable()
    Routing(FakeCredentials(credential), models, breakers, conversions=table).plan(state)
    ledger = ledger or FakeLedger()
    ledger.available_nano = available
    await Reservation(
        ledger,
        models,
        ManualClock(),
        timeouts=Timeouts(),
        budgets=budgets or FakeBudgets(),
    ).hold(state)
    return state


def sent(state: CallState) -> bytes:
    assert isinstance(state.body, JsonRequest)
    return state.body.body


CHAT = b'{"model":"gpt-5.4-mini","messages":[],"x":1 }'


async def test_nothing_is_changed_if_the_ceiling_is_covered() -> None:
    state = await hold(CHAT, available=len(CHAT) + CEILING_NANO)
    assert state.body is state.call.body
    assert state.output_limit is None


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/chat/completions",
            b'{"model":"gpt-5.4-mini","messages":[],"x":1 }',
            b'{"model":"gpt-5.4-mini","messages":[],"x":1,"max_completion_tokens":300 }',
        ),
        (
            "/chat/completions",
            b'{ "max_completion_tokens": null, "model":"gpt-5.4-mini"}',
            b'{ "max_completion_tokens": 300, "model":"gpt-5.4-mini"}',
        ),
        (
            "/completions",
            b'{"model":"gpt-5.4-mini","prompt":"x"}',
            b'{"model":"gpt-5.4-mini","prompt":"x","max_tokens":300}',
        ),
        (
            "/responses",
            '{"model":"gpt-5.4-mini","input":"é😀\\u00e9","nested":{"max_output_tokens":9}}'.encode(),
            '{"model":"gpt-5.4-mini","input":"é😀\\u00e9","nested":{"max_output_tokens":9},'
            '"max_output_tokens":300}'.encode(),
        ),
    ],
)
async def test_caller_without_a_limit_gets_one_that_the_hold_covers(
    path: str, body: bytes, expected: bytes
) -> None:
    # Any `prompt` counts as unbounded, since on /responses it may be a stored one.
    needed = 1_000 if b"prompt" in body else len(body)
    state = await hold(body, path=path, available=needed + 10 * 300 + 9)
    assert sent(state) == expected
    assert state.output_limit == 300
    assert state.hold is not None
    assert state.hold.amount_nano == needed + 10 * 300 + 9
    assert isinstance(state.body, JsonRequest)
    assert state.body.output_tokens_max == 300


async def test_limit_is_shared_by_all_answers() -> None:
    body = b'{"model":"gpt-5.4-mini","n":3}'
    state = await hold(body, available=len(body) + 10 * 1_000)
    assert state.output_limit == 333


async def test_integration_that_wants_another_field_gets_it() -> None:
    model = replace(MODEL, limit_field="max_tokens")
    state = await hold(CHAT, model=model, available=len(CHAT) + 10 * 300)
    assert b'"max_tokens":300' in sent(state)
    assert b"max_completion_tokens" not in sent(state)


@pytest.mark.parametrize(
    ("reasons", "least"), [(False, OUTPUT_TOKENS_MIN), (True, REASONING_OUTPUT_TOKENS_MIN)]
)
async def test_useless_answer_is_not_sold(reasons: bool, least: int) -> None:
    model = replace(MODEL, output_tokens_max=5_000, reasons=reasons)
    needed = len(CHAT) + 10 * least
    assert (await hold(CHAT, model=model, available=needed)).output_limit == least
    with pytest.raises(HoldRefusedError):
        await hold(CHAT, model=model, available=needed - 1)


async def test_stated_limit_is_held_for_whole_or_refused_with_what_would_fit() -> None:
    body = b'{"model":"gpt-5.4-mini","max_tokens":400}'
    with pytest.raises(HoldRefusedError) as caught:
        await hold(body, available=len(body) + 10 * 250 + 3)
    error = caught.value
    assert (error.fits_tokens, error.fits_nano) == (250, len(body) + 10 * 250)
    assert "A limit of 250 output tokens would fit (0.000002541 US dollars)" in error.message
    assert "`x-headgate-budget: fit`" in error.message
    assert error.should_retry is False
    exact = await hold(body, available=len(body) + 10 * 400)
    assert exact.body is exact.call.body


async def test_converted_call_is_told_of_the_fields_that_its_client_has() -> None:
    ask: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "x"}]}
    answers_responses = replace(MODEL, surfaces=frozenset({"responses"}))
    with pytest.raises(HoldRefusedError) as refused:
        await hold(
            json.dumps(ask | {"max_tokens": 400}).encode(), available=2_000, model=answers_responses
        )
    assert "send `max_completion_tokens`: " in refused.value.message
    with pytest.raises(InvalidOutputLimitError) as invalid:
        await hold(
            json.dumps(ask | {"max_tokens": 0}).encode(), available=2_000, model=answers_responses
        )
    assert invalid.value.param == "max_completion_tokens"
    fitted = await hold(json.dumps(ask).encode(), available=4_000, model=answers_responses)
    assert b'"max_output_tokens":' in sent(fitted)


async def test_only_a_call_without_a_limit_of_its_own_leaves_half_to_others() -> None:
    stated = b'{"model":"gpt-5.4-mini","max_tokens":400}'
    state = await hold(stated, available=len(stated) + 10 * 100, fits=True)
    assert state.hold is not None
    assert state.hold.shares_rest is False
    state = await hold(CHAT, available=len(CHAT) + 10 * 300)
    assert state.hold is not None
    assert state.hold.shares_rest is True


async def test_refusal_says_so_when_no_limit_fits() -> None:
    with pytest.raises(HoldRefusedError) as caught:
        await hold(CHAT, available=len(CHAT))
    assert caught.value.fits_tokens == 0
    assert "No useful output limit" in caught.value.message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"model":"gpt-5.4-mini","max_tokens":400}',
            b'{"model":"gpt-5.4-mini","max_tokens":100}',
        ),
        (
            b'{"max_tokens" : 400,"max_completion_tokens":90,"model":"gpt-5.4-mini"}',
            b'{"max_tokens" : 100,"max_completion_tokens":90,"model":"gpt-5.4-mini"}',
        ),
        (
            b'{"max_tokens":300,"model":"gpt-5.4-mini","max_completion_tokens":400}',
            b'{"max_tokens":100,"model":"gpt-5.4-mini","max_completion_tokens":100}',
        ),
    ],
)
async def test_stated_limit_is_lowered_on_request(body: bytes, expected: bytes) -> None:
    state = await hold(body, available=len(body) + 10 * 100, fits=True)
    assert sent(state) == expected
    assert state.output_limit == 100


async def test_lowered_limit_is_not_below_the_least() -> None:
    body = b'{"model":"gpt-5.4-mini","max_tokens":400}'
    least = len(body) + 10 * FITTED_TOKENS_MIN
    assert (await hold(body, available=least, fits=True)).output_limit == FITTED_TOKENS_MIN
    with pytest.raises(HoldRefusedError):
        await hold(body, available=least - 1, fits=True)


async def test_limit_above_the_ceiling_is_lowered_to_it() -> None:
    body = b'{"model":"gpt-5.4-mini","max_completion_tokens":999999999}'
    state = await hold(body)
    assert sent(state) == b'{"model":"gpt-5.4-mini","max_completion_tokens":500}'
    assert state.output_limit == 500
    assert state.hold is not None
    assert state.hold.amount_nano == len(body) + CEILING_NANO


@pytest.mark.parametrize(
    "limits", [b'"max_tokens":-1', b'"max_tokens":0', b'"max_completion_tokens":5,"max_tokens":-9']
)
async def test_invalid_limit_shrinks_no_hold(limits: bytes) -> None:
    body = b'{"model":"gpt-5.4-mini",%b}' % limits
    state = await hold(body, available=len(body) + CEILING_NANO)
    assert state.body is state.call.body
    assert state.hold is not None
    assert state.hold.amount_nano == len(body) + CEILING_NANO
    with pytest.raises(InvalidOutputLimitError) as caught:
        await hold(body, available=len(body) + CEILING_NANO - 1)
    assert caught.value.param == "max_tokens"


async def test_prediction_adds_its_tokens_and_is_not_fitted() -> None:
    prediction = b'{"type":"content","content":"abc"}'
    body = b'{"model":"gpt-5.4-mini","max_tokens":20,"prediction":%b}' % prediction
    state = await hold(body)
    assert state.hold is not None
    assert state.hold.amount_nano == len(body) + 10 * (20 + len(prediction))
    with pytest.raises(HoldRefusedError) as caught:
        await hold(body, available=len(body), fits=True)
    assert caught.value.fits_tokens is None


async def test_body_without_the_request_for_usage_is_limited_as_well() -> None:
    body = b'{"model":"gpt-5.4-mini","stream":true}'
    needed = 10 * 300 + 100
    state = await hold(body, available=needed)
    assert state.body_without_usage is not None
    assert b'"max_completion_tokens":%d' % (state.output_limit or 0) in sent(state)
    assert state.body_without_usage.body == (
        b'{"model":"gpt-5.4-mini","stream":true,"max_completion_tokens":%d}'
        % (state.output_limit or 0)
    )


async def test_memory_of_a_changed_copy_is_counted() -> None:
    body = b'{"model":"gpt-5.4-mini","x":"%b"}' % (b"y" * 200_000)
    state = await hold(body, available=1_000 + 10 * 300)
    caller = state.caller
    assert isinstance(caller, FakeCaller)
    assert caller.held_bytes == len(sent(state))


async def test_own_key_holds_its_share_of_a_budget() -> None:
    budgets = FakeBudgets((BUDGET,), {"org_1"})
    state = await hold(CHAT, managed=False, budgets=budgets, available=len(CHAT) + 10 * 300)
    assert state.hold is not None
    assert (state.hold.managed, state.hold.budgets) == (False, (BUDGET,))
    assert state.output_limit == 300


@pytest.mark.parametrize(
    "budgets",
    [
        FakeBudgets((BUDGET,), {"org_2"}),
        FakeBudgets((), {"org_1"}),
        FakeBudgets((replace(BUDGET, managed_only=True),), {"org_1"}),
    ],
)
async def test_own_key_that_no_budget_counts_holds_nothing(budgets: FakeBudgets) -> None:
    ledger = FakeLedger()
    state = await hold(CHAT, managed=False, budgets=budgets, ledger=ledger)
    assert state.hold is None
    assert ledger.holds == []


async def test_managed_call_names_its_budgets() -> None:
    state = await hold(CHAT, budgets=FakeBudgets((BUDGET,), {"org_1"}))
    assert state.hold is not None
    assert (state.hold.managed, state.hold.budgets) == (True, (BUDGET,))


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("/chat/completions", "POST", b'{"model":"unknown"}'),
        ("/threads/runs", "POST", b'{"model":"gpt-5.4-mini"}'),
        ("/videos", "POST", b"x"),
        ("/something/new", "GET", b""),
    ],
)
async def test_call_without_a_price_is_refused_under_a_budget(
    path: str, method: str, body: bytes
) -> None:
    state = make_state(make_call(path, body=body, method=method))
    reservation = Reservation(
        FakeLedger(),
        FakeModels(MODEL),
        ManualClock(),
        timeouts=Timeouts(),
        budgets=FakeBudgets((BUDGET,), {"org_1"}),
    )
    with pytest.raises(UnpricedModelError, match="budget of the key key_1"):
        await reservation.hold(state)


async def test_free_endpoint_needs_no_budget() -> None:
    state = make_state(make_call("/files", method="GET", body=b""))
    budgets = FakeBudgets((BUDGET,), {"org_1"})
    await Reservation(
        FakeLedger(), FakeModels(MODEL), ManualClock(), timeouts=Timeouts(), budgets=budgets
    ).hold(state)
    assert state.hold is None


class SilentBudgets:
    """Fail a test that looks further than the organizations."""

    organizations = frozenset({"org_2"})

    def find(self, grant: Grant, *, managed: bool) -> tuple[Budget, ...]:
        raise AssertionError("no budget of this organization")


async def test_own_key_of_an_organization_without_budgets_takes_one_look() -> None:
    state = make_state()
    await Reservation(
        FakeLedger(), FakeModels(), ManualClock(), timeouts=Timeouts(), budgets=SilentBudgets()
    ).hold(state)
    assert state.hold is None


CATALOG = Catalog.load()
NOW = 1_800_000_000.0
FITTED = [
    (path, model)
    for path in ("/chat/completions", "/responses")
    for model in CATALOG.models()
    if (model.output_tokens_max or model.input_tokens_max)
    and (price := CATALOG.price(model.id, NOW)) is not None
    and price.bound(1, 1, None)
]


@given(st.data())
def test_fitted_limit_is_the_largest_that_the_grant_covers(data: st.DataObject) -> None:
    path, model = data.draw(st.sampled_from(FITTED))
    fields: dict[str, Any] = {"model": model.id, "input": data.draw(st.text(max_size=50))}
    if path == "/chat/completions":
        fields["n"] = data.draw(st.integers(1, 4))
    if data.draw(st.booleans()):
        fields["service_tier"] = data.draw(st.sampled_from(["auto", "default"]))
    if data.draw(st.booleans()):
        fields["tools"] = [{"type": "web_search"}]
    state = make_state(make_call(path, body=json.dumps(fields).encode()))
    state.credential, state.model = MANAGED, model
    bound = bound_call(state, CATALOG, NOW, 10)
    assert bound is not None
    worst = bound.cost(bound.limit)
    assert worst is not None
    ledger = FakeLedger()
    ledger.available_nano = data.draw(st.integers(0, worst))
    reservation = Reservation(ledger, CATALOG, ManualClock(), timeouts=Timeouts())
    try:
        asyncio.run(reservation.hold(state))
    except HoldRefusedError as error:
        check_refusal(error, bound, ledger.available_nano)
        return
    assert state.hold is not None
    granted = state.hold.amount_nano
    assert granted <= ledger.available_nano
    if granted == worst:
        assert state.output_limit is None
        return
    limit = state.output_limit
    assert limit is not None
    assert bound.cost(limit) <= granted < bound.cost(limit + 1)  # type: ignore[operator]
    assert isinstance(state.body, JsonRequest)
    body = json.loads(state.body.body)
    name = model.limit_field if path == "/chat/completions" else "max_output_tokens"
    assert body.pop(name) == limit
    assert body == fields


def check_refusal(error: HoldRefusedError, bound: CallBound, available: int) -> None:
    """A refusal comes only where the least useful output does not fit, and names what does."""
    assert available < (bound.cost(min(REASONING_OUTPUT_TOKENS_MIN, bound.limit)) or 0)
    limit = error.fits_tokens
    assert limit is not None
    if limit:
        assert (bound.cost(limit) or 0) <= available < (bound.cost(limit + 1) or 0)
    else:
        assert (bound.cost(FITTED_TOKENS_MIN) or 0) > available


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(0, 10**5), st.integers(0, 10**7))
def test_largest_limit_is_found_for_any_amount(
    input_tokens: int, answers: int, ceiling: int, amount: int
) -> None:
    bound = CallBound(FlatPrice(), input_tokens, answers, limit=ceiling, ceiling=ceiling)
    limit = bound.find_limit(amount)
    assert limit == -1 or (bound.cost(limit) or 0) <= amount
    assert limit == ceiling or (bound.cost(limit + 1) or 0) > amount

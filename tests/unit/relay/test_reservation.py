from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headgate.catalog.service.catalog import Catalog
from headgate.kit.http.message import Timeouts
from headgate.llm.usage import Usage
from headgate.relay.breaker import Breakers
from headgate.relay.call_state import CallState
from headgate.relay.deadlines import make_deadlines
from headgate.relay.reservation import Reservation, UnpricedModelError
from headgate.relay.routing import Routing
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeCredentials,
    FakeLedger,
    FakeModels,
    ManualClock,
    WalletEmptyError,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

MANAGED = replace(CREDENTIAL, managed=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def hold(
    body: bytes, *, models: FakeModels | None = None, ledger: FakeLedger | None = None
) -> CallState:
    models = models or FakeModels()
    state = make_state(make_call(body=body))
    Routing(FakeCredentials(MANAGED), models, Breakers(ManualClock())).plan(state)
    await Reservation(ledger or FakeLedger(), models, ManualClock(), timeouts=Timeouts()).hold(
        state
    )
    return state


async def test_own_key_holds_nothing() -> None:
    ledger = FakeLedger()
    await Reservation(ledger, FakeModels(), ManualClock(), timeouts=Timeouts()).hold(
        state := make_state()
    )
    assert state.hold is None
    assert not ledger.holds


@pytest.mark.parametrize(
    ("of_model", "of_credential", "total_seconds"),
    [(None, None, 3_600), (7_200.0, None, 7_200), (7_200.0, 1_800.0, 1_800)],
)
async def test_hold_outlasts_the_total_deadline_of_its_call(
    of_model: float | None, of_credential: float | None, total_seconds: float
) -> None:
    state = make_state()
    state.credential = replace(MANAGED, deadlines=make_deadlines(None, None, of_credential))
    model = replace(FakeModels().model, deadlines=make_deadlines(None, None, of_model))
    state.model = model
    timeouts = Timeouts(total_seconds=3_600)
    ledger = FakeLedger()
    await Reservation(ledger, FakeModels(model), ManualClock(), timeouts=timeouts).hold(state)
    assert [hold.lease_seconds for hold in ledger.holds] == [total_seconds + 300]


async def test_managed_call_holds_the_most_that_it_can_cost() -> None:
    body = b'{"model":"gpt-5.4-mini","messages":[]}'
    state = await hold(body, ledger=(ledger := FakeLedger()))
    assert state.hold is not None
    assert state.hold.amount_nano == len(body) + 10 * 500
    assert ledger.holds == [state.hold]


@pytest.mark.parametrize("text", [rb"\u00e9\u003c\u007f\u0022", rb"\\u0069 \\\\u0069"])
async def test_escaped_fields_are_held_for(text: bytes) -> None:
    body = b'{"model":"gpt-5.4-mini","input":"%b"}' % text
    state = await hold(body)
    assert state.hold is not None
    assert state.hold.amount_nano == len(body) + 10 * 500


@pytest.mark.parametrize(("n", "answers"), [(b"3", 3), (b"0", 1), (b"-7", 1), (b"null", 1)])
async def test_hold_covers_every_choice(n: bytes, answers: int) -> None:
    body = b'{"model":"gpt-5.4-mini","n":%b}' % n
    state = await hold(body)
    assert state.hold is not None
    assert state.hold.amount_nano == len(body) + 10 * 500 * answers


@pytest.mark.parametrize(
    ("prompt", "answers"),
    [
        (b'"x"', 1),
        (b'["x","y","z"]', 3),
        (b"[1,2,3,4]", 1),
        (b"[[1,2],[3]]", 2),
        (b"[]", 1),
        (b'[{},"x"]', 2),
    ],
)
async def test_hold_covers_every_prompt(prompt: bytes, answers: int) -> None:
    fields = b'{"model":"gpt-5.4-mini","prompt":%b}' % prompt
    models = FakeModels()
    state = make_state(make_call("/completions", body=fields))
    Routing(FakeCredentials(MANAGED), models, Breakers(ManualClock())).plan(state)
    await Reservation(FakeLedger(), models, ManualClock(), timeouts=Timeouts()).hold(state)
    assert state.hold is not None
    assert state.hold.amount_nano == TOKENS_NANO + (answers - 1) * 10 * 500


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-5.4-mini","previous_response_id":"resp_1"}',
        b'{"model":"gpt-5.4-mini","input":[{"type":"input_image","image_url":"u"}]}',
        b'{"model":"gpt-5.4-mini","tools":[{"type":"web_search"}]}',
        rb'{"model":"gpt-5.4-mini","input":[{"type":"input_\u0069mage","image_url":"u"}]}',
        rb'{"model":"gpt-5.4-mini","input":[{"type":"input\u005Ffile","file_url":"u"}]}',
        rb'{"model":"gpt-5.4-mini","tools":[{"type":"m\u0063p"}],"user":"\\"}',
    ],
)
async def test_hold_for_external_input_covers_the_largest(body: bytes) -> None:
    state = await hold(body)
    assert state.hold is not None
    assert state.hold.amount_nano == 1_000 + 10 * 500


async def test_model_without_a_price_is_refused() -> None:
    with pytest.raises(UnpricedModelError) as caught:
        await hold(b'{"model":"gpt-5.4-mini"}', models=FakeModels(is_priced=False))
    assert caught.value.should_retry is False
    with pytest.raises(UnpricedModelError):
        await hold(b'{"model":"unknown"}')


async def test_empty_wallet_leaves_no_hold() -> None:
    ledger = FakeLedger()
    ledger.refusal = WalletEmptyError("nothing left")
    models = FakeModels()
    state = make_state()
    Routing(FakeCredentials(MANAGED), models, Breakers(ManualClock())).plan(state)
    with pytest.raises(WalletEmptyError):
        await Reservation(ledger, models, ManualClock(), timeouts=Timeouts()).hold(state)
    assert state.hold is None


TOOL_FEES = {"web_search_call": 7, "file_search_call": 3, "code_interpreter_call": 500}
TOKENS_NANO = 1_000 + 10 * 500


@pytest.mark.parametrize(
    ("tools", "fields", "fees_nano"),
    [
        (["web_search"], b"", 10 * 7),
        (["web_search_2025_08_26"], b"", 10 * 7),
        (["web_search_preview"], b"", 10 * 7),
        (["web_search_preview_2025_03_11"], b"", 10 * 7),
        (["file_search", "function"], b"", 10 * 3),
        (["file_search", "web_search"], b'"max_tool_calls":4,', 4 * 7),
        (["web_search"], b'"max_tool_calls":0,', 0),
        (["web_search"], b'"max_tool_calls":-1,', 10 * 7),
        (["web_search"], b'"max_tool_calls":true,', 10 * 7),
        (["web_search"], b'"max_tool_calls":9007199254740992,', 10_000 * 7),
        (["code_interpreter"], b"", 500),
        (["code_interpreter", "web_search"], b'"max_tool_calls":2,', 500 + 2 * 7),
        (["x_search"], b"", 0),
        (["function", "mcp", "shell"], b'"previous_response_id":"r",', 0),
        ([], b'"prompt":{"id":"pmpt_1"},', 10 * 7 + 500),
    ],
)
async def test_fees_of_the_tools_that_a_request_allows_are_held(
    tools: list[str], fields: bytes, fees_nano: int
) -> None:
    listed = b",".join(b'{"type":"%b"}' % kind.encode() for kind in tools)
    body = b'{"model":"gpt-5.4-mini",%b"input":"x","tools":[%b]}' % (fields, listed)
    models = FakeModels(tool_fees=TOOL_FEES)
    state = make_state(make_call("/responses", body=body))
    Routing(FakeCredentials(MANAGED), models, Breakers(ManualClock())).plan(state)
    await Reservation(
        FakeLedger(), models, ManualClock(), timeouts=Timeouts(), tool_calls_assumed=10
    ).hold(state)
    assert state.hold is not None
    assert state.hold.amount_nano - fees_nano in (TOKENS_NANO, len(body) + 10 * 500)


async def test_hold_covers_the_fee_of_a_larger_container() -> None:
    body = (
        b'{"model":"gpt-5.4-mini","input":"x","tools":[{"type":"code_interpreter",'
        b'"container":{"type":"auto","memory_limit":"4g"}}]}'
    )
    state = await hold(body, models=FakeModels(tool_fees={"code_interpreter_call_4g": 2_000}))
    assert state.hold is not None
    assert state.hold.amount_nano == TOKENS_NANO + 2_000


async def test_hold_is_an_amount_that_the_database_can_keep() -> None:
    state = await hold(b'{"model":"gpt-5.4-mini","n":9007199254740991}')
    assert state.hold is not None
    assert state.hold.amount_nano < 2**63


CATALOG = Catalog.load()
NOW = 1_800_000_000.0
PRICED = [
    (model.id, tier)
    for model in CATALOG.models()
    if model.input_tokens_max and (price := CATALOG.price(model.id, NOW)) is not None
    if price.bound(1, 1, None) is not None
    for tier in price.tiers
]
"""Every model whose input is bounded, in every tier: more than 200 rows."""


@given(st.data())
def test_hold_covers_whatever_a_request_within_its_limits_can_cost(data: st.DataObject) -> None:
    model_id, tier = data.draw(st.sampled_from(PRICED))
    calls = data.draw(st.integers(0, 5))
    tools = data.draw(st.sets(st.sampled_from(["web_search_preview", "file_search", "shell"])))
    limit = data.draw(st.integers(1, 5_000))
    listed = ",".join(
        f'{{"type":"{tool}","environment":{{"type":"container_auto"}}}}' for tool in sorted(tools)
    )
    body = (
        f'{{"model":"{model_id}","input":"x","max_tool_calls":{calls},"service_tier":"auto",'
        f'"max_output_tokens":{limit},"tools":[{listed}],"previous_response_id":"r"}}'
    ).encode()
    state = make_state(make_call("/responses", body=body))
    state.model = model = CATALOG.find(model_id)
    state.credential = MANAGED
    assert model is not None
    asyncio.run(Reservation(FakeLedger(), CATALOG, ManualClock(), timeouts=Timeouts()).hold(state))
    assert state.hold is not None
    output_max = min(limit, model.output_tokens_max or model.input_tokens_max)
    input_tokens = data.draw(st.integers(0, model.input_tokens_max))
    output_tokens = data.draw(st.integers(0, output_max))
    search = data.draw(st.integers(0, calls))
    counts = {"web_search_call": search, "file_search_call": calls - search, "shell_call": 1}
    allowed = {"web_search_call": "web_search_preview", "file_search_call": "file_search"}
    usage = Usage(
        input_tokens=input_tokens,
        cached_tokens=data.draw(st.integers(0, input_tokens)),
        output_tokens=output_tokens,
        reasoning_tokens=data.draw(st.integers(0, output_tokens)),
        tool_calls={n: c for n, c in counts.items() if allowed.get(n, "shell") in tools},
    )
    price = CATALOG.price(model_id, NOW)
    assert price is not None
    cost = price.cost(usage, tier)
    assert cost is None or cost <= state.hold.amount_nano


def test_price_matrix_of_the_holds_has_its_size() -> None:
    assert len(PRICED) >= 200

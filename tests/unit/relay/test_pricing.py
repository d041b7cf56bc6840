"""The charge of a call: by its usage, by what of it has a price, and never for an impossible
usage."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.llm.tap import StreamTap
from headgate.llm.usage import ParsedUsage, Usage
from headgate.relay.breaker import Breakers
from headgate.relay.ports import Hold, Receipt
from headgate.relay.pricing import price_call
from headgate.relay.receipts import build_receipt
from headgate.relay.routing import Routing
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeCredentials,
    FakeModels,
    ManualClock,
    make_call,
    make_state,
)

NOW = 1_800_000_000.0
ROW = PriceRow(
    "acme/gpt-5.4-mini@2026-01-01",
    {
        "default": [
            NanoRates(
                input=10**6,
                cached_input=10**6,
                output=10**7,
                reasoning=10**7,
                tool_calls={"web_search_call": 70},
            )
        ],
        "priority": [NanoRates(input=2 * 10**6, output=2 * 10**7)],
    },
)
"""A nano-dollar a token in, ten a token out, seventy a search."""
SPEECH = PriceRow(
    "acme/tts@2026-01-01", {"default": [NanoRates(per_million_characters=15 * 10**9)]}
)
HELD_NANO = 40_000


class Models(FakeModels):
    """Represent a catalog of one model, with the price that a test chooses."""

    def __init__(self, price: PriceRow = ROW) -> None:
        super().__init__()
        self._price = price

    def price(self, model_id: str, at: float, integration: str | None = None) -> PriceRow:
        return self._price


def settle(
    usage: Usage | None,
    *,
    held_nano: int | None = HELD_NANO,
    body: bytes = b'{"model":"gpt-5.4-mini","input":"x"}',
    path: str = "/responses",
    models: Models | None = None,
    **changes: Any,
) -> Receipt:
    """Return the receipt of a call with this usage; `held_nano` is None for an own credential."""
    models = models or Models()
    state = make_state(make_call(path, body=body))
    managed = held_nano is not None
    credentials = FakeCredentials(replace(CREDENTIAL, managed=managed))
    Routing(credentials, models, Breakers(ManualClock())).plan(state)
    state.parsed_usage = ParsedUsage(usage=usage)
    state.hold = Hold("req_1", "org_1", held_nano) if managed else None
    state.attempts, state.was_sent, state.outcome = 1, True, "completed"
    for name, value in changes.items():
        setattr(state.parsed_usage if hasattr(state.parsed_usage, name) else state, name, value)
    charge = price_call(state, models, NOW)
    return build_receipt(state, charge, created_at=NOW, ended_at=0.0)


def test_call_with_an_unknown_tool_fee_costs_its_known_part_as_partial() -> None:
    usage = Usage(
        input_tokens=100, output_tokens=5, tool_calls={"web_search_call": 1, "future_call": 2}
    )
    for held_nano in (HELD_NANO, None):
        receipt = settle(usage, held_nano=held_nano)
        assert (receipt.pricing, receipt.cost_nano) == ("partial", 100 + 50 + 70)
        assert receipt.unpriced_reason == "no fee is known for future_call"
        assert (receipt.usage, receipt.estimated) == (usage, False)
        assert receipt.price_id == ROW.id


def test_managed_tokens_without_a_rate_cost_the_highest_rate() -> None:
    usage = Usage(input_tokens=100, output_tokens=5)
    receipt = settle(usage, service_tier="novel")
    assert (receipt.pricing, receipt.estimated) == ("unpriced", True)
    assert receipt.cost_nano == 2 * (100 + 50)
    assert settle(usage, service_tier="novel", held_nano=7).cost_nano == 7
    assert settle(usage, service_tier="novel", held_nano=None).cost_nano == 0


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (Usage(input_tokens=10**12), "1000000000000 input tokens were reported"),
        (Usage(input_tokens=5_000), "5000 input tokens were reported, and at most 1000"),
        (Usage(input_tokens=1, output_tokens=501), "501 output tokens were reported"),
        (Usage(audio_milliseconds=10**12), "milliseconds of audio"),
    ],
)
def test_impossible_usage_of_a_managed_call_costs_its_hold(usage: Usage, said: str) -> None:
    receipt = settle(usage)
    assert (receipt.pricing, receipt.cost_nano) == ("implausible", HELD_NANO)
    assert (receipt.usage, receipt.estimated) == (None, True)
    assert said in (receipt.unpriced_reason or "")


def test_impossible_usage_of_an_own_credential_has_no_cost() -> None:
    receipt = settle(Usage(input_tokens=10**12, output_tokens=1), held_nano=None)
    assert (receipt.pricing, receipt.cost_nano, receipt.usage) == ("implausible", 0, None)
    # The catalog's limits may be older than the model.
    receipt = settle(Usage(input_tokens=3_000, output_tokens=1_999), held_nano=None)
    assert (receipt.pricing, receipt.cost_nano) == ("priced", 3_000 + 19_990)


def test_usage_of_an_unknown_model_is_bounded() -> None:
    body = b'{"model":"unheard-of","input":"x"}'
    for count, pricing in ((10**9, "implausible"), (10**7, "priced")):
        usage = Usage(input_tokens=1, output_tokens=count)
        assert settle(usage, held_nano=None, body=body).pricing == pricing


def test_more_output_than_the_request_allows_is_not_charged_above_the_hold() -> None:
    body = b'{"model":"gpt-5.4-mini","input":"x","max_output_tokens":20}'
    receipt = settle(Usage(input_tokens=10, output_tokens=21), body=body, held_nano=200)
    assert (receipt.pricing, receipt.cost_nano) == ("implausible", 200)
    assert "at most 20" in (receipt.unpriced_reason or "")
    within = settle(Usage(input_tokens=10, output_tokens=20), body=body, held_nano=200)
    assert (within.pricing, within.cost_nano) == ("priced", 210)


@pytest.mark.parametrize(
    ("path", "body", "usage"),
    [
        (
            "/chat/completions",
            b'{"model":"gpt-5.4-mini","n":3}',
            Usage(input_tokens=9, output_tokens=1_500),
        ),
        (
            "/responses",
            b'{"model":"gpt-5.4-mini","tools":[{"type":"web_search"}]}',
            Usage(input_tokens=9_000, output_tokens=700, tool_calls={"web_search_call": 9}),
        ),
        (
            "/responses",
            b'{"model":"gpt-5.4-mini","tools":[{"type":"mcp","server_url":"u"}]}',
            Usage(input_tokens=50_000, output_tokens=9),
        ),
        (
            "/embeddings",
            b'{"model":"gpt-5.4-mini","input":["%b","x"]}' % (b"y" * 3_000),
            Usage(input_tokens=2_900),
        ),
    ],
)
def test_usage_of_many_answers_turns_or_inputs_is_possible(
    path: str, body: bytes, usage: Usage
) -> None:
    assert settle(usage, path=path, body=body, held_nano=1).pricing == "priced"


def test_speech_is_priced_by_the_characters_of_its_request() -> None:
    body = '{"model":"gpt-5.4-mini","voice":"alloy","input":"héllo \\ud83d\\ude00"}'.encode()
    wanted: dict[str, Any] = {"path": "/audio/speech", "body": body, "models": Models(SPEECH)}
    for held_nano in (105_000, None):
        receipt = settle(None, held_nano=held_nano, **wanted)
        assert (receipt.pricing, receipt.cost_nano) == ("priced", 105_000)
        assert (receipt.usage, receipt.estimated) == (Usage(characters=7), False)
    told = settle(Usage(input_tokens=4, output_tokens=9), **wanted)
    assert (told.pricing, told.cost_nano) == ("priced", 105_000)
    broken = settle(None, outcome="broken", **wanted)
    assert (broken.cost_nano, broken.estimated) == (105_000, True)
    wanted["models"] = Models(ROW)
    by_tokens = settle(None, held_nano=None, **wanted)
    assert (by_tokens.pricing, by_tokens.usage) == ("unpriced", None)
    assert by_tokens.unpriced_reason == "the provider reported no usage"


def test_model_that_always_searches_adds_its_fee_to_each_answer() -> None:
    row = PriceRow("x", {"default": [NanoRates(input=10**6, output=10**7, per_request=25)]})
    receipt = settle(Usage(input_tokens=3, output_tokens=1), models=Models(row))
    assert receipt.cost_nano == 3 + 10 + 25
    assert row.bound(3, 1, None) == 38


def test_estimate_of_a_broken_stream_includes_reported_tool_calls() -> None:
    receipt = settle(
        None, outcome="broken", body_bytes=8, tool_items={"web_search_call": {"a", "b"}}
    )
    assert receipt.cost_nano == 2 + 2 * 70
    assert receipt.estimated


def test_receipt_of_an_incomplete_answer_has_its_reason() -> None:
    receipt = settle(Usage(input_tokens=1), incomplete_reason="max_output_tokens")
    assert (receipt.outcome, receipt.error_code) == ("completed", "max_output_tokens")


usages = st.fixed_dictionaries(
    {"input_tokens": st.integers(1, 900), "output_tokens": st.integers(1, 400)}
)
calls = st.lists(
    st.sampled_from(["web_search_call", "function_call", "future_call", "message"]), max_size=5
)


@given(
    usages,
    calls,
    st.sampled_from(["end", "announced", "both"]),
    st.lists(st.integers(0, 4_000), max_size=6),
)
def test_streamed_costs_what_the_whole_answer_costs_however_it_comes(
    used: dict[str, int], kinds: list[str], where: str, cuts: list[int]
) -> None:
    items = [{"type": kind, "id": f"item_{n}"} for n, kind in enumerate(kinds)]
    answer = {
        "id": "r",
        "status": "completed",
        "model": "gpt-5.4-mini",
        "usage": used,
        "output": items,
    }
    meter = make_call("/responses").endpoint.meter
    meter.read_body(msgspec.json.encode(answer), whole := ParsedUsage())
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**answer, "usage": None, "output": []}}
    ]
    if where != "end":
        said += [
            {"type": "response.output_item.done", "output_index": n, "item": item}
            for n, item in enumerate(items)
        ]
    end = answer if where != "announced" else {**answer, "output": []}
    said.append({"type": "response.completed", "response": end})
    stream = b"".join(b"data: %b\n\n" % msgspec.json.encode(each) for each in said)
    tap = StreamTap(meter, reading := ParsedUsage(), drop_usage=False)
    feed(tap, stream, cuts)
    assert reading.usage == whole.usage
    assert settle(reading.usage).cost_nano == settle(whole.usage).cost_nano > 0


@given(
    usages,
    st.sampled_from(["last", "middle", "each", "choice", "halves", "zeros"]),
    st.lists(st.integers(0, 1_000), max_size=6),
    st.booleans(),
)
def test_streamed_chat_costs_what_the_whole_one_costs_wherever_its_usage_stands(
    used: dict[str, int], where: str, cuts: list[int], drop: bool
) -> None:
    told = {"prompt_tokens": used["input_tokens"], "completion_tokens": used["output_tokens"]}
    body: dict[str, Any] = {"id": "c", "model": "gpt-5.4-mini", "choices": [], "usage": told}
    meter = make_call().endpoint.meter
    meter.read_body(msgspec.json.encode(body), whole := ParsedUsage())
    running = [{**told, "completion_tokens": n} for n in (0, 1, told["completion_tokens"])]
    halves = [{**told, "completion_tokens": 0}, None, {**told, "prompt_tokens": 0}]
    zeros = [None, told, dict.fromkeys(told, 0)]
    in_chunks = {"each": running, "middle": [None, told, None], "halves": halves, "zeros": zeros}
    said: list[dict[str, Any]] = []
    for place, usage in enumerate(in_chunks.get(where, [None] * 3)):
        choice: dict[str, Any] = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
        if place == 2:
            choice["finish_reason"] = "stop"
            choice |= {"usage": told} if where == "choice" else {}
        said.append({"id": "c", "model": "gpt-5.4-mini", "choices": [choice], "usage": usage})
    if where == "last":
        said.append({**body, "choices": []})
    stream = b"".join(b"data: %b\n\n" % msgspec.json.encode(each) for each in said)
    tap = StreamTap(meter, reading := ParsedUsage(), drop_usage=drop)
    feed(tap, stream + b"data: [DONE]\n\n", cuts)
    assert reading.usage == whole.usage
    assert settle(reading.usage).cost_nano == settle(whole.usage).cost_nano > 0


def feed(tap: StreamTap, stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in itertools.pairwise(places):
        tap.feed(stream[begin:end])
    assert tap.finished

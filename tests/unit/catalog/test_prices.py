from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.llm.usage import Usage

RATES = NanoRates(
    input=2_500_000_000,
    cached_input=250_000_000,
    cache_write=3_125_000_000,
    input_audio=32_000_000_000,
    input_image=8_000_000_000,
    output=15_000_000_000,
    reasoning=15_000_000_000,
    output_audio=64_000_000_000,
    output_image=32_000_000_000,
    per_minute=6_000_000,
    per_image=40_000_000,
    per_million_characters=15_000_000_000,
    tool_calls={"web_search_call": 10_000_000},
)
TEXT_ONLY = NanoRates(
    input=50_000_000, cached_input=5_000_000, cache_write=62_500_000, output=1, reasoning=1
)
counts = st.integers(0, 2_000_000)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=1000, output_tokens=500), "0.010"),
        (Usage(input_tokens=1000, cached_tokens=400, output_tokens=500), "0.0091"),
        (Usage(input_tokens=1000, cache_write_tokens=400), "0.00275"),
        (Usage(output_tokens=500, reasoning_tokens=499), "0.0075"),
        (Usage(input_tokens=100, input_audio_tokens=60), "0.00202"),
        (Usage(input_tokens=100, input_image_tokens=60), "0.00058"),
        (Usage(output_tokens=100, output_audio_tokens=40, output_image_tokens=60), "0.00448"),
        (Usage(audio_milliseconds=90_000), "0.009"),
        (Usage(images=3), "0.12"),
        (Usage(characters=1_000), "0.015"),
        (Usage(tool_calls={"web_search_call": 2}), "0.02"),
        (Usage(), "0"),
    ],
)
def test_each_class_is_charged_at_its_own_rate(usage: Usage, dollars: str) -> None:
    cost = RATES.cost(usage)
    assert cost is not None
    assert Fraction(cost, 10**9) == Fraction(dollars)


@given(counts, counts, counts, counts, counts, counts)
def test_cost_is_the_exact_sum_rounded_once_half_up(
    text: int, cached: int, written: int, audio: int, out: int, thought: int
) -> None:
    usage = Usage(
        input_tokens=text + cached + written + audio,
        cached_tokens=cached,
        cache_write_tokens=written,
        input_audio_tokens=audio,
        output_tokens=out + thought,
        reasoning_tokens=thought,
    )
    dollars = (
        text * Fraction("2.5")
        + cached * Fraction("0.25")
        + written * Fraction("3.125")
        + audio * 32
        + (out + thought) * 15
    ) / 10**6
    cost = RATES.cost(usage)
    assert cost is not None
    assert cost == (dollars * 10**9 + Fraction(1, 2)).__floor__()
    assert abs(Fraction(cost, 10**9) - dollars) <= Fraction(1, 2 * 10**9)


@given(st.integers(0, 10**7))
def test_halves_round_up_and_nothing_is_lost_on_tiny_rates(tokens: int) -> None:
    assert TEXT_ONLY.cost(Usage(output_tokens=tokens)) == (tokens + 500_000) // 1_000_000


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=10, input_audio_tokens=1),
        Usage(input_tokens=10, input_image_tokens=1),
        Usage(output_tokens=10, output_audio_tokens=1),
        Usage(output_tokens=10, output_image_tokens=1),
        Usage(images=1),
        Usage(audio_milliseconds=1),
        Usage(characters=1),
        Usage(input_tokens=10, tool_calls={"future_call": 1}),
    ],
)
def test_use_without_a_rate_is_unpriced_and_not_free(usage: Usage) -> None:
    assert TEXT_ONLY.cost(usage) is None


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=10, cached_tokens=11),
        Usage(input_tokens=10, cached_tokens=6, input_audio_tokens=6),
        Usage(output_tokens=10, reasoning_tokens=11),
        Usage(input_tokens=-1),
    ],
)
def test_usage_that_contradicts_itself_is_unpriced(usage: Usage) -> None:
    assert RATES.cost(usage) is None


def test_tokens_are_the_measure_of_speech_that_reports_them() -> None:
    assert TEXT_ONLY.cost(Usage(input_tokens=1_000_000, characters=12)) == 50_000_000


def test_tier_without_rates_is_unpriced() -> None:
    row = PriceRow("x/y@2026-01-01", {"default": [TEXT_ONLY], "flex": [RATES]})
    usage = Usage(input_tokens=1_000_000)
    for tier in (None, "auto", "default"):
        assert row.cost(usage, tier) == 50_000_000
    assert row.cost(usage, "flex") == 2_500_000_000
    assert row.cost(usage, "scale") is None


def test_long_context_rates_hold_for_the_whole_request() -> None:
    long = NanoRates(above_input_tokens=272_000, input=100_000_000)
    row = PriceRow("x/y@2026-01-01", {"default": [long, TEXT_ONLY]})
    assert row.cost(Usage(input_tokens=272_000), None) == 13_600_000
    assert row.cost(Usage(input_tokens=272_001), None) == 27_200_100

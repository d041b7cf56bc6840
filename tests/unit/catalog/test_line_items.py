"""Line items show each priced part of a cost, and add up to it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.catalog.model.line_items import Itemization, add_unpriced, itemize, make_single
from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.catalog.service.catalog import Catalog
from headgate.llm.usage import Usage

RATES = NanoRates(
    input=2_500_000_001,
    cached_input=250_000_003,
    cache_write=3_125_000_000,
    input_audio=32_000_000_000,
    input_image=8_000_000_000,
    output=15_000_000_000,
    reasoning=15_000_000_000,
    output_audio=64_000_000_000,
    output_image=32_000_000_000,
    per_minute=6_000_001,
    per_image=40_000_000,
    per_million_characters=15_000_000_000,
    per_request=5_000_000,
    tool_calls={"web_search_call": 10_000_000},
)
LONG = NanoRates(above_input_tokens=272_000, input=5_000_000_000, output=22_500_000_000)
PRICE = PriceRow("test/model@2026-01-01", {"default": [LONG, RATES], "flex": [RATES]})
counts = st.integers(0, 3_000_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Return usages of which some contradict themselves."""
    details = {
        name: draw(st.integers(0, 1_000))
        for name in (
            "cached_tokens",
            "cache_write_tokens",
            "input_audio_tokens",
            "input_image_tokens",
            "reasoning_tokens",
            "output_audio_tokens",
            "output_image_tokens",
        )
    }
    return Usage(
        input_tokens=draw(counts),
        output_tokens=draw(counts),
        audio_milliseconds=draw(counts),
        images=draw(st.integers(0, 10)),
        characters=draw(counts),
        tool_calls=draw(
            st.dictionaries(st.sampled_from(["web_search_call", "future"]), st.integers(0, 9))
        ),
        **details,
    )


@given(usages(), st.sampled_from([None, "default", "auto", "flex", "priority"]))
def test_items_and_rounding_are_the_cost_of_any_usage(usage: Usage, tier: str | None) -> None:
    found = itemize(PRICE, usage, tier)
    cost = PRICE.cost(usage, tier)
    if found is None:
        assert cost is None
        return
    assert found.cost_nano == cost
    assert sum(item.amount_nano for item in found.items) + found.rounding_nano == cost
    # Each of the amounts and the sum are rounded by half a nano-dollar at most.
    assert abs(found.rounding_nano) <= (len(found.items) + 1) / 2


@given(usages())
def test_prices_of_the_catalog_are_itemized_as_they_are_charged(usage: Usage) -> None:
    catalog = SHIPPED
    for model in ("gpt-5.4", "gpt-4o-audio-preview", "gpt-image-1", "whisper-1"):
        price = catalog.price(model, 1_795_000_000.0)
        if price is None:
            continue
        assert isinstance(price, PriceRow)
        found = itemize(price, usage, None)
        assert (None if found is None else found.cost_nano) == price.cost(usage, None)


SHIPPED = Catalog.load()


def test_each_part_is_one_item_with_its_quantity_rate_and_amount() -> None:
    usage = Usage(
        input_tokens=1_000,
        cached_tokens=400,
        output_tokens=50,
        audio_milliseconds=90_000,
        tool_calls={"web_search_call": 2},
    )
    found = itemize(PRICE, usage, "flex")
    assert isinstance(found, Itemization)
    assert [(i.name, i.unit, i.quantity, i.rate_nano, i.per) for i in found.items] == [
        ("input", "token", 600, 2_500_000_001, 1_000_000),
        ("cached_input", "token", 400, 250_000_003, 1_000_000),
        ("output", "token", 50, 15_000_000_000, 1_000_000),
        ("per_minute", "millisecond", 90_000, 6_000_001, 60_000),
        ("tool_calls.web_search_call", "call", 2, 10_000_000, 1),
        ("per_request", "request", 1, 5_000_000, 1),
    ]
    exact = sum(Fraction(i.quantity * (i.rate_nano or 0), i.per) for i in found.items)
    assert found.cost_nano == (exact + Fraction(1, 2)).__floor__()
    assert (found.tier, found.above_input_tokens) == ("flex", -1)


def test_rates_above_a_threshold_of_input_are_named() -> None:
    found = itemize(PRICE, Usage(input_tokens=300_000, output_tokens=1), None)
    assert found is not None
    assert (found.tier, found.above_input_tokens) == ("default", 272_000)
    assert [item.rate_nano for item in found.items] == [5_000_000_000, 22_500_000_000]


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        (Usage(input_tokens=10, cached_tokens=11), None),
        (Usage(tool_calls={"future": 1}), None),
        (Usage(input_tokens=1), "priority"),
    ],
)
def test_usage_without_a_rate_has_no_items(usage: Usage, tier: str | None) -> None:
    assert itemize(PRICE, usage, tier) is None


def test_whole_amounts_and_parts_without_a_price_are_items_too() -> None:
    single = make_single("hold", 17)
    assert [(i.name, i.quantity, i.amount_nano) for i in single.items] == [("hold", 1, 17)]
    assert (single.cost_nano, single.rounding_nano) == (17, 0)
    added = add_unpriced(single, [("future", 2)])
    assert added.items[-1].rate_nano is None
    assert (added.items[-1].amount_nano, added.rounding_nano) == (0, 0)

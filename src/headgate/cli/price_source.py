"""Read the list prices of genai-prices (the extra `prices`) as rows of our price book.

Imported only by `headgate prices diff` and `apply`: it imports pydantic.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from headgate.catalog.model.manifest import IntegrationManifest
from headgate.catalog.model.price import (
    DEFAULT_TIER,
    NO_THRESHOLD,
    OPERATOR,
    RATES,
    DollarRates,
    PriceEntry,
)
from headgate.kit.errors import HeadgateError, Kind

NAME = "genai-prices"
TOKEN_RATES = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "output_mtok": "output",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
    "output_image_mtok": "output_image",
    "input_mchars": "per_million_characters",
}
"""Their names of rates and ours. We have none for cached audio and cached images, since usage does
not tell them apart. Searches are priced for all models at once (the model `*`)."""
HOUR_RATES = ("audio_hours", "input_audio_hours")
MINUTES_PER_HOUR = 60
TIER_FIELDS = ("service_tier", "processing")
"""Their names of what we call a tier."""

RatesByPlace = dict[tuple[str, int], DollarRates]
"""The rates by tier and threshold."""
CurrentPrices = Mapping[tuple[str, str, int], PriceEntry]
"""The rows in force by model, tier and threshold."""


class Difference(msgspec.Struct, frozen=True):
    """Represent a place of the price book for which the source has other rates.

    `rates` have what differs by name, ours and theirs; `expected` is what the row should say.
    """

    model: str
    tier: str
    above_input_tokens: int
    rates: dict[str, tuple[Decimal | None, Decimal | None]]
    expected: DollarRates


class PriceSourceNotFoundError(HeadgateError):
    """The list of genai-prices has no such provider.

    Name a provider of that list.
    """

    kind = Kind.MISSING
    code = "price_source_missing"


class PriceList:
    """Look up the prices of one provider of genai-prices at a time."""

    def __init__(self, provider_id: str, at: datetime.datetime) -> None:
        found = [each for each in providers if each.id == provider_id]
        if not found:
            raise PriceSourceNotFoundError(f"{NAME} has no provider {provider_id!r}.")
        self._provider: Provider = found[0]
        self._at = at
        self.source = f"{NAME} {importlib.metadata.version(NAME)}"

    def list_models(self) -> list[str]:
        return [model.id for model in self._provider.models]

    def find(self, model_id: str) -> tuple[str, RatesByPlace] | None:
        """Return the source's own id and the rates of one of our model ids; None if it has none."""
        model = self._provider.find_model(model_id)
        if model is None:
            return None
        prices = _active(model, self._at)
        places = dict(_read(prices, DEFAULT_TIER))
        for tier, variant in _variants(model, self._at):
            places.update(_read({**prices, **variant}, tier))
        return model.id, places


def fill_inherited(listed: DollarRates, named: Mapping[str, Decimal]) -> DollarRates:
    """Return the listed rates, completed by rates of our row that the source leaves implicit.

    In genai-prices, audio and images without a rate of their own cost as much as text, free output
    (of embeddings) is missing where we state 0, and there are no fees for a request.
    """
    filled = {name: getattr(listed, name) for name in RATES}
    for name, rate in named.items():
        if name in filled and filled[name] is None:
            if rate == 0 or name == "per_request":
                filled[name] = rate
            elif name.startswith(("input_", "output_")):
                filled[name] = filled[name.partition("_")[0]]
    return DollarRates(**filled)


def list_expected(
    manifest: IntegrationManifest, prices: PriceList
) -> Iterator[tuple[str, RatesByPlace]]:
    """Yield, for each of our models and each that only the source has, the rates it should have.

    Models that the manifest excepts are left out.
    """
    assert manifest.price_source is not None
    excepted = manifest.price_source.exceptions
    covered: set[str] = set()
    for entry in manifest.models:
        for model_id in (entry.id, *entry.aliases):
            found = prices.find(model_id)
            if found is not None:
                covered.add(found[0])
                if model_id == entry.id and found[0] not in excepted:
                    yield entry.id, found[1]
    for model_id in prices.list_models():
        found = prices.find(model_id)
        if model_id not in covered and model_id not in excepted and found is not None:
            yield model_id, found[1]


def compare(
    manifest: IntegrationManifest, prices: PriceList, current: CurrentPrices
) -> list[Difference]:
    differences: list[Difference] = []
    for model, listed in sorted(list_expected(manifest, prices), key=lambda each: each[0]):
        own = {entry.place: entry for (name, *_), entry in current.items() if name == model}
        for place in sorted({*listed, *own}):
            entry = own.get(place)
            if entry is None or entry.source != OPERATOR:
                found = _compare_place(model, place, entry, listed.get(place))
                differences += [found] if found.rates else []
    return differences


def _compare_place(
    model: str, place: tuple[str, int], entry: PriceEntry | None, listed: DollarRates | None
) -> Difference:
    stated = entry.rates.amounts() if entry else {}
    expected = DollarRates() if listed is None else fill_inherited(listed, stated)
    if entry is not None and listed is not None:
        expected = msgspec.structs.replace(expected, tool_calls=entry.rates.tool_calls)
    expected_rates = expected.amounts()
    names = sorted({*stated, *expected_rates})
    rates = {
        n: (stated.get(n), expected_rates.get(n))
        for n in names
        if stated.get(n) != expected_rates.get(n)
    }
    return Difference(model, *place, rates, expected)


def _active(model: ModelInfo, at: datetime.datetime) -> dict[str, object]:
    """Return the base prices in force: the last of those whose condition holds."""
    prices: ModelPrice | None = None
    if isinstance(model.prices, list):
        for conditional in model.prices:
            if conditional.constraint is None or conditional.constraint.active(at):
                prices = conditional.prices
    else:
        prices = model.prices
    return {} if prices is None else _stated(prices)


def _variants(model: ModelInfo, at: datetime.datetime) -> Iterator[tuple[str, dict[str, object]]]:
    for variant in model.price_variants or ():
        tiers = [variant.when[field] for field in TIER_FIELDS if field in variant.when]
        holds = variant.constraint is None or variant.constraint.active(at)
        if len(tiers) == 1 == len(variant.when) and tiers[0] != DEFAULT_TIER and holds:
            yield tiers[0], _stated(variant.prices)


def _stated(prices: ModelPrice) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(prices).items()
        if value is not None and not name.startswith("_")
    }


def _read(prices: Mapping[str, object], tier: str) -> Iterator[tuple[tuple[str, int], DollarRates]]:
    """Yield our rows of one tier: the base, and one for each threshold."""
    thresholds = {
        step.start
        for value in prices.values()
        if isinstance(value, TieredPrices)
        for step in value.tiers
    }
    for threshold in sorted({NO_THRESHOLD, *thresholds}):
        rates: dict[str, Any] = {
            ours: amount
            for theirs, ours in TOKEN_RATES.items()
            if (amount := _amount(prices.get(theirs), threshold)) is not None
        }
        for theirs in HOUR_RATES:
            hourly = _amount(prices.get(theirs), threshold)
            if hourly is not None:
                rates["per_minute"] = hourly / MINUTES_PER_HOUR
        if rates:
            yield (tier, threshold), DollarRates(**rates)


def _amount(value: object, threshold: int) -> Decimal | None:
    if isinstance(value, TieredPrices):
        amount = value.base
        for step in value.tiers:
            if step.start <= threshold:
                amount = step.price
        return amount
    return value if isinstance(value, Decimal) else None

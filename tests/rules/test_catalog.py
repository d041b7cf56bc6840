"""The shipped price book is complete, and what it once said it says for ever."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import msgspec
import pytest

from headgate.catalog.model.price import DEFAULT_TIER
from headgate.catalog.model.rates import PriceRow
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.pricing import select_current
from headgate.cli.price_source import PriceList, RatesByPlace, fill_inherited, list_expected

GOLDEN = Path(__file__).parents[1] / "golden" / "prices.txt"
WHEN_READ = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
"""The list was compared as of this day; later, `headgate prices diff` is what tells."""

catalog = Catalog.load()
openai = catalog.integrations["openai"]
price_list = PriceList("openai", WHEN_READ)


def seal(row: PriceRow) -> str:
    """A line that tells one set of rates from every other."""
    tiers = {
        tier: [
            {
                name: rate
                for name, rate in msgspec.to_builtins(rates).items()
                if rate is not None and rate != {}
            }
            for rates in steps
        ]
        for tier, steps in row.tiers.items()
    }
    stated = msgspec.json.encode(tiers, order="deterministic")
    return f"{row.id} {hashlib.sha256(stated).hexdigest()[:32]}"


def list_rows() -> list[PriceRow]:
    """Every price that was or will be in force, of every shipped model."""
    found: dict[str, PriceRow] = {}
    ends = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2024, 2040)]
    moments = {entry.effective_from / 10**6 for entry in catalog.shipped_prices()}
    for name, manifest in catalog.integrations.items():
        for model in manifest.models:
            for moment in sorted(moments | {end.timestamp() for end in ends}):
                row = catalog.price_at(name, model.id, moment)
                if row is not None:
                    found[row.id] = row
    return list(found.values())


def test_prices_that_were_shipped_are_never_changed() -> None:
    """A receipt names its price (G10): the same name has to give the same rates in any release.

    A new price is a new row of a later day; add its lines, which this test prints, to the file.
    """
    present = {seal(row) for row in list_rows()}
    golden = set(GOLDEN.read_text().splitlines())
    assert sorted(golden - present) == [], "these rows were edited, removed or back-dated"
    assert sorted(present - golden) == [], f"add these lines to {GOLDEN.name}"


def test_every_model_of_the_list_is_priced_or_excepted_with_a_reason() -> None:
    assert openai.price_source is not None
    exceptions = openai.price_source.exceptions
    ids = price_list.list_models()
    assert len(ids) >= 113
    covered = {
        found[0]
        for model in openai.models
        for model_id in (model.id, *model.aliases)
        if (found := price_list.find(model_id)) is not None
    }
    assert sorted(set(ids) - covered - exceptions.keys()) == []
    assert sorted(exceptions.keys() - set(ids)) == [], "exceptions of nothing"
    assert sorted(exceptions.keys() & covered) == [], "priced, and excepted"
    assert all(len(reason) > 10 for reason in exceptions.values())


@pytest.mark.parametrize(
    ("model_id", "places"),
    [(m, p) for m, p in list_expected(openai, price_list)],
    ids=[m for m, _ in list_expected(openai, price_list)],
)
def test_shipped_rates_are_those_of_the_list(model_id: str, places: RatesByPlace) -> None:
    """Every tier and threshold that the list has, with every rate that we can charge."""
    counting = select_current(
        entry for entry in catalog.shipped_prices() if entry.model == model_id
    )
    ours = {entry.place: entry.rates for entry in counting.values()}
    assert ours.keys() == places.keys()
    for place, listed in places.items():
        stated = ours[place].amounts()
        assert stated == fill_inherited(listed, stated).amounts(), place


def test_every_price_says_where_it_is_from() -> None:
    for entry in catalog.shipped_prices():
        assert entry.source, entry
        assert entry.rates.amounts(), entry
        if entry.tier != DEFAULT_TIER:
            assert "genai-prices" in entry.source, "a tier is not made of a multiplier"

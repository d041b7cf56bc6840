from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from headgate.catalog.model.manifest import InvalidCatalogError, ModelEntry
from headgate.catalog.model.price import PriceBlock
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.store.files import DATA, read_manifest
from headgate.llm.usage import Usage

SEED = [
    ("gpt-5.5", 1_050_000, 128_000, "5", "30", "2025-12-01"),
    ("gpt-5.5-pro", 1_050_000, 128_000, "30", "180", "2025-12-01"),
    ("gpt-5.4", 1_050_000, 128_000, "2.5", "15", "2025-08-31"),
    ("gpt-5.4-pro", 1_050_000, 128_000, "30", "180", "2025-08-31"),
    ("gpt-5.4-mini", 400_000, 128_000, "0.75", "4.5", "2024-05-31"),
    ("gpt-5.4-nano", 400_000, 128_000, "0.2", "1.25", "2024-08-31"),
    ("gpt-5-chat-latest", 128_000, 16_384, "1.25", "10", "2024-09-30"),
    ("gpt-5.3-codex", 400_000, 128_000, "1.75", "14", "2025-08-31"),
    ("o3-pro", 200_000, 100_000, "20", "80", "2024-06-01"),
    ("o3", 200_000, 100_000, "2", "8", "2024-06-01"),
    ("text-embedding-3-large", 8_191, 0, "0.13", "0", None),
    ("text-embedding-3-small", 8_191, 0, "0.02", "0", None),
]
MILLION = 1_000_000


def unix(date: str) -> float:
    return datetime.datetime.fromisoformat(date + "T00:00:00+00:00").timestamp()


NOW = unix("2026-11-21")
LATER = unix("2026-11-30")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


@pytest.mark.parametrize(("model_id", "window", "out", "dollars_in", "dollars_out", "day"), SEED)
def test_seed_models_have_the_seed_values(
    catalog: Catalog,
    *,
    model_id: str,
    window: int,
    out: int,
    dollars_in: str,
    dollars_out: str,
    day: str | None,
) -> None:
    entry = next(e for e in catalog.integrations["openai"].models if e.id == model_id)
    assert (entry.input_tokens_max, entry.output_tokens_max) == (window, out)
    assert entry.data_freshness == (None if day is None else datetime.date.fromisoformat(day))
    assert entry.supports_vision == (day is not None)
    assert entry.dimensions == {"l": 3072, "s": 1536}.get(
        model_id.removeprefix("text-embedding-3-")[0], 0
    )
    assert entry.intelligence in range(1, 6)
    assert entry.speed in range(1, 6)
    assert entry.output_limit == out
    price = catalog.price(model_id, NOW)
    assert price is not None
    base = price.tiers["default"][-1]
    assert base.input == int(Decimal(dollars_in) * 10**9)
    assert base.output == int(Decimal(dollars_out) * 10**9)


def test_every_model_has_a_price_today(catalog: Catalog) -> None:
    models = catalog.models()
    assert len(models) >= 60
    for model in models:
        price = catalog.price(model.id, LATER)
        assert price is not None, model.id
        searches = "search-preview" in model.id or "search-api" in model.id
        assert (price.cost(Usage(), None) == 0) is not searches, model.id


@pytest.mark.parametrize(
    ("model_id", "fee_nano"),
    [
        ("gpt-4o-search-preview", 25_000_000),
        ("gpt-4o-search-preview-2025-03-11", 25_000_000),
        ("gpt-4o-mini-search-preview", 25_000_000),
        ("gpt-5-search-api", 10_000_000),
        ("gpt-4o-mini", 0),
    ],
)
def test_models_that_always_search_add_the_fee_of_a_search(
    catalog: Catalog, model_id: str, fee_nano: int
) -> None:
    price = catalog.price(model_id, LATER)
    assert price is not None
    assert price.cost(Usage(), None) == fee_nano


def test_every_hosted_tool_with_a_known_fee_has_it_for_every_model(catalog: Catalog) -> None:
    price = catalog.price("gpt-5.4-mini", LATER)
    assert price is not None
    assert price.tool_fees["web_search_call"] == 10_000_000
    assert price.tool_fees["file_search_call"] == 2_500_000
    assert price.tool_fees["code_interpreter_call"] == price.tool_fees["shell_call"] == 30_000_000
    assert price.tool_fees["code_interpreter_call_64g"] == 1_920_000_000


def test_snapshot_has_the_limits_and_price_of_its_model_but_keeps_its_name(
    catalog: Catalog,
) -> None:
    snapshot, model = catalog.find("gpt-5.4-2026-03-05"), catalog.find("gpt-5.4")
    assert snapshot is not None
    assert model is not None
    assert snapshot.wire_id == "gpt-5.4-2026-03-05"
    assert snapshot.input_tokens_max == model.input_tokens_max
    assert catalog.price("gpt-5.4-2026-03-05", NOW) is catalog.price("gpt-5.4", NOW)


def test_snapshot_with_its_own_entry_has_its_own_price(catalog: Catalog) -> None:
    old, new = catalog.price("gpt-4o-2024-05-13", NOW), catalog.price("gpt-4o-2024-11-20", NOW)
    assert old is not None
    assert new is not None
    assert old.cost(Usage(input_tokens=MILLION), None) == 5_000_000_000
    assert new.cost(Usage(input_tokens=MILLION), None) == 2_500_000_000


@pytest.mark.parametrize("model_id", ["", "gpt-99", "gpt-99-2026-01-01", "ft:gpt-4o:me::1"])
def test_unknown_model_is_neither_found_nor_priced(catalog: Catalog, model_id: str) -> None:
    assert catalog.find(model_id) is None
    assert catalog.price(model_id, NOW) is None


def test_price_is_the_one_in_force_at_the_time(catalog: Catalog) -> None:
    assert catalog.price("gpt-5.4", unix("2025-12-31")) is None
    before, after = (catalog.price("gpt-5.4", unix(day)) for day in ("2026-10-11", "2026-10-12"))
    assert before is not None
    assert after is not None
    assert before.id == "openai/gpt-5.4@2026-01-01"
    assert after.id == "openai/gpt-5.4@2026-10-12"
    usage = Usage(input_tokens=1000, cached_tokens=100, output_tokens=10)
    assert before.cost(usage, "flex") is None
    assert after.cost(usage, "flex") is not None
    assert before.cost(usage, None) == after.cost(usage, None) == 2_425_000


def test_cached_input_without_a_rate_costs_as_input(catalog: Catalog) -> None:
    price = catalog.price("o3-pro", NOW)
    assert price is not None
    assert price.cost(Usage(input_tokens=MILLION, cached_tokens=MILLION), None) == 20_000_000_000


def test_unknown_field_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "openai.toml"
    text = (DATA / "openai.toml").read_text()
    path.write_text(text.replace('display_name = "GPT 5.4"', 'display = "GPT 5.4"'))
    with pytest.raises(InvalidCatalogError, match=r"openai.toml: .*`display`.*\$.model"):
        read_manifest(path)
    path.write_text("name = ")
    with pytest.raises(InvalidCatalogError, match=r"openai\.toml"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "gpt-99"}, "unknown model gpt-99"),
        ({"source": "again"}, "two prices"),
        ({"effective_from": datetime.date(2030, 1, 1), "input": Decimal(-1)}, "amounts from 0"),
        ({"effective_from": datetime.date(2030, 1, 1), "currency": "EUR"}, "amounts of USD"),
        ({"effective_from": datetime.date(2030, 1, 1), "input": Decimal("1e-10")}, "whole"),
        ({"effective_from": datetime.date(2030, 1, 1), "input": Decimal("NaN")}, "amounts from 0"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(
    changes: dict[str, object], reason: str
) -> None:
    manifest = read_manifest(DATA / "openai.toml")
    first: PriceBlock = next(block for block in manifest.prices if block.model != "*")
    bad = msgspec.structs.replace(first, **changes)
    manifest = msgspec.structs.replace(manifest, prices=(*manifest.prices, bad))
    with pytest.raises(InvalidCatalogError, match=reason):
        Catalog([manifest])


def test_model_that_is_there_twice_is_refused() -> None:
    manifest = read_manifest(DATA / "openai.toml")
    twice = ModelEntry("other", "Other", aliases=("gpt-5.4",))
    manifest = msgspec.structs.replace(manifest, models=(*manifest.models, twice))
    with pytest.raises(InvalidCatalogError, match=r"gpt-5\.4 is defined twice"):
        Catalog([manifest])

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import exc

from headgate.audit.model import SYSTEM, Actor, ActorKind, AuditFilter
from headgate.audit.service import AuditLog
from headgate.catalog.model.manifest import IntegrationManifest
from headgate.catalog.model.price import (
    DollarRates,
    InvalidPriceError,
    PriceBlock,
    PriceNotFoundError,
    format_moment,
)
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.prices import PriceFilter, PriceRequest, PriceService, PriceState
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions
from headgate.llm.usage import Usage

DAY = 86_400.0
START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC).timestamp()
OPERATOR = Actor(ActorKind.PERSON, "person_1", "ada@example.com")
MILLION = Usage(input_tokens=1_000_000)


def block(model: str, day: str, *, tier: str = "default", **rates: Any) -> PriceBlock:
    said = {"model": model, "effective_from": day, "source": "a price list", "tier": tier, **rates}
    return msgspec.convert(said, PriceBlock)


BLOCKS = (
    block("*", "2026-01-01", tool_calls={"web_search_call": "0.01"}),
    block("small", "2026-01-01", input="1", output="2"),
    block("small", "2026-01-01", tier="flex", input="0.5", output="1"),
    block("large", "2026-01-01", input="10", output="20"),
    block("large", "2026-12-01", input="8", output="16"),
)


def make_manifest(*blocks: PriceBlock) -> IntegrationManifest:
    said: dict[str, Any] = {
        "name": "acme",
        "display_name": "Acme",
        "integration_type": "llm_provider",
        "model": [
            {"id": "small", "display_name": "Small", "aliases": ["tiny"]},
            {"id": "large", "display_name": "Large"},
            {"id": "fresh", "display_name": "Fresh"},
        ],
    }
    manifest = msgspec.convert(said, IntegrationManifest)
    return msgspec.structs.replace(manifest, prices=blocks)


class HeldClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Shop:
    """Hold a catalog of two priced models and its price list, at a time that a test sets."""

    def __init__(self, path: Path) -> None:
        self.clock = HeldClock()
        self.database = Database(path)
        METADATA.create_all(self.database.engine)
        self.catalog = Catalog([make_manifest(*BLOCKS)])
        self.audit = AuditLog(self.clock)
        self.service = PriceService(self.catalog, self.audit, self.clock)

    def add(
        self,
        model: str = "small",
        *,
        since: float | None = None,
        source: str = "operator",
        rates: DollarRates | None = None,
        **more: Any,
    ) -> str:
        """Add a price and take it up; gives the id of what is in force since then."""
        request = PriceRequest(
            integration="acme",
            model=model,
            rates=rates or DollarRates(input=Decimal(3), output=Decimal(4)),
            effective_from=since
            if since is None
            else datetime.datetime.fromtimestamp(since, datetime.UTC),
            **more,
        )
        with self.database.transaction() as connection:
            entry = self.service.add(connection, request, by=OPERATOR, source=source)
        self.reload()
        return format_moment(entry.effective_from)

    def reload(self, catalog: Catalog | None = None) -> None:
        with self.database.reading() as connection:
            (catalog or self.catalog).reload(connection)

    def cost(self, model: str = "small", usage: Usage = MILLION, tier: str | None = None) -> Any:
        """Return the dollars at the present time; a text if a price or rate is missing."""
        price = self.catalog.price(model, self.clock.time)
        cost = None if price is None else price.cost(usage, tier)
        return None if cost is None else Decimal(cost) / 10**9

    def list(self, **wanted: Any) -> list[tuple[str, str, str]]:
        with self.database.reading() as connection:
            found, total = self.service.list(connection, PriceFilter(**wanted), limit=100)
        assert total == len(found)
        return [(each.entry.model, each.entry.source, each.state.value) for each in found]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    opened = Shop(tmp_path / "headgate.db")
    yield opened
    opened.database.close()


def test_operators_price_wins_from_its_time_on(shop: Shop) -> None:
    assert shop.cost() == 1
    shop.clock.time += 1
    shop.add()
    assert shop.cost() == 3
    assert shop.cost("tiny") == 3, "an alias has the price of its model"
    assert shop.cost("small-2026-02-03") == 3, "so has a dated snapshot"
    assert shop.cost(tier="flex") == Decimal("0.5"), "other tiers keep theirs"
    assert shop.cost("large") == 10
    before = shop.catalog.price("small", START)
    assert before is not None
    assert before.cost(MILLION, None) == 10**9


def test_price_of_the_future_takes_effect_at_its_time_without_a_reload(shop: Shop) -> None:
    shop.add(since=START + DAY)
    shop.clock.time = START + DAY - 1
    assert shop.cost() == 1
    listed = [("small", "operator", "future"), ("small", "a price list", "in_force")]
    assert shop.list(model="small", tier="default") == listed
    shop.clock.time = START + DAY
    assert shop.cost() == 3
    assert shop.list(model="small", tier="default") == [("small", "operator", "in_force")]


def test_operators_price_outlives_a_shipped_one_that_comes_later(shop: Shop) -> None:
    shop.add("large")
    shop.clock.time = START + 60 * DAY
    assert shop.cost("large") == 3


def test_price_taken_from_a_list_gives_way_to_a_later_shipped_one(shop: Shop) -> None:
    shop.add("large", source="genai-prices 0.2.3")
    assert shop.cost("large") == 3
    shop.clock.time = START + 60 * DAY
    assert shop.cost("large") == 8


def test_last_word_for_one_time_counts(shop: Shop) -> None:
    shop.add(since=START + DAY)
    shop.add(since=START + DAY, rates=DollarRates(input=Decimal(5)))
    shop.clock.time = START + DAY
    assert shop.cost() == 5
    assert shop.list(model="small", tier="default", history=True)[:2] == [
        ("small", "operator", "in_force"),
        ("small", "operator", "over"),
    ]


def test_row_without_rates_takes_a_tier_out_of_the_book(shop: Shop) -> None:
    shop.add(tier="flex", rates=DollarRates())
    assert shop.cost(tier="flex") is None
    price = shop.catalog.price("small", START)
    assert price is not None
    assert price.bound(0, 1_000_000, "flex") is None
    assert price.bound(0, 1_000_000, None) == 2 * 10**9


def test_tools_have_a_price_for_every_model(shop: Shop) -> None:
    searched = Usage(input_tokens=1_000_000, tool_calls={"web_search_call": 2})
    assert shop.cost(usage=searched) == Decimal("1.02")
    shop.clock.time += 1
    shop.add("*", rates=DollarRates(tool_calls={"web_search_call": Decimal("0.5")}))
    assert shop.cost(usage=searched) == 2
    assert shop.cost("large", usage=searched) == 11
    own = DollarRates(input=Decimal(1), tool_calls={"web_search_call": Decimal(1)})
    shop.clock.time += 1
    shop.add("large", rates=own)
    assert shop.cost("large", usage=searched) == 3


def test_model_that_never_had_a_price_may_have_one_of_the_past(shop: Shop) -> None:
    assert shop.cost("fresh") is None
    shop.add("fresh", since=START - 30 * DAY)
    assert shop.cost("fresh") == 3
    with pytest.raises(InvalidPriceError, match="charged prices cannot change"):
        shop.add("fresh", since=START - 20 * DAY)


def test_model_that_is_in_no_manifest_can_have_a_price(shop: Shop) -> None:
    shop.add("brand-new")
    assert shop.catalog.find("brand-new") is None
    assert shop.cost("brand-new") == 3
    assert shop.cost("brand-new-2026-11-20") == 3
    assert all(model.id != "brand-new" for model in shop.catalog.models())


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"since": START - 1}, "effective_from"),
        ({"since": START + 4_000 * DAY}, "effective_from"),
        ({"model": "fresh", "since": 0.0}, "effective_from"),
        ({"model": "*", "since": START - 1, "rates": DollarRates()}, "effective_from"),
        ({"model": "tiny"}, "model"),
        ({"model": ""}, "model"),
        ({"model": "a b"}, "model"),
        ({"model": "*"}, "rates"),
        ({"model": "*", "rates": DollarRates(), "tier": "flex"}, "tier"),
        ({"tier": "Flex!"}, "tier"),
        ({"above_input_tokens": 0}, "above_input_tokens"),
        ({"above_input_tokens": -2}, "above_input_tokens"),
        ({"currency": "EUR"}, "currency"),
        ({"rates": DollarRates(output=Decimal(-1))}, "rates.output"),
        ({"rates": DollarRates(output=Decimal("NaN"))}, "rates.output"),
        ({"rates": DollarRates(output=Decimal("1e-10"))}, "rates.output"),
        ({"rates": DollarRates(output=Decimal(10_000_000))}, "rates.output"),
        ({"rates": DollarRates(tool_calls={"a": Decimal("inf")})}, "rates.tool_calls.a"),
    ],
)
def test_price_that_cannot_be_is_refused_whole(
    shop: Shop, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidPriceError) as refused:
        shop.add(**changes)
    assert refused.value.param == param
    assert all(source != "operator" for _, source, _ in shop.list())
    with shop.database.reading() as connection:
        assert read_revisions(connection) == {}
        assert shop.audit.list(connection, AuditFilter(), limit=1)[1] == 0


def test_integration_without_models_has_no_prices(shop: Shop) -> None:
    request = PriceRequest(integration="other", model="small", rates=DollarRates())
    with (
        pytest.raises(InvalidPriceError, match="there is: acme"),
        shop.database.transaction() as connection,
    ):
        shop.service.add(connection, request, by=SYSTEM)


def test_rows_stay_as_they_were_written(shop: Shop) -> None:
    shop.add()
    for statement in ("UPDATE prices SET rates = '{}'", "DELETE FROM prices"):
        with (
            pytest.raises(exc.IntegrityError, match="append-only"),
            shop.database.transaction() as connection,
        ):
            connection.exec_driver_sql(statement)


def test_new_price_is_audited_and_told_to_other_processes(shop: Shop) -> None:
    shop.add(tier="flex")
    with shop.database.reading() as connection:
        [entry], _ = shop.audit.list(connection, AuditFilter(), limit=10)
        assert read_revisions(connection) == {"catalog": 1}
    assert entry.actor == OPERATOR
    assert (entry.event.action, entry.event.object_id) == ("price.added", "acme/small+1")
    assert entry.event.changes["rates"] == {"input": "3", "output": "4"}
    assert entry.event.changes["tier"] == "flex"


def test_rows_are_written_one_after_the_other_whatever_the_clock_says(shop: Shop) -> None:
    first = shop.add()
    shop.clock.time -= 3_600
    second = shop.add()
    assert (first, second) == ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00.000001Z")


def test_page_has_its_rows_and_the_total(shop: Shop) -> None:
    with shop.database.reading() as connection:
        page, total = shop.service.list(connection, PriceFilter(), limit=2, offset=1)
    assert total == 5
    assert [(each.entry.model, each.state) for each in page] == [
        ("large", PriceState.FUTURE),
        ("large", PriceState.IN_FORCE),
    ]
    assert shop.list(source="operator") == []
    assert shop.list(integration="other") == []
    assert len(shop.list(history=True)) == 5


# G10: a receipt names its price, and the name alone gives the same rates for ever.


def test_receipts_are_recomputed_after_any_number_of_changes(shop: Shop) -> None:
    draw = random.Random(10)
    behind = Catalog([make_manifest(*BLOCKS)])
    """Another process, which takes up changes late."""
    receipts: list[tuple[str, Usage, str | None, int | None]] = []
    models = ["small", "tiny", "large", "fresh", "small-2026-02-03"]
    for round_number in range(120):
        shop.clock.time += draw.uniform(0, 2 * 3_600)
        for catalog in (shop.catalog, behind):
            usage = Usage(
                input_tokens=draw.randrange(400_000),
                output_tokens=draw.randrange(9_000),
                tool_calls={"web_search_call": draw.randrange(3)},
            )
            tier = draw.choice([None, "flex", "priority"])
            price = catalog.price(draw.choice(models), shop.clock.time)
            if price is not None:
                receipts.append((price.id, usage, tier, price.cost(usage, tier)))
        change_something(shop, draw)
        if round_number % 5 == 0:
            shop.reload(behind)
    assert len({price_id for price_id, *_ in receipts}) > 40
    assert sum(cost is not None for *_, cost in receipts) > 100
    # A later release ships further rows; what was charged stays what it was.
    released = Catalog(
        [
            make_manifest(
                *BLOCKS, block("small", "2026-12-20", input="7"), block("fresh", "2027-01-01")
            )
        ]
    )
    for catalog in (shop.catalog, released):
        service = PriceService(catalog, shop.audit, shop.clock)
        with shop.database.reading() as connection:
            for price_id, usage, tier, cost in receipts:
                again = service.find_by_id(connection, price_id)
                assert (again.id, again.cost(usage, tier)) == (price_id, cost)


def change_something(shop: Shop, draw: random.Random) -> None:
    """Change a price, now or in the future, sometimes for a time that is set already."""
    model = draw.choice(["small", "large", "fresh", "*"])
    ahead = draw.choice([None, None, shop.clock.time + draw.uniform(1, 9 * 3_600), START + 5 * DAY])
    if ahead is not None and ahead < shop.clock.time:
        ahead = None
    amounts: dict[str, Any] = {
        "input": Decimal(draw.randrange(1, 99)) / 8,
        "output": Decimal(draw.randrange(99)),
    }
    if model == "*":
        rates = DollarRates(tool_calls={"web_search_call": Decimal(draw.randrange(9)) / 100})
        shop.add(model, since=ahead, rates=rates)
        return
    shop.add(
        model,
        since=ahead,
        source=draw.choice(["operator", "genai-prices 0.2.3"]),
        rates=DollarRates(**(amounts if draw.random() > 0.1 else {})),
        tier=draw.choice(["default", "default", "flex", "priority"]),
        above_input_tokens=draw.choice([-1, -1, 200_000]),
    )


@pytest.mark.parametrize(
    "price_id",
    [
        "",
        "acme/small",
        "acme/small@2026-01-02",
        "acme/small@2025-12-31",
        "acme/small@2026-13-01",
        "acme/none@2026-01-01",
        "acme/*@2026-01-01",
        "other/small@2026-01-01",
        "acme/small@2026-01-01/2026-11-01T00:00:00Z+1",
        "acme/small@2026-01-01T00:00:00Z",
        "acme/small@2026-01-01/nonsense+1",
        "x" * 10_000,
    ],
)
def test_name_of_no_price_is_not_found(shop: Shop, price_id: str) -> None:
    with shop.database.reading() as connection:
        assert shop.service.find_by_id(connection, "acme/small@2026-01-01").tiers
        with pytest.raises(PriceNotFoundError):
            shop.service.find_by_id(connection, price_id)

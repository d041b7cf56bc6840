"""The catalog in memory: models and the price in force at a time."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from headgate.catalog.model import PriceRow, Rates
from headgate.catalog.store import CatalogInvalid, Manifest, ModelEntry, PriceEntry, read_manifests
from headgate.kit.money import nano_from_dollars
from headgate.relay.ports import Model

CURRENCY = "USD"
CACHE_WRITE_SURCHARGE = Decimal("1.25")
SNAPSHOTS_MAX = 1_000
"""Model ids whose catalog entry is remembered; a client may name any number of them."""
_SNAPSHOT = re.compile(r"(.+)-20\d\d-[01]\d-[0-3]\d")
_RATES = tuple(
    name for name in Rates.__struct_fields__ if name not in ("above_input_tokens", "tool_calls")
)


class _Known(msgspec.Struct, frozen=True):
    model: Model
    prices: Sequence[tuple[float, PriceRow]]
    """Since when (unix seconds) each is in force, the newest first."""


class Catalog:
    """All integrations with their models and prices (`relay.ports.Models`).

    Raises `CatalogInvalid` for manifests that contradict themselves or each other.
    """

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self.integrations: Mapping[str, Manifest] = {each.name: each for each in manifests}
        self._known: dict[str, _Known] = {}
        self._snapshots: dict[str, _Known | None] = {}
        for manifest in self.integrations.values():
            self._take(manifest)

    @classmethod
    def load(cls) -> Catalog:
        """The catalog that comes with Headgate."""
        return cls(read_manifests())

    def models(self) -> list[Model]:
        """Every model that has an entry or alias, by id."""
        return [self._known[model_id].model for model_id in sorted(self._known)]

    def find(self, model_id: str) -> Model | None:
        """See `relay.ports.Models.find`. Aliases and dated snapshots keep the id they came with."""
        known = self._known.get(model_id)
        if known is not None:
            return known.model
        known = self._of_snapshot(model_id)
        if known is None:
            return None
        return msgspec.structs.replace(known.model, id=model_id, wire_id=model_id)

    def price(self, model_id: str, at: float) -> PriceRow | None:
        """See `relay.ports.Models.price`."""
        known = self._known.get(model_id) or self._of_snapshot(model_id)
        if known is not None:
            for since, row in known.prices:
                if since <= at:
                    return row
        return None

    def entry(self, integration: str, model_id: str) -> ModelEntry | None:
        """What the manifest says of a model, by its id or alias."""
        manifest = self.integrations.get(integration)
        models = () if manifest is None else manifest.models
        return next((each for each in models if model_id in (each.id, *each.aliases)), None)

    def _of_snapshot(self, model_id: str) -> _Known | None:
        if model_id in self._snapshots:
            return self._snapshots[model_id]
        match = _SNAPSHOT.fullmatch(model_id)
        known = None if match is None else self._known.get(match[1])
        if len(self._snapshots) < SNAPSHOTS_MAX:
            self._snapshots[model_id] = known
        return known

    def _take(self, manifest: Manifest) -> None:
        prices: dict[str, list[PriceEntry]] = {entry.id: [] for entry in manifest.models}
        for entry in manifest.prices:
            if entry.model not in prices:
                raise CatalogInvalid(f"{manifest.name}: a price of unknown model {entry.model}")
            prices[entry.model].append(entry)
        for entry in manifest.models:
            rows = _date_rows(manifest, prices[entry.id])
            for model_id in (entry.id, *entry.aliases):
                if model_id in self._known:
                    raise CatalogInvalid(f"{manifest.name}: {model_id} is there twice")
                wire_id = (entry.wire_id or entry.id) if model_id == entry.id else model_id
                model = Model(model_id, wire_id, entry.input_tokens_max, entry.output_tokens_max)
                self._known[model_id] = _Known(model, rows)


def _date_rows(
    manifest: Manifest, entries: Sequence[PriceEntry]
) -> Sequence[tuple[float, PriceRow]]:
    """One row for each date at which something changed, with all that is in force then."""
    places = [(e.tier, e.above_input_tokens, e.effective_from) for e in entries]
    for entry, place in zip(entries, places, strict=True):
        if places.count(place) > 1:
            message = f"{manifest.name}: {entry.model} has two prices for {place[0]} at {place[2]}"
            raise CatalogInvalid(message)
    dates = sorted({entry.effective_from for entry in entries}, reverse=True)
    return [(_unix(date), _row(manifest, entries, date)) for date in dates]


def _row(manifest: Manifest, entries: Sequence[PriceEntry], date: datetime.date) -> PriceRow:
    in_force: dict[tuple[str, int], PriceEntry] = {}
    for entry in sorted(entries, key=lambda entry: entry.effective_from):
        if entry.effective_from <= date:
            in_force[entry.tier, entry.above_input_tokens] = entry
    tiers: dict[str, list[Rates]] = {}
    for (tier, _), entry in sorted(in_force.items(), key=lambda item: -item[0][1]):
        tiers.setdefault(tier, []).append(_convert(manifest, entry))
    return PriceRow(f"{manifest.name}/{entries[0].model}@{date.isoformat()}", tiers)


def _convert(manifest: Manifest, entry: PriceEntry) -> Rates:
    dollars: dict[str, Decimal | None] = {name: getattr(entry, name) for name in _RATES}
    if entry.input is not None:
        dollars["cached_input"] = entry.input if entry.cached_input is None else entry.cached_input
        if entry.cache_write is None:
            dollars["cache_write"] = entry.input * CACHE_WRITE_SURCHARGE
    if entry.reasoning is None:
        dollars["reasoning"] = entry.output
    tool_calls = {**manifest.tool_calls, **entry.tool_calls}
    amounts = [amount for amount in (*dollars.values(), *tool_calls.values()) if amount is not None]
    if entry.currency != CURRENCY or any(amount.is_nan() or amount < 0 for amount in amounts):
        message = f"{manifest.name}: {entry.model}: rates are amounts of {CURRENCY}, not negative"
        raise CatalogInvalid(message)
    try:
        return Rates(
            above_input_tokens=entry.above_input_tokens,
            tool_calls={name: nano_from_dollars(rate) for name, rate in tool_calls.items()},
            **{n: nano_from_dollars(rate) for n, rate in dollars.items() if rate is not None},
        )
    except (ValueError, ArithmeticError) as error:
        raise CatalogInvalid(f"{manifest.name}: {entry.model}: {error}") from error


def _unix(date: datetime.date) -> float:
    return datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC).timestamp()

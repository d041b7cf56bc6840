"""The catalog in memory: integrations, their models, and the price in force at a time."""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import sqlalchemy as sa

from headgate.catalog.model.manifest import IntegrationManifest, InvalidCatalogError, ModelEntry
from headgate.catalog.model.price import (
    EVERY_MODEL,
    MICROSECONDS,
    RATES,
    DollarRates,
    PriceBlock,
    PriceEntry,
)
from headgate.catalog.model.rates import PriceRow
from headgate.catalog.service.pricing import compose
from headgate.catalog.store.files import read_manifests
from headgate.catalog.store.prices import TOPIC as TOPIC
from headgate.catalog.store.prices import select_prices
from headgate.llm.convert.field_rules import FieldRules
from headgate.relay.deadlines import make_deadlines
from headgate.relay.ports import DEFAULT_INTEGRATION, Model, ModelMatch

SNAPSHOTS_MAX = 1_000
"""Dated model ids whose entry is cached; the limit is needed since clients can invent ids."""
_SNAPSHOT = re.compile(r"(.+)-20\d\d-[01]\d-[0-3]\d")

_Place = tuple[str, str]
"""Integration and model id."""
_Rows = Sequence[tuple[float, PriceRow]]
"""Prices with the time (unix seconds) since when each is in force, newest first."""
_NOTHING: Mapping[str, Model] = {}
_NO_PRICES: Mapping[str, _Rows] = {}


class Catalog:
    """Hold all integrations with their models and prices (`relay.ports.ModelCatalog`).

    A bare model id belongs to the first integration that has it: OpenAI, then the others in the
    order of the manifests.
    `reload` merges the prices that are stored in the database. Raise `InvalidCatalogError` for
    manifests that contradict themselves or each other.
    """

    def __init__(self, manifests: Iterable[IntegrationManifest]) -> None:
        by_name: dict[str, IntegrationManifest] = {}
        for manifest in sorted(manifests, key=lambda each: each.name != DEFAULT_INTEGRATION):
            if manifest.name in by_name:
                raise InvalidCatalogError(f"There are two integrations named {manifest.name}.")
            by_name[manifest.name] = manifest
        for name, manifest in by_name.items():
            by_name[name] = _inherit_models(manifest, by_name)
        self._field_rules = {
            (name, endpoint): fields.to_rules()
            for name, manifest in by_name.items()
            for endpoint, fields in manifest.fields.items()
        }
        self.integrations: Mapping[str, IntegrationManifest] = by_name
        self._shipped: dict[_Place, list[PriceEntry]] = {}
        self._bases: dict[_Place, str] = {}
        """Maps each id or alias to the id that has its prices."""
        self._found: dict[str, Model] = {}
        self._models: dict[str, dict[str, Model]] = {
            manifest.name: {}
            for manifest in by_name.values()
            if manifest.integration_type == "llm_provider"
        }
        """Maps each integration to its models by id and alias."""
        self.providers: Sequence[str] = sorted(
            self._models, key=lambda name: name != DEFAULT_INTEGRATION
        )
        for manifest in by_name.values():
            self._add_models(manifest)
            self._add_prices(manifest)
        self._snapshots: dict[_Place, tuple[Model | None, str] | None] = {}
        self._matches = self._match_all()
        self._composed = {
            place: self._compose(place, {}) for place in self._shipped if place[1] != EVERY_MODEL
        }
        self._exact: Mapping[_Place, _Rows] = {}
        self._own_prices: Mapping[str, Mapping[str, _Rows]] = {}
        """Maps each integration to its prices by id and alias."""
        self._prices: Mapping[str, _Rows] = {}
        self._merge({})

    @classmethod
    def load(cls, folder: Path | None = None) -> Catalog:
        return cls([*read_manifests(), *(read_manifests(folder) if folder else [])])

    def copy(self) -> Catalog:
        """Return a catalog of the same manifests, whose stored prices are its own."""
        copied = copy.copy(self)
        copied._snapshots = {}
        copied._merge({})
        return copied

    def reload(self, connection: sa.Connection) -> None:
        """Merge the stored prices. Concurrent calls see the prices from before until it is done."""
        stored: dict[_Place, list[PriceEntry]] = {}
        for entry in select_prices(connection):
            stored.setdefault((entry.integration, entry.model), []).append(entry)
        self._merge(stored)

    def models(self) -> list[Model]:
        """Return every model id and alias as a model, ordered by id."""
        return [self._found[model_id] for model_id in sorted(self._found)]

    def match(self, name: str, integration: str | None = None) -> ModelMatch:
        """Return what the `model` of a request means (`relay.ports.ModelCatalog`)."""
        if integration is not None:
            own = name.removeprefix(f"{integration}/")
            if own != name and name in self._models.get(integration, _NOTHING):
                own = name  # the id itself begins like this
            return self._match_own(own, integration, is_qualified=own != name)
        known = self._matches.get(name)
        if known is not None:
            return known
        prefix, _, rest = name.partition("/")
        if rest and prefix in self._models:
            return self._match_own(rest, prefix, is_qualified=True)
        model = self.find(name)
        return self._match_own(name, DEFAULT_INTEGRATION if model is None else model.integration)

    def field_rules(self, integration: str, endpoint: str) -> FieldRules | None:
        """Return which fields an integration takes (`relay.ports.ModelCatalog`)."""
        return self._field_rules.get((integration, endpoint))

    def list_ids(self, integration: str) -> list[str]:
        """Return the model ids of an integration, without aliases."""
        manifest = self.integrations.get(integration)
        return [] if manifest is None else [entry.id for entry in manifest.models]

    def find(self, model_id: str, integration: str | None = None) -> Model | None:
        """Return the model of an id, alias or dated snapshot, under the id that was asked for."""
        known = self._found if integration is None else self._models.get(integration, _NOTHING)
        model = known.get(model_id)
        if model is None:
            snapshot = self._find_snapshot(model_id, integration)
            return None if snapshot is None else snapshot[0]
        return model

    def price(self, model_id: str, at: float, integration: str | None = None) -> PriceRow | None:
        """Return the price in force at a time (unix seconds) for an id, alias or dated snapshot."""
        if integration is None:
            prices, models = self._prices, self._found
        else:
            prices = self._own_prices.get(integration, _NO_PRICES)
            models = self._models.get(integration, _NOTHING)
        rows = prices.get(model_id)
        if rows is not None:
            for since, row in rows:
                if since <= at:
                    return row
            if model_id in models:
                return None
        snapshot = self._find_snapshot(model_id, integration)
        if snapshot is not None:
            for since, row in prices.get(snapshot[1], ()):
                if since <= at:
                    return row
        return None

    def price_at(self, integration: str, model_id: str, at: float) -> PriceRow | None:
        """Return the price in force of an integration's own model, whichever integration has the
        bare id."""
        rows = self._exact.get((integration, self.find_base_id(integration, model_id)), ())
        return next((row for since, row in rows if since <= at), None)

    def entry(self, integration: str, model_id: str) -> ModelEntry | None:
        """Return the manifest's entry of a model, by its id or alias."""
        manifest = self.integrations.get(integration)
        base = self._bases.get((integration, model_id))
        if manifest is None or base is None:
            return None
        return next((entry for entry in manifest.models if entry.id == base), None)

    def find_base_id(self, integration: str, model_id: str) -> str:
        """Return the id that has the prices of a model or alias; the given id if unknown."""
        return self._bases.get((integration, model_id), model_id)

    def shipped_prices(self) -> list[PriceEntry]:
        return [entry for entries in self._shipped.values() for entry in entries]

    def _find_snapshot(
        self, model_id: str, integration: str | None
    ) -> tuple[Model | None, str] | None:
        """Return the model that a dated id is a snapshot of, and the id that has its price."""
        place = integration or "", model_id
        if place in self._snapshots:
            return self._snapshots[place]
        match = _SNAPSHOT.fullmatch(model_id)
        found = None
        if match is not None:
            known = self._found if integration is None else self._models.get(integration, _NOTHING)
            model = known.get(match[1])
            if model is not None:
                model = msgspec.structs.replace(model, id=model_id, wire_id=model_id)
            found = model, match[1]
        if len(self._snapshots) < SNAPSHOTS_MAX:
            self._snapshots[place] = found
        return found

    def _match_all(self) -> Mapping[str, ModelMatch]:
        """Return the meaning of every id of the catalog, bare and qualified."""
        matches: dict[str, ModelMatch] = {}
        for name in self.providers:
            for model_id in self._models[name]:
                spelled = f"{name}/{model_id}"
                matches[spelled] = self._match_own(model_id, name, is_qualified=True)
        for model_id, model in self._found.items():
            first = self._match_own(model_id, model.integration)
            others: tuple[ModelMatch, ...] = ()
            if model.integration != DEFAULT_INTEGRATION:
                others = tuple(
                    self._match_own(model_id, name)
                    for name in self.providers
                    if name != model.integration and model_id in self._models[name]
                )
                # Without a credential for any of them it is what it would be without a catalog.
                others += (_match_unknown(model_id),)
            # `a/b` is model `b` of integration `a` before it is a bare id with a slash.
            matches.setdefault(model_id, msgspec.structs.replace(first, others=others))
        return matches

    def _match_own(
        self, model_id: str, integration: str, *, is_qualified: bool = False
    ) -> ModelMatch:
        model = self.find(model_id, integration)
        bare = self.find(model_id)
        means = DEFAULT_INTEGRATION if bare is None else bare.integration
        names = (f"{integration}/{model_id}",)
        if means == integration:
            names += (model_id,)
        wire_id = model_id if model is None else model.wire_id
        return ModelMatch(integration, model_id, wire_id, model, names, is_qualified)

    def _add_models(self, manifest: IntegrationManifest) -> None:
        name = manifest.name
        for entry in manifest.models:
            deadlines = make_deadlines(
                entry.first_byte_seconds, entry.idle_seconds, entry.total_seconds
            )
            for model_id in (entry.id, *entry.aliases):
                if (name, model_id) in self._bases:
                    raise InvalidCatalogError(f"{name}: the model {model_id} is defined twice")
                self._bases[name, model_id] = entry.id
                wire_id = (entry.wire_id or entry.id) if model_id == entry.id else model_id
                limits = entry.input_tokens_max, entry.output_tokens_max
                reasons = "reasoning" in entry.capabilities
                field = manifest.output_limit_field
                model = Model(
                    model_id,
                    wire_id,
                    *limits,
                    name,
                    deadlines,
                    reasons,
                    field,
                    frozenset(entry.surfaces),
                    entry.converts,
                )
                self._models[name][model_id] = model
                self._found.setdefault(model_id, model)

    def _add_prices(self, manifest: IntegrationManifest) -> None:
        name = manifest.name
        known = {entry.id for entry in manifest.models} | {EVERY_MODEL}
        for block in manifest.prices:
            if block.model not in known:
                raise InvalidCatalogError(f"{name}: a price names the unknown model {block.model}")
            entries = self._shipped.setdefault((name, block.model), [])
            row = _read_block(manifest, block)
            if any((e.place, e.effective_from) == (row.place, row.effective_from) for e in entries):
                message = f"{row.model} has two prices for {row.tier} at {block.effective_from}"
                raise InvalidCatalogError(f"{name}: {message}")
            entries.append(row)

    def _merge(self, stored: Mapping[_Place, Sequence[PriceEntry]]) -> None:
        """Put new prices in force. Only prices that the stored rows affect are composed again."""
        names = {name for name, model_id in stored if model_id == EVERY_MODEL}
        exact = dict(self._composed)
        for place in {**self._shipped, **stored}:
            if place[1] != EVERY_MODEL and (place in stored or place[0] in names):
                exact[place] = self._compose(place, stored)
        prices: dict[str, _Rows] = {}
        own: dict[str, dict[str, _Rows]] = {name: {} for name in self.providers}
        for (name, model_id), base in self._bases.items():
            own[name][model_id] = exact.get((name, base), ())
            prices.setdefault(model_id, own[name][model_id])
        for (name, model_id), rows in exact.items():
            own.setdefault(name, {}).setdefault(model_id, rows)
            prices.setdefault(model_id, rows)
        self._exact, self._own_prices, self._prices = exact, own, prices

    def _compose(self, place: _Place, stored: Mapping[_Place, Sequence[PriceEntry]]) -> _Rows:
        rows = [
            row
            for at in ((place[0], EVERY_MODEL), place)
            for rows_by_place in (self._shipped, stored)
            for row in rows_by_place.get(at, ())
        ]
        try:
            return compose(rows)
        except ValueError as error:
            raise InvalidCatalogError(f"{place[0]}: {place[1]}: {error}") from error


def _match_unknown(model_id: str) -> ModelMatch:
    names = (f"{DEFAULT_INTEGRATION}/{model_id}", model_id)
    return ModelMatch(DEFAULT_INTEGRATION, model_id, model_id, None, names)


def _inherit_models(
    manifest: IntegrationManifest, by_name: Mapping[str, IntegrationManifest]
) -> IntegrationManifest:
    """Return the manifest with the models and prices of the one that it names."""
    if manifest.models_from is None:
        return manifest
    source = by_name.get(manifest.models_from)
    if source is None:
        message = f"{manifest.name}: there is no integration {manifest.models_from}"
        raise InvalidCatalogError(message)
    return msgspec.structs.replace(
        manifest,
        models=(*manifest.models, *source.models),
        prices=(*manifest.prices, *source.prices),
        default_model=manifest.default_model or source.default_model,
    )


def _read_block(manifest: IntegrationManifest, block: PriceBlock) -> PriceEntry:
    day = block.effective_from
    since = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
    return PriceEntry(
        integration=manifest.name,
        model=block.model,
        tier=block.tier,
        above_input_tokens=block.above_input_tokens,
        effective_from=round(since.timestamp()) * MICROSECONDS,
        currency=block.currency,
        rates=DollarRates(
            **{name: getattr(block, name) for name in RATES}, tool_calls=block.tool_calls
        ),
        source=block.source,
    )

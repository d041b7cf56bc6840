"""Write the `headgate` field of listed models: price, latency, capabilities, context.

Prices are the rows that billing charges by; latencies are measured from receipts.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.money import NANO_PER_DOLLAR
from headgate.relay.ports import Credential, ListedManagedModel, Model

FIELD = "headgate"
"""The only field that is added to the provider's own fields of a model."""
CURRENCY = "USD"
DEFAULT_TIER = "default"
RENDERED_PRICES_MAX = 2_000
THRESHOLD = "above_input_tokens"


class ModelInfo(Protocol):
    @property
    def display_name(self) -> str: ...
    @property
    def input_tokens_max(self) -> int: ...
    @property
    def output_limit(self) -> int | None: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def data_freshness(self) -> datetime.date | None: ...
    @property
    def supports_vision(self) -> bool: ...
    @property
    def capabilities(self) -> Sequence[str]: ...
    @property
    def deprecated(self) -> bool: ...
    @property
    def replacement_id(self) -> str | None: ...


class TieredPrice(Protocol):
    """Represent a price in nano-dollars; `tiers` have the rates with the highest input threshold
    first."""

    @property
    def id(self) -> str: ...
    @property
    def tiers(self) -> Mapping[str, Sequence[msgspec.Struct]]: ...


class MetadataCatalog(Protocol):
    """Look up models and prices; the part of the catalog that metadata needs."""

    def entry(self, integration: str, model_id: str) -> ModelInfo | None: ...

    def find(self, model_id: str, integration: str | None = None) -> Model | None: ...

    def price(
        self, model_id: str, at: float, integration: str | None = None
    ) -> TieredPrice | None: ...


class MeasuredLatency(Protocol):
    @property
    def band(self) -> str: ...
    @property
    def p50_ms(self) -> int: ...
    @property
    def p95_ms(self) -> int: ...
    @property
    def samples(self) -> int: ...


FindLatency = Callable[[str, str], MeasuredLatency | None]
"""Returns the latency of a model (second argument) by a credential (first)."""


class ModelMetadata:
    def __init__(self, catalog: MetadataCatalog, find_latency: FindLatency, clock: Clock) -> None:
        self._catalog = catalog
        self._find_latency = find_latency
        self._clock = clock
        self._rendered: dict[int, tuple[TieredPrice, msgspec.Raw]] = {}

    def render(self, model_id: str, credential: Credential) -> bytes:
        """Render the metadata of a model that is served with an organization's own credential."""
        return self._render(
            model_id,
            info=self._catalog.entry(credential.integration, model_id),
            provider=credential.integration,
            managed=credential.managed,
            credential_id=credential.id,
            priced_as=model_id,
        )

    def render_managed(self, managed: ListedManagedModel) -> bytes:
        """Render the metadata of a managed model, with info and price of the model that serves
        it."""
        catalog, integration = self._catalog, managed.integration
        model = catalog.find(managed.wire_id, integration)
        model = model or catalog.find(managed.serving_id, integration)
        priced_as = managed.serving_id if model is None else model.id
        deprecation = None
        if managed.deprecated:
            replaced = managed.serving_id != managed.model_id
            deprecation = describe_deprecation(managed.serving_id if replaced else None)
        return self._render(
            managed.model_id,
            info=catalog.entry(integration, priced_as),
            provider=integration,
            managed=True,
            credential_id=managed.credential_id,
            priced_as=priced_as,
            display_name=managed.display_name,
            deprecation=deprecation,
        )

    def _render(
        self,
        model_id: str,
        *,
        info: ModelInfo | None,
        provider: str,
        managed: bool,
        credential_id: str,
        priced_as: str,
        display_name: str | None = None,
        deprecation: dict[str, Any] | None = None,
    ) -> bytes:
        if deprecation is None and not managed and info is not None and info.deprecated:
            deprecation = describe_deprecation(info.replacement_id)
        named = display_name or (model_id if info is None else info.display_name)
        return msgspec.json.encode(
            {
                "display_name": named,
                "provider": provider,
                "managed": managed,
                "price": self._render_price(priced_as, provider),
                "latency": describe_latency(self._find_latency(credential_id, model_id)),
                "capabilities": describe_capabilities(info),
                "context": describe_context(info),
                "deprecation": deprecation,
            }
        )

    def _render_price(self, model_id: str, integration: str) -> msgspec.Raw | None:
        """Return the price in force; rendering it is most of the work, and a row never changes. The
        cache keeps each row alive, so that no other row can take its `id()`."""
        price = self._catalog.price(model_id, self._clock.now(), integration)
        if price is None:
            return None
        rendered = self._rendered.get(id(price))
        if rendered is None:
            if len(self._rendered) >= RENDERED_PRICES_MAX:
                self._rendered.clear()
            rendered = price, msgspec.Raw(msgspec.json.encode(describe_price(price)))
            self._rendered[id(price)] = rendered
        return rendered[1]


def describe_deprecation(replacement_id: str | None) -> dict[str, Any]:
    return {"deprecated": True, "replacement_id": replacement_id}


def describe_price(price: TieredPrice) -> dict[str, Any]:
    """Return the rates of the default service tier, and all others under `tiers`.

    Rates are decimal strings of dollars: for a million tokens of each class, an image, a minute, a
    million characters, a tool call.
    """
    metadata: dict[str, Any] = {"id": price.id, "currency": CURRENCY}
    others: list[dict[str, Any]] = []
    for tier, steps in price.tiers.items():
        for rates in reversed(steps):
            shown = describe_rates(msgspec.structs.asdict(rates))
            threshold = shown.pop(THRESHOLD)
            if tier == DEFAULT_TIER and threshold < 0:
                metadata |= shown
                continue
            above = {} if threshold < 0 else {THRESHOLD: threshold}
            others.append({"service_tier": tier, **above, **shown})
    return {**metadata, "tiers": others}


def describe_rates(rates: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known rates in dollars, and the threshold unchanged."""
    shown: dict[str, Any] = {}
    for name, value in rates.items():
        if name == THRESHOLD:
            shown[name] = value
        elif isinstance(value, int):
            shown[name] = format_rate(value)
        elif value:
            shown[name] = {each: format_rate(rate) for each, rate in sorted(value.items())}
    return shown


def format_rate(nano: int) -> str:
    """Return nano-dollars as the shortest decimal string of dollars."""
    whole, rest = divmod(nano, NANO_PER_DOLLAR)
    return f"{whole}.{rest:09d}".rstrip("0").removesuffix(".")


def describe_latency(latency: MeasuredLatency | None) -> dict[str, Any]:
    """Return the measured latency, with null values if nothing was measured."""
    if latency is None:
        return {"band": None, "p50_ms": None, "p95_ms": None, "samples": 0}
    return {
        "band": latency.band,
        "p50_ms": latency.p50_ms,
        "p95_ms": latency.p95_ms,
        "samples": latency.samples,
    }


def describe_capabilities(info: ModelInfo | None) -> dict[str, Any]:
    """Return what the catalog knows that the model can do; a capability that is missing is
    unknown."""
    if info is None:
        return {}
    names = set(info.capabilities)
    names |= {"vision"} if info.supports_vision else set()
    names |= {"embeddings"} if info.dimensions else set()
    metadata: dict[str, Any] = dict.fromkeys(sorted(names), True)
    return {**metadata, "dimensions": info.dimensions} if info.dimensions else metadata


def describe_context(info: ModelInfo | None) -> dict[str, Any] | None:
    """Return the model's token limits and the end of its training data; null where unknown."""
    if info is None:
        return None
    return {
        "input_tokens_max": info.input_tokens_max or None,
        "output_tokens_max": info.output_limit,
        "data_freshness": info.data_freshness,
    }

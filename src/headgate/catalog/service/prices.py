"""The price book: shipped and stored rows, none of which ever changes."""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.catalog.model.price import (
    CURRENCY,
    DEFAULT_TIER,
    EVERY_MODEL,
    MICROSECONDS,
    NO_THRESHOLD,
    OPERATOR,
    PRICED_MODEL,
    TIER,
    DollarRates,
    InvalidPriceError,
    PriceEntry,
    PriceNotFoundError,
    format_moment,
    format_rates,
    parse_moment,
    parse_price_name,
)
from headgate.catalog.model.rates import PriceRow
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.pricing import compose_row, find_invalid_rate, select_current
from headgate.catalog.store import prices as store
from headgate.kit.clock import Clock

THRESHOLD_MAX = 1_000_000_000
LATEST_SECONDS = 10 * 366 * 86_400
"""How far ahead a price may be set."""
EARLIEST = parse_moment("2000-01-01")
"""The earliest start of a price; no model was sold before."""


class PriceState(enum.Enum):
    IN_FORCE = "in_force"
    FUTURE = "future"
    OVER = "over"
    """It was in force, or a later row of the same time replaces it."""


class PriceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a new row. Without `effective_from` it is in force from now on."""

    integration: str
    model: str
    rates: DollarRates
    tier: str = DEFAULT_TIER
    above_input_tokens: int = NO_THRESHOLD
    effective_from: datetime.datetime | None = None
    currency: str = CURRENCY


class PriceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter the rows of a list; None does not restrict."""

    integration: str | None = None
    model: str | None = None
    tier: str | None = None
    source: str | None = None
    history: bool = False
    """Include rows that are no longer in force."""


class ListedPrice(msgspec.Struct, frozen=True):
    entry: PriceEntry
    state: PriceState


class PriceService:
    """Read and extend the price book. The caller commits; changes bump the revision of the
    catalog."""

    def __init__(self, catalog: Catalog, audit: AuditLog, clock: Clock) -> None:
        self._catalog = catalog
        self._audit = audit
        self._clock = clock

    def add(
        self,
        connection: sa.Connection,
        request: PriceRequest,
        *,
        by: Actor,
        source: str = OPERATOR,
    ) -> PriceEntry:
        """Write a row that is in force from its time on. Raise `InvalidPriceError`.

        A time in the past is rejected, since receipts name the prices that were in force then,
        unless the model never had a price.
        """
        return self.add_all(connection, [request], by=by, source=source)[0]

    def add_all(
        self,
        connection: sa.Connection,
        requests: Sequence[PriceRequest],
        *,
        by: Actor,
        source: str = OPERATOR,
    ) -> list[PriceEntry]:
        """Write several rows as `add` does, all with the same time of writing."""
        for request in requests:
            self._check(request)
        number, written_at = store.lock(connection)
        now = max(self._now(), written_at + 1)
        moments = [self._date(connection, request, now) for request in requests]
        entries = [
            PriceEntry(
                integration=request.integration,
                model=request.model,
                tier=request.tier,
                above_input_tokens=request.above_input_tokens,
                effective_from=moment,
                currency=request.currency,
                rates=request.rates,
                source=source,
                number=number + position,
                created_by=by.id,
                created_at=now,
            )
            for position, (request, moment) in enumerate(zip(requests, moments, strict=True), 1)
        ]
        for entry in entries:
            store.insert_price(connection, entry)
            event = AuditEvent("price.added", None, _name(entry), _show(entry))
            self._audit.record(connection, by, event)
        return entries

    def list(
        self, connection: sa.Connection, filters: PriceFilter, *, limit: int, offset: int = 0
    ) -> tuple[list[ListedPrice], int]:
        """Return one page of the matching rows, ordered by model and place, newest first, and
        the number of matching rows."""
        shipped = self._catalog.shipped_prices()
        stored = store.select_prices(connection, filters.integration)
        matching = [
            listed
            for listed in list_states([*shipped, *stored], self._now())
            if _matches(listed.entry, filters)
            and (filters.history or listed.state is not PriceState.OVER)
        ]
        return matching[offset : offset + limit], len(matching)

    def find_in_force(
        self, connection: sa.Connection, integration: str, at: int | None = None
    ) -> dict[tuple[str, str, int], PriceEntry]:
        """Return the row in force for each (model, tier, threshold) at a time in microseconds
        (None: now)."""
        moment = self._now() if at is None else at
        shipped = [e for e in self._catalog.shipped_prices() if e.integration == integration]
        stored = store.select_prices(connection, integration)
        return select_current(
            entry for entry in [*shipped, *stored] if entry.effective_from <= moment
        )

    def find_by_id(self, connection: sa.Connection, price_id: str) -> PriceRow:
        """Return the price that a receipt's `price_id` names, as it was when the receipt was
        written.

        Raise `PriceNotFoundError`.
        """
        name = parse_price_name(price_id)
        models = (name.model, EVERY_MODEL)
        known = [
            entry
            for entry in (
                *self._catalog.shipped_prices(),
                *store.select_prices(connection, name.integration, models),
            )
            if entry.integration == name.integration
            and entry.model in models
            and name.covers(entry)
        ]
        if any(entry.model != EVERY_MODEL for entry in known):
            row = compose_row(known)
            if row.id == price_id:
                return row
        raise PriceNotFoundError(f"There is no price {price_id!r}.", param="price_id")

    def _now(self) -> int:
        return round(self._clock.now() * MICROSECONDS)

    def _check(self, request: PriceRequest) -> None:
        manifest = self._catalog.integrations.get(request.integration)
        if manifest is None or manifest.integration_type != "llm_provider":
            known = ", ".join(
                name
                for name, each in sorted(self._catalog.integrations.items())
                if each.integration_type == "llm_provider"
            )
            message = f"There is no LLM provider {request.integration!r}; there is: {known}."
            raise InvalidPriceError(message, param="integration")
        if not re.fullmatch(PRICED_MODEL, request.model):
            message = "A model id has 1 to 200 letters, digits and ._:/@- (or is *, for tools)."
            raise InvalidPriceError(message, param="model")
        base = self._catalog.find_base_id(request.integration, request.model)
        if base != request.model:
            message = f"{request.model} shares the prices of {base}; set them there."
            raise InvalidPriceError(message, param="model")
        if not re.fullmatch(TIER, request.tier):
            message = "A tier is a word such as default, batch, flex or priority."
            raise InvalidPriceError(message, param="tier")
        threshold = request.above_input_tokens
        if threshold != NO_THRESHOLD and not 0 < threshold <= THRESHOLD_MAX:
            message = f"A threshold is 1 to {THRESHOLD_MAX} tokens, or {NO_THRESHOLD} for none."
            raise InvalidPriceError(message, param="above_input_tokens")
        self._check_rates(request)

    def _check_rates(self, request: PriceRequest) -> None:
        problem = find_invalid_rate(request.currency, request.rates)
        if problem is not None:
            raise InvalidPriceError(f"{problem[1]}.", param=problem[0])
        if request.model == EVERY_MODEL:
            stated = {
                name for name in request.rates.amounts() if not name.startswith("tool_calls.")
            }
            place = (request.tier, request.above_input_tokens)
            if stated or place != (DEFAULT_TIER, NO_THRESHOLD):
                message = "Only calls of tools have a price for every model, in every tier."
                raise InvalidPriceError(message, param="rates" if stated else "tier")

    def _date(self, connection: sa.Connection, request: PriceRequest, now: int) -> int:
        requested = request.effective_from
        if requested is None:
            return now
        at = round(requested.timestamp() * MICROSECONDS)
        if at > now + LATEST_SECONDS * MICROSECONDS:
            message = "A price can be set at most ten years ahead."
            raise InvalidPriceError(message, param="effective_from")
        if at < EARLIEST:
            raise InvalidPriceError(
                "effective_from must not be before the year 2000.", param="effective_from"
            )
        if at < now and self._had_price(connection, request):
            message = (
                f"{request.model} has prices already, and charged prices cannot change: "
                f"effective_from must not be before now ({format_moment(now)})."
            )
            raise InvalidPriceError(message, param="effective_from")
        return at

    def _had_price(self, connection: sa.Connection, request: PriceRequest) -> bool:
        place = (request.integration, request.model)
        return (
            request.model == EVERY_MODEL
            or any((e.integration, e.model) == place for e in self._catalog.shipped_prices())
            or bool(store.select_prices(connection, request.integration, (request.model,)))
        )


def list_states(entries: Iterable[PriceEntry], now: int) -> list[ListedPrice]:
    """Return every row with its state, ordered by model and place, newest first."""
    ordered = sorted(
        entries,
        key=lambda e: (e.integration, e.model, e.tier, e.above_input_tokens, *_newest_first(e)),
    )
    groups: dict[tuple[str, str], list[PriceEntry]] = {}
    for entry in ordered:
        groups.setdefault((entry.integration, entry.model), []).append(entry)
    listed: list[ListedPrice] = []
    for group in groups.values():
        counting = select_current(entry for entry in group if entry.effective_from <= now)
        current = {id(entry) for entry in counting.values()}
        listed += [ListedPrice(entry, _find_state(entry, group, current, now)) for entry in group]
    return listed


def _find_state(
    entry: PriceEntry, group: Sequence[PriceEntry], current: set[int], now: int
) -> PriceState:
    if entry.effective_from <= now:
        return PriceState.IN_FORCE if id(entry) in current else PriceState.OVER
    replaced = any(
        other.place == entry.place
        and other.effective_from == entry.effective_from
        and other.precedence > entry.precedence
        for other in group
    )
    return PriceState.OVER if replaced else PriceState.FUTURE


def _newest_first(entry: PriceEntry) -> tuple[int, int]:
    return -entry.effective_from, -entry.number


def _matches(entry: PriceEntry, filters: PriceFilter) -> bool:
    return (
        filters.integration in (None, entry.integration)
        and filters.model in (None, entry.model)
        and filters.tier in (None, entry.tier)
        and filters.source in (None, entry.source)
    )


def _name(entry: PriceEntry) -> str:
    return f"{entry.integration}/{entry.model}+{entry.number}"


def _show(entry: PriceEntry) -> dict[str, object]:
    return {
        "tier": entry.tier,
        "above_input_tokens": entry.above_input_tokens,
        "effective_from": format_moment(entry.effective_from),
        "rates": format_rates(entry.rates),
        "source": entry.source,
    }

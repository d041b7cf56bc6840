"""All SQL of the price book. Rows are inserted and read, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.catalog.model.price import PriceEntry, decode_rates, encode_rates
from headgate.kit.db.schema import METADATA, bump_revision
from headgate.kit.db.triggers import forbid_changes

TOPIC = "catalog"
"""The revision that every change bumps, so that other processes reload."""

PRICES = sa.Table(
    "prices",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("integration", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("above_input_tokens", sa.BigInteger, nullable=False),
    sa.Column("effective_from", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("rates", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("ix_prices_model", "integration", "model", "number"),
)
forbid_changes(PRICES)


def lock(connection: sa.Connection) -> tuple[int, int]:
    """Bump the revision, which makes writers wait for each other, and return number and time of
    the newest row; zeros if there is none."""
    bump_revision(connection, TOPIC)
    newest = sa.select(PRICES.c.number, PRICES.c.created_at).order_by(PRICES.c.number.desc())
    row = connection.execute(newest.limit(1)).one_or_none()
    return (0, 0) if row is None else (row.number, row.created_at)


def insert_price(connection: sa.Connection, entry: PriceEntry) -> None:
    values = msgspec.structs.asdict(entry) | {"rates": encode_rates(entry.rates)}
    connection.execute(sa.insert(PRICES).values(values))


def select_prices(
    connection: sa.Connection, integration: str | None = None, models: tuple[str, ...] = ()
) -> list[PriceEntry]:
    """Return the rows of an integration (None: of all) and of `models` (empty: of all), oldest
    first."""
    statement = sa.select(PRICES).order_by(PRICES.c.number)
    if integration is not None:
        statement = statement.where(PRICES.c.integration == integration)
    if models:
        statement = statement.where(PRICES.c.model.in_(models))
    return [_entry(row) for row in connection.execute(statement).mappings()]


def _entry(row: Mapping[Any, Any]) -> PriceEntry:
    fields: dict[str, Any] = {**row, "rates": decode_rates(row["rates"])}
    return PriceEntry(**fields)

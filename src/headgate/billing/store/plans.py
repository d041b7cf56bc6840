"""All SQL of plans and subscriptions, and the file of the shipped plans. Rows are inserted and
read, never changed."""

from __future__ import annotations

import datetime
import functools
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.billing.model.plans import (
    PlanLimits,
    PlanVersion,
    Subscription,
    UnusablePlanFileError,
)
from headgate.kit.db.schema import METADATA, bump_revision
from headgate.kit.db.statement import HotStatement
from headgate.kit.db.triggers import forbid_changes
from headgate.kit.money import nano_from_dollars

TOPIC = "plans"
"""The revision that every change bumps. It makes writers wait for each other."""
DATA = Path(__file__).parents[1] / "data" / "plans.toml"

PLANS = sa.Table(
    "plans",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("effective_from", sa.Double, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("credits_per_month", sa.BigInteger, nullable=False),
    sa.Column("overage", sa.SmallInteger, nullable=False),
    sa.Column("price_nano", sa.BigInteger),
    sa.Column("limits", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Index("ix_plans_id", "id", "effective_from", "number"),
)
forbid_changes(PLANS)

SUBSCRIPTIONS = sa.Table(
    "subscriptions",
    METADATA,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("plan_id", sa.Text),
    sa.Column("overage", sa.SmallInteger, nullable=False),
    sa.Column("effective_from", sa.Double, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Index("ix_subscriptions_organization_id", "organization_id", "effective_from", "version"),
)
forbid_changes(SUBSCRIPTIONS)

_NEWEST = " LIMIT 1"
_AT = sa.bindparam("at", type_=sa.Double)
_PLAN_COLUMNS = ("number", "effective_from", "name", "credits_per_month", "overage")
_SUBSCRIPTION_COLUMNS = Subscription.__struct_fields__
_FIND_PLAN = HotStatement(
    sa.select(*[PLANS.c[name] for name in _PLAN_COLUMNS])
    .where(PLANS.c.id == sa.bindparam("plan"))
    .where(PLANS.c.effective_from <= _AT)
    .order_by(PLANS.c.effective_from.desc(), PLANS.c.number.desc()),
    "plan",
    "at",
    end=_NEWEST,
)
_FIND_SUBSCRIPTION = HotStatement(
    sa.select(*[SUBSCRIPTIONS.c[name] for name in _SUBSCRIPTION_COLUMNS])
    .where(SUBSCRIPTIONS.c.organization_id == sa.bindparam("organization"))
    .where(SUBSCRIPTIONS.c.effective_from <= _AT)
    .order_by(SUBSCRIPTIONS.c.effective_from.desc(), SUBSCRIPTIONS.c.version.desc()),
    "organization",
    "at",
    end=_NEWEST,
)


class ShippedPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Describe a row of the file of shipped plans."""

    id: str
    name: str
    effective_from: datetime.datetime
    credits_per_month: int
    overage: bool
    description: str = ""
    price_per_month: str | None = None
    limits: PlanLimits = PlanLimits()


class PlanFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    plans: list[ShippedPlan]


@functools.cache
def list_shipped(path: Path = DATA) -> tuple[PlanVersion, ...]:
    """Return the plans that come with Headgate. Raise `UnusablePlanFileError`."""
    try:
        with path.open("rb") as file:
            rows = msgspec.convert(tomllib.load(file), PlanFile).plans
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UnusablePlanFileError(f"{path}: {error}") from error
    return tuple(
        PlanVersion(
            id=row.id,
            name=row.name,
            description=row.description,
            effective_from=row.effective_from.timestamp(),
            credits_per_month=row.credits_per_month,
            overage=row.overage,
            price_nano=None
            if row.price_per_month is None
            else nano_from_dollars(row.price_per_month),
            limits=row.limits,
        )
        for row in rows
    )


def lock(connection: sa.Connection, table: sa.Table) -> int:
    """Make other writers wait, and return the number of the newest row of a table, 0 if there is
    none."""
    bump_revision(connection, TOPIC)
    [number] = table.primary_key.columns
    return connection.execute(sa.select(sa.func.max(number))).scalar() or 0


def insert_plan(connection: sa.Connection, version: PlanVersion) -> None:
    values: dict[str, Any] = msgspec.structs.asdict(version) | {
        "overage": int(version.overage),
        "limits": msgspec.json.encode(version.limits).decode(),
    }
    connection.execute(sa.insert(PLANS).values(values))


def select_plans(connection: sa.Connection) -> Iterator[PlanVersion]:
    """Yield every version that the operator defined, oldest first."""
    for row in connection.execute(sa.select(PLANS).order_by(PLANS.c.number)).mappings():
        fields: dict[str, Any] = {
            **row,
            "overage": bool(row["overage"]),
            "limits": msgspec.json.decode(row["limits"], type=PlanLimits),
        }
        yield PlanVersion(**fields)


def find_plan(connection: sa.Connection, plan_id: str, at: float) -> PlanVersion | None:
    """Return the operator's version of a plan that is in force at a time, without its texts and
    limits; None if there is none."""
    for number, effective_from, name, credits_per_month, overage in _FIND_PLAN.fetch(
        connection, (plan_id, at)
    ):
        return PlanVersion(
            id=plan_id,
            name=name,
            effective_from=effective_from,
            credits_per_month=credits_per_month,
            overage=bool(overage),
            number=number,
        )
    return None


def insert_subscription(connection: sa.Connection, subscription: Subscription) -> None:
    values = msgspec.structs.asdict(subscription) | {"overage": int(subscription.overage)}
    connection.execute(sa.insert(SUBSCRIPTIONS).values(values))


def find_subscription(
    connection: sa.Connection, organization_id: str, at: float
) -> Subscription | None:
    """Return the subscription of an organization that is in force at a time."""
    for row in _FIND_SUBSCRIPTION.fetch(connection, (organization_id, at)):
        return _build_subscription(row)
    return None


def select_subscriptions(connection: sa.Connection, organization_id: str) -> list[Subscription]:
    """Return all subscriptions of an organization, those that begin last first."""
    query = (
        sa.select(SUBSCRIPTIONS)
        .where(SUBSCRIPTIONS.c.organization_id == organization_id)
        .order_by(SUBSCRIPTIONS.c.effective_from.desc(), SUBSCRIPTIONS.c.version.desc())
    )
    return [_build_subscription(row) for row in connection.execute(query)]


def select_all_subscriptions(connection: sa.Connection) -> Iterator[Subscription]:
    """Yield the subscriptions of all organizations, oldest first."""
    query = sa.select(SUBSCRIPTIONS).order_by(SUBSCRIPTIONS.c.version)
    for row in connection.execute(query):
        yield _build_subscription(row)


def _build_subscription(row: Sequence[Any]) -> Subscription:
    version, organization_id, plan_id, overage, effective_from, created_at, created_by = row
    return Subscription(
        version, organization_id, plan_id, bool(overage), effective_from, created_at, created_by
    )

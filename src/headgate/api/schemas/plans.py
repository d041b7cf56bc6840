"""Plans and subscriptions as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import Timestamp, to_datetime
from headgate.api.schemas.money import Dollars, show_dollars
from headgate.billing.model.plans import (
    CREDITS_MAX,
    LIMIT_MAX,
    NANO_PER_CREDIT,
    PlanLimits,
    PlanVersion,
    Subscription,
)
from headgate.billing.service.plans import BillingState
from headgate.kit.money import nano_from_dollars

PlanId = Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,63}$")]
Limit = Annotated[int, Meta(ge=0, le=LIMIT_MAX)]
Credits = Annotated[int, Meta(ge=0, le=CREDITS_MAX)]
PlanName = Annotated[str, Meta(min_length=1, max_length=128)]


class PlanLimitsFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an organization may have under the plan; null is no limit. The limits of requests hold
    for managed calls, those of seats, projects and keys where one is created."""

    seats: Limit | None = None
    projects: Limit | None = None
    keys: Limit | None = None
    requests_per_minute: Limit | None = None
    concurrent_requests: Limit | None = None


class PlanCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new plan, or a new version of a plan. Without `effective_from` it is in force at once."""

    id: PlanId
    name: PlanName
    credits_per_month: Credits
    overage: bool = False
    description: Annotated[str, Meta(max_length=1000)] = ""
    price_per_month: Dollars | None = None
    limits: PlanLimitsFields = PlanLimitsFields()
    effective_from: Timestamp | None = None


class PlanResponse(msgspec.Struct, kw_only=True):
    """A plan with its monthly credits. One credit is $0.001."""

    id: str
    name: str
    description: str
    credits_per_month: int
    overage: bool
    price_per_month: str | None
    limits: PlanLimitsFields
    effective_from: datetime.datetime
    number: int


class PlanList(msgspec.Struct):
    """The plans that are in force."""

    plans: list[PlanResponse]


class OrganizationPlans(msgspec.Struct):
    """The plans that an organization can have, and the one that it has."""

    plans: list[PlanResponse]
    current_plan: str | None


class SubscriptionSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The plan of an organization; null ends its plan. Without `effective_from` from now on."""

    plan: PlanId | None
    overage: bool = False
    effective_from: Timestamp | None = None


class SubscriptionResponse(msgspec.Struct, kw_only=True):
    """The plan that an organization has from a time on."""

    organization_id: str
    plan: str | None
    overage: bool
    effective_from: datetime.datetime
    version: int
    created_at: datetime.datetime
    created_by: str


class OverageSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the wallet pays what exceeds the monthly credits."""

    enabled: bool


class OrganizationBilling(msgspec.Struct, kw_only=True):
    """The plan of an organization, its credits of this month, and its wallet. `max_credit` and
    `used_credit` are 0 for a prepaid organization, whose wallet pays everything."""

    organization_id: str
    plan: PlanResponse | None
    overage_allowed: bool
    overage_enabled: bool
    max_credit: float
    used_credit: float
    remaining_credit: float
    next_reset_date: datetime.datetime
    wallet: str
    history: list[SubscriptionResponse]


def read_plan(body: PlanCreate) -> PlanVersion:
    price = body.price_per_month
    return PlanVersion(
        id=body.id,
        name=body.name,
        description=body.description,
        effective_from=0.0 if body.effective_from is None else body.effective_from.timestamp(),
        credits_per_month=body.credits_per_month,
        overage=body.overage,
        price_nano=None if price is None else nano_from_dollars(price),
        limits=PlanLimits(**msgspec.structs.asdict(body.limits)),
    )


def to_plan_response(version: PlanVersion) -> PlanResponse:
    price = version.price_nano
    return PlanResponse(
        id=version.id,
        name=version.name,
        description=version.description,
        credits_per_month=version.credits_per_month,
        overage=version.overage,
        price_per_month=None if price is None else show_dollars(price),
        limits=PlanLimitsFields(**msgspec.structs.asdict(version.limits)),
        effective_from=to_datetime(version.effective_from),
        number=version.number,
    )


def to_subscription_response(subscription: Subscription) -> SubscriptionResponse:
    return SubscriptionResponse(
        organization_id=subscription.organization_id,
        plan=subscription.plan_id,
        overage=subscription.overage,
        effective_from=to_datetime(subscription.effective_from),
        version=subscription.version,
        created_at=to_datetime(subscription.created_at),
        created_by=subscription.created_by,
    )


def to_billing(state: BillingState) -> OrganizationBilling:
    plan, current = state.plan, state.subscription
    return OrganizationBilling(
        organization_id=state.organization_id,
        plan=None if plan is None else to_plan_response(plan),
        overage_allowed=plan is not None and plan.overage,
        overage_enabled=current is not None and current.overage,
        max_credit=state.credits_nano / NANO_PER_CREDIT,
        used_credit=(state.credits_nano - state.remaining_nano) / NANO_PER_CREDIT,
        remaining_credit=state.remaining_nano / NANO_PER_CREDIT,
        next_reset_date=to_datetime(state.resets_at),
        wallet=show_dollars(state.wallet_nano),
        history=[to_subscription_response(each) for each in state.history],
    )

"""Plans, and the subscription of an organization."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.api.access import organization, platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.plans import (
    OrganizationBilling,
    OrganizationPlans,
    OverageSet,
    PlanCreate,
    PlanList,
    PlanResponse,
    SubscriptionResponse,
    SubscriptionSet,
    read_plan,
    to_billing,
    to_plan_response,
    to_subscription_response,
)

OPERATIONS = Operations(
    "Plans",
    "Monthly credits for managed calls, and whether the wallet pays what exceeds them. Plans and "
    "subscriptions are added and never edited.",
)
READ = organization("plans:read")
WRITE = organization("plans:write")


@OPERATIONS.get("/api/subscriptions/organization-plans", access=READ, summary="List the plans")
async def list_organization_plans(context: RequestContext[Empty, Empty]) -> OrganizationPlans:
    """Return the plans that are in force, and the id of the organization's own; null for a prepaid
    organization."""
    plans = context.services.plans

    def read(connection: sa.Connection) -> OrganizationPlans:
        current = plans.find_subscription(connection, context.organization_id)
        return OrganizationPlans(
            [to_plan_response(each) for each in plans.list(connection)],
            None if current is None else current.plan_id,
        )

    return await context.read(read)


@OPERATIONS.get(
    "/api/subscriptions/organization-billing",
    access=READ,
    summary="Read plan, credits and wallet",
)
async def get_organization_billing(context: RequestContext[Empty, Empty]) -> OrganizationBilling:
    """Return the plan of the organization, what is used of its monthly credits, what its wallet
    has, and the history of its subscriptions. What running calls hold counts as used."""
    context.principal.check_organization_wide()
    return await context.read(
        lambda connection: to_billing(
            context.services.plans.read_billing(connection, context.organization_id)
        )
    )


@OPERATIONS.put(
    "/api/subscriptions/overage",
    access=WRITE,
    summary="Set whether the wallet pays overage",
    errors=(409,),
    example={"enabled": False},
    is_versioned=False,
)
async def set_overage(context: RequestContext[Empty, OverageSet]) -> SubscriptionResponse:
    """Let the wallet pay what exceeds the monthly credits, or no longer. 409 if the organization
    has no plan, or its plan does not allow it."""
    context.principal.check_organization_wide()
    return await context.write(
        lambda connection: to_subscription_response(
            context.services.plans.set_overage(
                connection,
                context.organization_id,
                enabled=context.body.enabled,
                by=context.actor,
            )
        )
    )


@OPERATIONS.get("/api/platform/plans", access=platform("platform:read"), summary="List all plans")
async def list_plans(context: RequestContext[Empty, Empty]) -> PlanList:
    """Return every version of every plan, by plan, the newest first."""
    history = await context.read(context.services.plans.list_history)
    return PlanList([to_plan_response(each) for each in history])


@OPERATIONS.post(
    "/api/platform/plans",
    access=platform("platform:write"),
    status=201,
    summary="Set a plan",
    example={"id": "team", "name": "Team", "credits_per_month": 50000, "overage": True},
)
async def create_plan(context: RequestContext[Empty, PlanCreate]) -> PlanResponse:
    """Add a plan, or a version of a plan that replaces the one before from `effective_from` on.
    What was granted before stays."""
    return await context.create(
        lambda connection: to_plan_response(
            context.services.plans.define(connection, read_plan(context.body), by=context.actor)
        )
    )


@OPERATIONS.put(
    "/api/platform/organizations/{organization_id}/subscription",
    access=platform("platform:write"),
    summary="Set the plan of an organization",
    errors=(409,),
    example={"plan": "pro", "overage": True},
    is_versioned=False,
)
async def set_subscription(context: RequestContext[Empty, SubscriptionSet]) -> SubscriptionResponse:
    """Set the plan of an organization from now or from a later time on; null makes it prepaid."""
    body = context.body
    begins = body.effective_from
    return await context.write(
        lambda connection: to_subscription_response(
            context.services.plans.assign(
                connection,
                context.path["organization_id"],
                body.plan,
                overage=body.overage,
                effective_from=0.0 if begins is None else begins.timestamp(),
                by=context.actor,
            )
        )
    )

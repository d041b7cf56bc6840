"""Plans, which grant monthly credits, and the subscriptions of organizations to them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from headgate.kit.errors import HeadgateError, Kind

NANO_PER_CREDIT = 1_000_000
"""One credit is $0.001."""
CREDITS_MAX = 1_000_000_000
LIMIT_MAX = 1_000_000_000
PRICE_NANO_MAX = 10**15
PLAN_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
TEXT_CHARACTERS_MAX = 1000


class PlanLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold what an organization may have under a plan. None does not limit."""

    seats: int | None = None
    projects: int | None = None
    keys: int | None = None
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None


class PlanVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Represent what a plan is from `effective_from` (unix seconds) on, until its next version.

    `number` counts the versions that the operator defined, and is 0 for shipped ones. `overage`
    tells whether an organization may let its wallet pay what exceeds the credits. `price_nano` is
    the price for a month, for people to read; None where it is agreed.
    """

    id: str
    name: str
    effective_from: float
    credits_per_month: int
    overage: bool
    description: str = ""
    price_nano: int | None = None
    limits: PlanLimits = PlanLimits()
    number: int = 0
    created_by: str = ""
    created_at: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """Hold what an organization's plan grants each calendar month (UTC). With `overage`, the wallet
    pays what exceeds the credits: the plan allows it, and the organization opted in."""

    id: str
    name: str
    credits_nano: int
    overage: bool


class Subscription(msgspec.Struct, frozen=True):
    """Represent the plan of an organization from `effective_from` (unix seconds) on, until its next
    subscription.

    `plan_id` is None where there is no plan from then on: the wallet pays everything. `overage`
    says that the organization lets its wallet pay what exceeds the credits. `version` counts the
    subscriptions of all organizations.
    """

    version: int
    organization_id: str
    plan_id: str | None
    overage: bool
    effective_from: float
    created_at: float
    created_by: str


class PlanNotFoundError(HeadgateError):
    """There is no plan of this id.

    List the plans with `headgate plans list` or `GET /api/platform/plans`.
    """

    kind = Kind.MISSING
    code = "not_found"


class InvalidPlanError(HeadgateError):
    """A field of the plan or of the subscription is invalid.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_plan"


class OverageNotAllowedError(HeadgateError):
    """The organization has no plan that allows overage, so its wallet cannot pay what exceeds it.

    Choose a plan that allows overage. Without any plan, the wallet pays everything.
    """

    kind = Kind.CONFLICT
    code = "overage_not_allowed"


class PlanQuotaError(HeadgateError):
    """The organization has as many members, projects or keys as its plan allows.

    Remove one that is not needed, or change the plan.
    """

    kind = Kind.FORBIDDEN
    code = "quota_exceeded"

    def __init__(self, plan: str, name: str, *, limit: int, used: int) -> None:
        super().__init__(
            f"The plan {plan} allows {limit} {name}, and the organization has {used}. Remove one "
            "that is not needed, or change the plan."
        )


class UnusablePlanFileError(HeadgateError):
    """The file of the shipped plans cannot be read.

    Install Headgate again.
    """

    code = "plans_unusable"


def find_current(versions: Iterable[PlanVersion], at: float) -> PlanVersion | None:
    """Return the version in force at a time: the newest one, and of the same time the one that was
    defined last."""
    begun = [version for version in versions if version.effective_from <= at]
    return max(begun, key=lambda each: (each.effective_from, each.number), default=None)


def check_plan(version: PlanVersion) -> None:
    """Raise `InvalidPlanError` for a field that is out of range."""
    if not PLAN_ID.fullmatch(version.id):
        message = "An id has 1 to 64 lower-case letters, digits, _ and -, and begins with a letter."
        raise InvalidPlanError(message, param="id")
    for name in ("name", "description"):
        text: str = getattr(version, name)
        if len(text) > TEXT_CHARACTERS_MAX or "\0" in text or (name == "name" and not text.strip()):
            message = f"A {name} is a text of at most {TEXT_CHARACTERS_MAX} characters."
            raise InvalidPlanError(message, param=name)
    if not 0 <= version.credits_per_month <= CREDITS_MAX:
        message = f"The credits are 0 to {CREDITS_MAX} (1,000 credits are one US dollar)."
        raise InvalidPlanError(message, param="credits_per_month")
    if version.price_nano is not None and not 0 <= version.price_nano <= PRICE_NANO_MAX:
        message = "The price is 0 to 1000000 US dollars a month."
        raise InvalidPlanError(message, param="price_per_month")
    for name, limit in msgspec.structs.asdict(version.limits).items():
        if limit is not None and not 0 <= limit <= LIMIT_MAX:
            raise InvalidPlanError(f"A limit is 0 to {LIMIT_MAX}.", param=f"limits.{name}")

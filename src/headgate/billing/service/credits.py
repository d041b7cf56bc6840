"""Grant the monthly credits of plans, and let unused ones expire. Amounts are nano-dollars."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from headgate.billing.model.ledger import CREDITS_GRANTED, name_account, name_credits
from headgate.billing.model.plans import Plan
from headgate.billing.service.transactions import post
from headgate.billing.store import ledger as store
from headgate.kit.db.locks import lock_names

FindPlan = Callable[[sa.Connection, str, float], Plan | None]
"""Return the plan that an organization has at a time (unix seconds); None for a prepaid one."""


def grant(
    connection: sa.Connection, organization_id: str, plan: Plan, *, month: str, at: float
) -> bool:
    """Grant the credits of a month, and let those of earlier months expire. Return whether anything
    was granted.

    A plan that grants more than the one before it adds the difference; one that grants less takes
    nothing back.
    """
    lock_names(connection, [organization_id])
    granted = sum_granted(connection, organization_id, month=month)
    missing = plan.credits_nano - granted
    if granted and missing <= 0:
        return False
    expire(connection, organization_id, month=month, at=at)
    return post(
        connection,
        organization_id,
        f"credits:{organization_id}:{month}:{granted + missing}",
        [(CREDITS_GRANTED, -missing), (name_credits(month), missing)],
        at=at,
    )


def raise_grant(
    connection: sa.Connection, organization_id: str, plan: Plan | None, *, month: str, at: float
) -> bool:
    """Add what a plan grants more to the credits of a month that are granted already. Return
    whether it did. Credits that are not granted yet come with the first managed call."""
    known = dict(store.list_credits(connection, organization_id))
    if plan is None or name_credits(month) not in known:
        return False
    return grant(connection, organization_id, plan, month=month, at=at)


def sum_granted(connection: sa.Connection, organization_id: str, *, month: str) -> int:
    """Return the credits that were granted for a month."""
    account = name_account(organization_id, name_credits(month))
    return store.sum_grants(connection, account, prefix=f"credits:{organization_id}:{month}")


def expire_all(connection: sa.Connection, *, month: str, at: float) -> int:
    """Let the credits of all months before `month` expire, in every organization. Return their
    sum."""
    owners = store.list_credit_owners(connection, before=name_credits(month))
    return sum([expire(connection, owner, month=month, at=at) for owner in owners])


def expire(connection: sa.Connection, organization_id: str, *, month: str, at: float) -> int:
    """Let the credits of all months before `month` expire. Return their sum."""
    lock_names(connection, [organization_id])
    expired = 0
    for account, balance in store.list_credits(connection, organization_id):
        if account < name_credits(month) and balance > 0:
            post(
                connection,
                organization_id,
                f"expire:{organization_id}:{account}:{int(at * 1_000_000)}",
                [(account, -balance), (CREDITS_GRANTED, balance)],
                at=at,
            )
            expired += balance
    return expired

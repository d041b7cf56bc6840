"""Set, show and remove the monthly budgets of organizations, projects and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.accounts.service import AccountService
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.billing.model.budget_limits import (
    KEY,
    PROJECT,
    BudgetLimit,
    BudgetNotFoundError,
    BudgetState,
    check_limit,
)
from headgate.billing.model.budgets import (
    STALE,
    BudgetMonth,
    end_of_month,
    name_counter,
    name_month,
    open_counter,
)
from headgate.billing.store import budget_limits as store
from headgate.billing.store import budgets as counters
from headgate.keys.model import Key
from headgate.keys.model.budget import THRESHOLDS
from headgate.keys.service import Authority, KeyService
from headgate.kit.clock import Clock

NOT_FOUND = "There is no such budget."


class BudgetService:
    """Set and show budgets. The caller commits. The budget of a key is a part of the key, and to
    change it takes the authority over the key."""

    def __init__(
        self, clock: Clock, accounts: AccountService, keys: KeyService, audit: AuditLog
    ) -> None:
        self._clock = clock
        self._accounts = accounts
        self._keys = keys
        self._audit = audit

    def set(
        self,
        connection: sa.Connection,
        request: BudgetLimit,
        *,
        by: Actor,
        authority: Authority | None = None,
    ) -> BudgetLimit:
        """Set the budget of an object; it replaces the one before. Raise `InvalidBudgetError`,
        `AccountNotFoundError`, `KeyNotFoundError`, and for keys as `KeyService.update`."""
        check_limit(request)
        if request.scope == KEY:
            key = self._keys.get(connection, request.organization_id, request.scope_id)
            changes = {
                "monthly_budget_nano": request.limit_nano,
                "budget_managed_only": request.managed_only,
                "budget_thresholds": request.thresholds,
            }
            key = self._keys.update(connection, key, changes, by=by, authority=authority)
            return to_limit(key)
        name = self._find_name(connection, request)
        store.lock(connection)
        before = self._find(connection, request)
        now = self._clock.now()
        limit = replace(
            request,
            version=1 if before is None else before.version + 1,
            created_at=now if before is None else before.created_at,
            updated_at=now,
            name=name,
        )
        store.upsert(connection, limit)
        self._record(connection, by, "budget.set", limit)
        return limit

    def get(
        self, connection: sa.Connection, organization_id: str, *, scope: str, scope_id: str
    ) -> BudgetLimit:
        """Return the budget of an object. Raise `BudgetNotFoundError` and, for keys,
        `KeyNotFoundError`."""
        if scope == KEY:
            key = self._keys.get(connection, organization_id, scope_id)
            if key.monthly_budget_nano is None:
                raise BudgetNotFoundError(NOT_FOUND)
            return to_limit(key)
        found = store.select(connection, organization_id, scope=scope, scope_id=scope_id)
        if found is None:
            raise BudgetNotFoundError(NOT_FOUND)
        return replace(found, name=self._find_name(connection, found))

    def remove(
        self,
        connection: sa.Connection,
        limit: BudgetLimit,
        *,
        by: Actor,
        authority: Authority | None = None,
    ) -> None:
        """Remove a budget: its object may spend without a limit. Raise for keys as
        `KeyService.update`."""
        if limit.scope == KEY:
            key = self._keys.get(connection, limit.organization_id, limit.scope_id)
            changes: dict[str, Any] = {
                "monthly_budget_nano": None,
                "budget_managed_only": False,
                "budget_thresholds": THRESHOLDS,
            }
            self._keys.update(connection, key, changes, by=by, authority=authority)
            return
        store.lock(connection)
        store.delete(connection, limit)
        self._record(connection, by, "budget.removed", limit)

    def list(
        self, connection: sa.Connection, organization_id: str, *, among: Sequence[str] = ()
    ) -> list[BudgetLimit]:
        """Return the budgets of an organization, of its projects and of its keys; with `among` only
        those of these projects and their keys."""
        own = [
            replace(limit, name=self._find_name(connection, limit))
            for limit in store.select_all(connection, organization_id)
            if not among or limit.scope_id in among
        ]
        keys = self._keys.list_with_budget(connection, organization_id, among=among)
        return [*own, *map(to_limit, keys)]

    def read_states(
        self, connection: sa.Connection, limits: Sequence[BudgetLimit]
    ) -> Sequence[BudgetState]:
        """Return budgets of one organization with their use in this month."""
        if not limits:
            return []
        month = name_month(self._clock.now())
        organization_id = limits[0].organization_id
        known = {
            each.id: each for each in counters.select_counters(connection, organization_id, month)
        }
        return [self._read_state(connection, limit, month, known) for limit in limits]

    def _read_state(
        self,
        connection: sa.Connection,
        limit: BudgetLimit,
        month: str,
        known: dict[str, BudgetMonth],
    ) -> BudgetState:
        """Compute a counter that is not there yet, or that missed receipts, as the next hold will
        compute it."""
        counter = known.get(name_counter(limit.scope, limit.scope_id, month))
        if counter is None:
            counter = open_counter(limit.budget, limit.organization_id, month)
            counters.begin_counter(connection, counter)
        elif counter.state == STALE:
            counters.sum_again(connection, counter)
        return BudgetState(
            limit=limit,
            month=month,
            used_nano=counter.find_used(limit.budget),
            held_nano=counter.find_held(limit.budget),
            resets_at=end_of_month(month),
        )

    def _find(self, connection: sa.Connection, limit: BudgetLimit) -> BudgetLimit | None:
        return store.select(
            connection, limit.organization_id, scope=limit.scope, scope_id=limit.scope_id
        )

    def _find_name(self, connection: sa.Connection, limit: BudgetLimit) -> str:
        """Return the name of the object. Raise `AccountNotFoundError`."""
        if limit.scope == PROJECT:
            return self._accounts.get_project(
                connection, limit.organization_id, limit.scope_id
            ).name
        return self._accounts.get_organization(connection, limit.organization_id).name

    def _record(
        self, connection: sa.Connection, by: Actor, action: str, limit: BudgetLimit
    ) -> None:
        changes = {
            "scope": limit.scope,
            "limit_nano": limit.limit_nano,
            "managed_only": limit.managed_only,
            "thresholds": limit.thresholds,
        }
        event = AuditEvent(
            action, limit.organization_id, limit.scope_id, msgspec.to_builtins(changes)
        )
        self._audit.record(connection, by, event)


def to_limit(key: Key) -> BudgetLimit:
    """Return the budget of a key that has one."""
    assert key.monthly_budget_nano is not None, "the key has a budget"
    return BudgetLimit(
        scope=KEY,
        scope_id=key.id,
        organization_id=key.organization_id,
        limit_nano=key.monthly_budget_nano,
        managed_only=key.budget_managed_only,
        thresholds=key.budget_thresholds,
        version=key.version,
        created_at=key.created_at,
        updated_at=key.created_at,
        name=key.name,
    )

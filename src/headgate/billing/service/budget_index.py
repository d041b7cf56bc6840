"""The budgets of all organizations in memory."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from headgate.billing.model.budgets import SCOPE_FIELDS
from headgate.billing.store import budgets as store
from headgate.keys import service as keys
from headgate.relay.ports import Budget, Grant, Receipt

TOPICS = frozenset({store.TOPIC, keys.TOPIC})
_NEVER = -1


class BudgetIndex:
    """Find the budgets that count a call (`relay.ports.Budgets`).

    Budgets of projects and organizations are rows of their own, the budget of a key is part of the
    key. Only the keys that changed since the last load are read again.
    """

    def __init__(self) -> None:
        self.organizations: frozenset[str] = frozenset()
        self._budgets: dict[tuple[str, str], Budget] = {}
        self._keys: dict[str, tuple[str, Budget]] = {}
        self._keys_revision = _NEVER
        self._is_loaded = False
        self._appeared: set[tuple[str, str]] = set()
        self._removed: set[tuple[str, str]] = set()

    def load(self, connection: sa.Connection) -> None:
        """Load the budgets that changed. Calls meanwhile see the budgets before or after it."""
        known = dict(self._keys)
        for revision, key_id, organization_id, budget in keys.list_changed_budgets(
            connection, after_revision=self._keys_revision
        ):
            self._keys_revision = max(self._keys_revision, revision)
            known.pop(key_id, None)
            if budget is not None:
                known[key_id] = organization_id, budget
        found = [*store.select_budgets(connection), *known.values()]
        budgets = {(budget.scope, budget.scope_id): budget for _, budget in found}
        if self._is_loaded:
            self._appeared |= budgets.keys() - self._budgets.keys()
            self._removed |= self._budgets.keys() - budgets.keys()
        self._is_loaded = True
        self._keys = known
        self._budgets = budgets
        # Last, so that whoever is led here by it finds the budgets.
        self.organizations = frozenset(organization_id for organization_id, _ in found)

    def find(self, grant: Grant, *, managed: bool) -> tuple[Budget, ...]:
        """Return the budgets of the key, its project and its organization that count the call."""
        return tuple(
            budget
            for scope, field in SCOPE_FIELDS
            if (budget := self._budgets.get((scope, getattr(grant, field)))) is not None
            and (managed or not budget.managed_only)
        )

    def find_counting(self, receipt: Receipt) -> Sequence[Budget]:
        """Return the budgets of the call's key, project and organization, whatever they count."""
        if receipt.organization_id not in self.organizations:
            return ()
        return [
            budget
            for scope, field in SCOPE_FIELDS
            if (budget := self._budgets.get((scope, getattr(receipt, field)))) is not None
        ]

    def get(self, scope: str, scope_id: str) -> Budget | None:
        return self._budgets.get((scope, scope_id))

    def take_changes(self) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Return the scopes that got a budget and those that lost theirs, since the last call of
        this."""
        appeared, self._appeared = self._appeared, set()
        removed, self._removed = self._removed, set()
        return appeared, removed

"""Budgets as owners set them, on both kinds of database: rows, counters, the index, the log."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from headgate.accounts.model import AccountNotFoundError
from headgate.accounts.service import AccountService
from headgate.audit.model import COMMAND_LINE, AuditFilter
from headgate.audit.service import AuditLog
from headgate.billing.model.budget_limits import (
    KEY,
    ORGANIZATION,
    PROJECT,
    BudgetLimit,
    BudgetNotFoundError,
    InvalidBudgetError,
)
from headgate.billing.model.budgets import name_month, open_counter
from headgate.billing.service.budget_index import BudgetIndex
from headgate.billing.service.budgets import BudgetService
from headgate.billing.store import budgets as counters
from headgate.keys.model import KeyRequest, ScopeExceededError
from headgate.keys.service import Authority, KeyService
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import Budget, Grant
from tests.fakes.ledger import SetClock

NOW = 1_790_000_000.0
DOLLAR = 1_000_000_000


class Stage:
    """An organization with a project and a key."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, SetClock(NOW)
        self.audit = AuditLog(self.clock)
        accounts = AccountService(self.clock, IdGenerator(), self.audit)
        self.keys = KeyService(self.clock, accounts, self.audit)
        self.budgets = BudgetService(self.clock, accounts, self.keys, self.audit)
        self.index = BudgetIndex()
        with database.transaction() as connection:
            owner = accounts.create_organization(connection, "Owner", by=COMMAND_LINE)
            project = accounts.create_project(
                connection, "Search", organization_id=owner.id, by=COMMAND_LINE
            )
            request = KeyRequest(name="key", organization_id=owner.id, project_id=project.id)
            self.key = self.keys.create(connection, request, by=COMMAND_LINE).key
        self.ids = {ORGANIZATION: owner.id, PROJECT: project.id, KEY: self.key.id}

    def make(self, scope: str, dollars: int = 10, **fields: Any) -> BudgetLimit:
        return BudgetLimit(
            scope=scope,
            scope_id=self.ids[scope],
            organization_id=self.ids[ORGANIZATION],
            limit_nano=dollars * DOLLAR,
            **fields,
        )

    def set(self, limit: BudgetLimit) -> BudgetLimit:
        with self.database.transaction() as connection:
            return self.budgets.set(connection, limit, by=COMMAND_LINE)

    def find(self) -> tuple[Budget, ...]:
        with self.database.reading() as connection:
            self.index.load(connection)
        grant = Grant(self.key.id, self.ids[ORGANIZATION], self.ids[PROJECT])
        return self.index.find(grant, managed=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Stage]:
    if request.param == "sqlite":
        database = Database(tmp_path / "headgate.db")
        migration.prepare(database, METADATA)
    else:
        database = Database(request.getfixturevalue("prepared_url"))
    yield Stage(database)
    database.close()


def test_budgets_of_all_three_scopes_reach_the_index(stage: Stage) -> None:
    assert stage.find() == ()
    for position, scope in enumerate((ORGANIZATION, PROJECT, KEY)):
        stage.set(stage.make(scope, 30 - position, thresholds=(90, 10 + position)))
    found = {budget.scope: budget for budget in stage.find()}
    assert {scope: budget.limit_nano // DOLLAR for scope, budget in found.items()} == {
        KEY: 28,
        PROJECT: 29,
        ORGANIZATION: 30,
    }
    assert found[KEY].thresholds == (90, 12)
    stage.set(stage.make(KEY, managed_only=True))
    assert [budget.scope for budget in stage.find()] == [PROJECT, ORGANIZATION]


def test_budget_is_replaced_with_a_new_version_and_removed(stage: Stage) -> None:
    first = stage.set(stage.make(PROJECT))
    stage.clock.time += 5
    second = stage.set(stage.make(PROJECT, 20))
    assert (first.version, second.version) == (1, 2)
    assert (second.created_at, second.updated_at) == (NOW, NOW + 5)
    assert second.name == "Search"
    with stage.database.transaction() as connection:
        ids = {"scope": PROJECT, "scope_id": stage.ids[PROJECT]}
        assert stage.budgets.get(connection, stage.ids[ORGANIZATION], **ids) == second
        with pytest.raises(BudgetNotFoundError):
            stage.budgets.get(connection, "org_other", **ids)
        stage.budgets.remove(connection, second, by=COMMAND_LINE)
        with pytest.raises(BudgetNotFoundError):
            stage.budgets.get(connection, stage.ids[ORGANIZATION], **ids)
    assert stage.find() == ()
    with stage.database.reading() as connection:
        entries = stage.audit.list(connection, AuditFilter(object_id=stage.ids[PROJECT]), limit=9)
    actions = [entry.event.action for entry in entries[0]]
    assert actions[:3] == ["budget.removed", "budget.set", "budget.set"]


def test_budget_of_a_key_is_the_key_itself(stage: Stage) -> None:
    limit = stage.set(stage.make(KEY, 7, managed_only=True, thresholds=(25,)))
    with stage.database.transaction() as connection:
        key = stage.keys.get(connection, None, stage.key.id)
        assert (key.monthly_budget_nano, key.budget_managed_only) == (7 * DOLLAR, True)
        assert (key.budget_thresholds, key.version) == ((25,), limit.version)
        ids = {"scope": KEY, "scope_id": key.id}
        assert stage.budgets.get(connection, key.organization_id, **ids) == limit
        stage.budgets.remove(connection, limit, by=COMMAND_LINE)
        with pytest.raises(BudgetNotFoundError):
            stage.budgets.get(connection, key.organization_id, **ids)
        assert stage.keys.get(connection, None, key.id).budget_managed_only is False


def test_key_cannot_set_a_budget_that_allows_more_than_its_own(stage: Stage) -> None:
    held = replace(stage.key.effective_scope, monthly_budget_nano=5 * DOLLAR)
    authority = Authority(held)
    stage.set(stage.make(KEY, 5))
    for wider in (stage.make(KEY, 6), stage.make(KEY, 5, managed_only=True)):
        with pytest.raises(ScopeExceededError), stage.database.transaction() as connection:
            stage.budgets.set(connection, wider, by=COMMAND_LINE, authority=authority)
    with stage.database.transaction() as connection:
        narrower = stage.make(KEY, 4)
        stage.budgets.set(connection, narrower, by=COMMAND_LINE, authority=authority)


def test_state_of_a_month_is_its_counter(stage: Stage) -> None:
    limit = stage.set(stage.make(PROJECT))
    other = stage.set(stage.make(ORGANIZATION, 0))
    counter = open_counter(limit.budget, limit.organization_id, name_month(NOW))
    counter.used_nano, counter.held_nano = 3 * DOLLAR, 8 * DOLLAR
    counter.managed_used_nano, counter.managed_held_nano = DOLLAR, 2 * DOLLAR
    with stage.database.transaction() as connection:
        counters.insert_counters(connection, [counter])
        managed = replace(limit, managed_only=True)
        states = stage.budgets.read_states(connection, [limit, managed, other])
        listed = stage.budgets.list(connection, limit.organization_id)
    assert [(each.used_nano, each.held_nano, each.remaining_nano) for each in states] == [
        (3 * DOLLAR, 8 * DOLLAR, 0),
        (DOLLAR, 2 * DOLLAR, 7 * DOLLAR),
        (0, 0, 0),
    ]
    assert [each.used_percent for each in states] == [30.0, 10.0, None]
    assert (states[0].month, states[0].resets_at) == ("2026-09", 1_790_812_800)
    assert [each.name for each in listed] == ["Owner", "Search"]
    stage.clock.time = states[0].resets_at
    with stage.database.reading() as connection:
        [reset] = stage.budgets.read_states(connection, [limit])
        assert (reset.month, reset.used_nano) == ("2026-10", 0)
        assert stage.budgets.read_states(connection, []) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"limit_nano": -1}, "limit"),
        ({"limit_nano": 10**18}, "limit"),
        ({"thresholds": (0,)}, "thresholds"),
        ({"thresholds": (101,)}, "thresholds"),
        ({"thresholds": (50, 50)}, "thresholds"),
        ({"thresholds": tuple(range(1, 12))}, "thresholds"),
    ],
)
def test_invalid_budget_is_refused(tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    database = Database(tmp_path / "headgate.db")
    migration.prepare(database, METADATA)
    stage = Stage(database)
    for scope in (PROJECT, KEY):
        with pytest.raises(InvalidBudgetError) as raised:
            stage.set(replace(stage.make(scope), **fields))
        assert raised.value.param == param
    with pytest.raises(AccountNotFoundError):
        stage.set(replace(stage.make(PROJECT), scope_id="prj_unknown"))
    database.close()

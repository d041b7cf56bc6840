"""Plans and subscriptions: what is in force and allowed when, on both kinds of database."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy import exc

from headgate.accounts.model import AccountNotFoundError
from headgate.accounts.service import AccountService
from headgate.audit.model import COMMAND_LINE
from headgate.audit.service import AuditLog
from headgate.billing.model.budgets import name_month
from headgate.billing.model.plans import (
    InvalidPlanError,
    OverageNotAllowedError,
    Plan,
    PlanLimits,
    PlanNotFoundError,
    PlanQuotaError,
    PlanVersion,
    UnusablePlanFileError,
)
from headgate.billing.service import credits
from headgate.billing.service.plan_limits import PlanLimitIndex
from headgate.billing.service.plans import PlanService, find_plan, find_version
from headgate.billing.store.plans import list_shipped
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import ManagedCallLimits
from tests.fakes.ledger import SetClock

NOW = 1_790_000_000.0
DAY = 86_400.0
DOLLAR = 1_000_000_000


class Stage:
    """A database with one organization, whose plans a test changes as time goes by."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SetClock(NOW)
        audit = AuditLog(self.clock)
        accounts = AccountService(self.clock, IdGenerator(), audit)
        self.plans = PlanService(self.clock, accounts, audit)
        self.index = PlanLimitIndex(self.clock)
        with database.transaction() as connection:
            self.organization_id = accounts.create_organization(
                connection, "Buyer", by=COMMAND_LINE
            ).id

    def assign(
        self, plan_id: str | None, *, overage: bool = False, effective_from: float = 0.0
    ) -> None:
        with self.database.transaction() as connection:
            self.plans.assign(
                connection,
                self.organization_id,
                plan_id,
                overage=overage,
                effective_from=effective_from,
                by=COMMAND_LINE,
            )

    def define(self, version: PlanVersion) -> PlanVersion:
        with self.database.transaction() as connection:
            return self.plans.define(connection, version, by=COMMAND_LINE)

    def load(self) -> None:
        with self.database.reading() as connection:
            self.index.load(connection)

    def check(self, name: str, used: int) -> None:
        with self.database.transaction() as connection:
            self.plans.check_quota(connection, self.organization_id, name, lambda: used)

    def find(self, at: float) -> Plan | None:
        with self.database.reading() as connection:
            return find_plan(connection, self.organization_id, at)


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Stage]:
    if request.param == "sqlite":
        database = Database(tmp_path / "headgate.db")
        migration.prepare(database, METADATA)
    else:
        database = Database(request.getfixturevalue("prepared_url"))
    yield Stage(database)
    database.close()


def test_four_plans_are_shipped_and_a_credit_is_a_tenth_of_a_cent() -> None:
    shipped = {plan.id: plan for plan in list_shipped()}
    assert list(shipped) == ["free", "pro", "max", "enterprise"]
    assert [plan.overage for plan in shipped.values()] == [False, True, True, True]
    assert shipped["enterprise"].price_nano is None


def test_organization_without_a_plan_is_prepaid(stage: Stage) -> None:
    assert stage.find(NOW) is None
    stage.assign("free")
    assert stage.find(NOW) == Plan("free", "Free", DOLLAR, overage=False)
    assert stage.find(NOW - 1) is None
    stage.clock.time += DAY
    stage.assign(None)
    assert stage.find(NOW + DAY) is None
    assert stage.find(NOW) == Plan("free", "Free", DOLLAR, overage=False)


def test_upgrade_adds_its_credits_at_once_to_those_of_this_month(stage: Stage) -> None:
    stage.assign("free")
    month = name_month(NOW)
    with stage.database.transaction() as connection:
        plan = find_plan(connection, stage.organization_id, NOW)
        assert plan is not None
        credits.grant(connection, stage.organization_id, plan, month=month, at=NOW)
    stage.clock.time += 60
    stage.assign("pro")
    with stage.database.reading() as connection:
        state = stage.plans.read_billing(connection, stage.organization_id)
    assert (state.credits_nano, state.remaining_nano) == (20 * DOLLAR, 20 * DOLLAR)
    stage.clock.time += 60
    stage.assign("free")
    with stage.database.reading() as connection:
        state = stage.plans.read_billing(connection, stage.organization_id)
    assert (state.credits_nano, state.remaining_nano) == (20 * DOLLAR, 20 * DOLLAR)


def test_overage_needs_the_plan_and_the_organization(stage: Stage) -> None:
    with pytest.raises(OverageNotAllowedError):
        stage.assign("free", overage=True)
    with pytest.raises(OverageNotAllowedError), stage.database.transaction() as connection:
        stage.plans.set_overage(connection, stage.organization_id, enabled=True, by=COMMAND_LINE)
    stage.assign("pro")
    plan = stage.find(NOW)
    assert plan is not None
    assert plan.overage is False
    stage.clock.time += 1
    with stage.database.transaction() as connection:
        set_once = stage.plans.set_overage(
            connection, stage.organization_id, enabled=True, by=COMMAND_LINE
        )
        again = stage.plans.set_overage(
            connection, stage.organization_id, enabled=True, by=COMMAND_LINE
        )
    assert again == set_once
    assert stage.find(NOW + 1) == replace(plan, overage=True)
    assert stage.find(NOW) == plan


def test_scheduled_plan_begins_at_its_time(stage: Stage) -> None:
    stage.assign("pro", overage=True)
    stage.assign("max", effective_from=NOW + DAY)
    before, after = stage.find(NOW + DAY - 1), stage.find(NOW + DAY)
    assert (before and before.id, after and after.id) == ("pro", "max")
    with pytest.raises(InvalidPlanError, match="past"):
        stage.assign("free", effective_from=NOW - 1)
    with stage.database.reading() as connection:
        history = stage.plans.list_subscriptions(connection, stage.organization_id)
        current = stage.plans.find_subscription(connection, stage.organization_id)
    assert [each.plan_id for each in history] == ["max", "pro"]
    assert current == history[1]


def test_operator_changes_a_plan_by_a_new_version(stage: Stage) -> None:
    stage.assign("pro", overage=True)
    pro = next(each for each in list_shipped() if each.id == "pro")
    changed = replace(
        pro, effective_from=NOW + DAY, credits_per_month=5, limits=PlanLimits(seats=3)
    )
    stage.define(changed)
    last = stage.define(replace(changed, credits_per_month=7, overage=False))
    assert last.number == 2
    assert stage.find(NOW) == Plan("pro", "Pro", 20 * DOLLAR, overage=True)
    assert stage.find(NOW + DAY) == Plan("pro", "Pro", 7_000_000, overage=False)
    with stage.database.reading() as connection:
        assert stage.plans.get(connection, "pro") == pro
        stage.clock.time += DAY
        assert stage.plans.get(connection, "pro") == last
        ids = [each.id for each in stage.plans.list(connection)]
        history = [each.number for each in stage.plans.list_history(connection) if each.id == "pro"]
    assert ids == ["free", "pro", "max", "enterprise"]
    assert history == [2, 1, 0]


def test_operator_defines_a_plan_of_its_own(stage: Stage) -> None:
    with pytest.raises(PlanNotFoundError):
        stage.assign("team")
    version = PlanVersion(
        id="team", name="Team", effective_from=0.0, credits_per_month=50, overage=False
    )
    defined = stage.define(version)
    assert (defined.effective_from, defined.created_by) == (NOW, "command")
    stage.assign("team")
    assert stage.find(NOW) == Plan("team", "Team", 50_000_000, overage=False)
    with stage.database.reading() as connection, pytest.raises(PlanNotFoundError):
        find_version(connection, "team", NOW - 1)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"id": "Pro"}, "id"),
        ({"name": " "}, "name"),
        ({"description": "x" * 1001}, "description"),
        ({"credits_per_month": -1}, "credits_per_month"),
        ({"price_nano": -1}, "price_per_month"),
        ({"limits": PlanLimits(seats=-1)}, "limits.seats"),
        ({"effective_from": NOW - 1}, "effective_from"),
    ],
)
def test_invalid_plan_is_refused_and_the_field_is_named(
    tmp_path: Path, changes: dict[str, object], param: str
) -> None:
    database = Database(tmp_path / "headgate.db")
    migration.prepare(database, METADATA)
    stage = Stage(database)
    version = PlanVersion(
        id="team", name="Team", effective_from=0.0, credits_per_month=1, overage=False
    )
    with pytest.raises(InvalidPlanError) as raised:
        stage.define(replace(version, **changes))
    assert raised.value.param == param
    with pytest.raises(AccountNotFoundError), database.transaction() as connection:
        stage.plans.assign(connection, "org_unknown", "pro", by=COMMAND_LINE)
    database.close()


@pytest.mark.parametrize("table", ["plans", "subscriptions"])
def test_database_refuses_to_edit_history(stage: Stage, table: str) -> None:
    stage.assign("pro")
    stage.define(
        PlanVersion(id="team", name="T", effective_from=0.0, credits_per_month=1, overage=False)
    )
    with pytest.raises(exc.IntegrityError), stage.database.transaction() as connection:
        connection.execute(sa.text(f"DELETE FROM {table}"))


def test_broken_file_of_plans_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "plans.toml"
    broken.write_text("[[plans]]\nid = 1")
    with pytest.raises(UnusablePlanFileError, match=r"plans\.toml"):
        list_shipped(broken)


def test_organization_without_a_plan_has_no_limits(stage: Stage) -> None:
    stage.load()
    assert stage.organization_id not in stage.index.organizations
    assert stage.index.find(stage.organization_id) == ManagedCallLimits()
    stage.check("keys", 10_000)


def test_limits_follow_the_plan_in_force_without_being_loaded_again(stage: Stage) -> None:
    stage.assign("free")
    stage.assign("max", effective_from=NOW + DAY)
    stage.assign(None, effective_from=NOW + 2 * DAY)
    stage.load()
    assert stage.organization_id in stage.index.organizations
    found: list[ManagedCallLimits] = []
    for _ in range(3):
        found.append(stage.index.find(stage.organization_id))
        stage.clock.time += DAY
    assert found == [ManagedCallLimits(60, 5), ManagedCallLimits(3000, 200), ManagedCallLimits()]


def test_own_version_of_a_plan_decides(stage: Stage) -> None:
    limits = PlanLimits(keys=1, requests_per_minute=7)
    version = PlanVersion(
        id="pro", name="Pro", effective_from=0.0, credits_per_month=5, overage=False, limits=limits
    )
    with stage.database.transaction() as connection:
        stage.plans.define(connection, version, by=COMMAND_LINE)
    stage.assign("pro")
    stage.load()
    assert stage.index.find(stage.organization_id) == ManagedCallLimits(7, 0)
    stage.check("keys", 0)
    stage.check("seats", 10_000)
    with pytest.raises(PlanQuotaError, match="The plan Pro allows 1 keys") as refused:
        stage.check("keys", 1)
    assert refused.value.kind.value == 403

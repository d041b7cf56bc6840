"""What plans allow, as times go by."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from headgate.accounts.service import AccountService
from headgate.audit.model import COMMAND_LINE
from headgate.audit.service import AuditLog
from headgate.billing.model.plans import PlanLimits, PlanQuotaError, PlanVersion
from headgate.billing.service.plan_limits import PlanLimitIndex, check_quota
from headgate.billing.service.plans import PlanService
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import ManagedCallLimits
from tests.fakes.ledger import SetClock

NOW = 1_790_000_000.0
DAY = 86_400.0


class Office:
    """A database with an organization, whose plan a test changes."""

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

    def assign(self, plan_id: str | None, *, effective_from: float = 0.0) -> None:
        with self.database.transaction() as connection:
            self.plans.assign(
                connection,
                self.organization_id,
                plan_id,
                effective_from=effective_from,
                by=COMMAND_LINE,
            )

    def load(self) -> None:
        with self.database.reading() as connection:
            self.index.load(connection)

    def check(self, name: str, used: int) -> None:
        with self.database.transaction() as connection:
            check_quota(
                connection, self.organization_id, name, count=lambda: used, now=self.clock.now()
            )


@pytest.fixture(params=["sqlite", "postgresql"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Office]:
    if request.param == "sqlite":
        database = Database(tmp_path / "headgate.db")
        migration.prepare(database, METADATA)
    else:
        database = Database(request.getfixturevalue("prepared_url"))
    yield Office(database)
    database.close()


def test_organization_without_a_plan_has_no_limits(office: Office) -> None:
    office.load()
    assert office.organization_id not in office.index.organizations
    assert office.index.find(office.organization_id) == ManagedCallLimits()
    office.check("keys", 10_000)


def test_limits_follow_the_plan_in_force_without_being_loaded_again(office: Office) -> None:
    office.assign("free")
    office.assign("max", effective_from=NOW + DAY)
    office.assign(None, effective_from=NOW + 2 * DAY)
    office.load()
    assert office.organization_id in office.index.organizations
    found: list[ManagedCallLimits] = []
    for _ in range(3):
        found.append(office.index.find(office.organization_id))
        office.clock.time += DAY
    assert found == [ManagedCallLimits(60, 5), ManagedCallLimits(3000, 200), ManagedCallLimits()]


def test_own_version_of_a_plan_decides(office: Office) -> None:
    limits = PlanLimits(keys=1, requests_per_minute=7)
    version = PlanVersion(
        id="pro", name="Pro", effective_from=0.0, credits_per_month=5, overage=False, limits=limits
    )
    with office.database.transaction() as connection:
        office.plans.define(connection, version, by=COMMAND_LINE)
    office.assign("pro")
    office.load()
    assert office.index.find(office.organization_id) == ManagedCallLimits(7, 0)
    office.check("keys", 0)
    office.check("seats", 10_000)
    with pytest.raises(PlanQuotaError, match="The plan Pro allows 1 keys") as refused:
        office.check("keys", 1)
    assert refused.value.kind.value == 403

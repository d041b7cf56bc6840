"""Run state machines against a plain model, also on PostgreSQL."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from headgate.kit.db.engine import Database
from tests.fakes.postgres import Postgres

LIMITS = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def run_on_postgresql(machine: type[RuleBasedStateMachine], postgres: Postgres) -> None:
    """Run a few examples of a machine that opens its `database` by `open_database`."""

    def open_database(self: Any) -> Database:
        return Database(postgres.create_database(prepared=True))

    def teardown(self: Any) -> None:
        machine.teardown(self)
        postgres.drop_database(str(self.database.place))

    on_postgresql = type(
        "OnPostgres", (machine,), {"open_database": open_database, "teardown": teardown}
    )

    few = settings(LIMITS, max_examples=3, derandomize=True)
    run_state_machine_as_test(on_postgresql, settings=few)

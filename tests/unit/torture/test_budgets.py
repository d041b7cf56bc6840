"""Each verdict on the counters of budgets can fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing

import pytest

from rigs.torture.budgets import judge_budgets

AT = 1_795_000_000_000_000
MONTH = "2026-11"


@pytest.fixture
def books() -> Generator[sqlite3.Connection]:
    """The counters of a key of which one managed call and one own-key call were made."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(
            """
            CREATE TABLE receipts (request_id, organization_id, project_id, key_id, managed,
                cost_nano, created_at);
            CREATE TABLE holds (request_id, month);
            CREATE TABLE budgets (scope, scope_id, limit_nano, managed_only);
            CREATE TABLE keys (id, monthly_budget_nano);
            CREATE TABLE budget_months (scope, scope_id, month, used_nano, managed_used_nano,
                held_nano, managed_held_nano, state);
            """
        )
        for request_id, managed, cost in (("req_1", 1, 100), ("req_2", 0, 20)):
            row = (request_id, "org", "proj", "key", managed, cost, AT)
            connection.execute("INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("INSERT INTO holds VALUES (?, ?)", (request_id, MONTH))
        for scope, scope_id in (("key", "key"), ("project", "proj"), ("organization", "org")):
            counter = (scope, scope_id, MONTH, 120, 100, 0, 0, "exact")
            connection.execute("INSERT INTO budget_months VALUES (?, ?, ?, ?, ?, ?, ?, ?)", counter)
        connection.execute("INSERT INTO keys VALUES ('key', 120)")
        connection.execute("INSERT INTO budgets VALUES ('project', 'proj', 100, 1)")
        yield connection


def list_verdicts(books: sqlite3.Connection, *, may_exceed: bool = False) -> list[str]:
    found = judge_budgets(lambda query: books.execute(query).fetchall(), may_exceed=may_exceed)
    return [each.verdict for each in found]


def test_counters_that_are_their_receipts_have_no_findings(books: sqlite3.Connection) -> None:
    assert list_verdicts(books) == []


@pytest.mark.parametrize(
    ("damage", "verdicts"),
    [
        ("UPDATE budget_months SET used_nano = 119 WHERE scope = 'key'", ["B1"]),
        ("UPDATE budget_months SET managed_used_nano = 99 WHERE scope = 'project'", ["B1"]),
        ("UPDATE holds SET month = '2026-12' WHERE request_id = 'req_2'", ["B1"] * 3),
        ("UPDATE budget_months SET held_nano = 5 WHERE scope = 'organization'", ["B3"]),
        ("UPDATE keys SET monthly_budget_nano = 119", ["B2"]),
        ("UPDATE budgets SET limit_nano = 99", ["B2"]),
        ("UPDATE budgets SET managed_only = 0", ["B2"]),
    ],
)
def test_each_error_of_a_counter_is_found(
    books: sqlite3.Connection, damage: str, verdicts: list[str]
) -> None:
    books.execute(damage)
    assert list_verdicts(books) == verdicts


def test_use_above_a_limit_is_accepted_where_a_provider_may_report_more(
    books: sqlite3.Connection,
) -> None:
    books.execute("UPDATE keys SET monthly_budget_nano = 119")
    assert list_verdicts(books, may_exceed=True) == []

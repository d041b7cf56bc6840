"""All SQL of the ledger. The statements of a call run on the driver's own cursor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from headgate.billing.model.ledger import (
    ACCOUNTS,
    CREDITS,
    LedgerEntry,
    find_kind,
    name_account,
)
from headgate.billing.store import background
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import (
    BulkInsert,
    HotStatement,
    ListStatement,
    LockedLookup,
    build_insert,
)
from headgate.kit.db.triggers import forbid_changes
from headgate.relay.ports import Hold

NAMES_MAX = 500
"""Number of names that one statement compares."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Hold).decode

LEDGER_ACCOUNTS = sa.Table(
    "ledger_accounts",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("balance_nano", sa.BigInteger, nullable=False),
    sa.CheckConstraint("balance_nano >= 0 OR kind NOT IN ('wallet', 'held')", name="balance"),
)

ENTRIES = sa.Table(
    "entries",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("transaction_id", sa.Text, nullable=False),
    sa.Column("account_id", sa.Text, nullable=False),
    sa.Column("amount_nano", sa.BigInteger, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    # A unique index, so that the database itself rejects a transaction that is done twice.
    sa.Index("uq_entries_transaction_id", "transaction_id", "account_id", unique=True),
    # For the statement of one account, newest first.
    sa.Index("ix_entries_account_id", "account_id", "id"),
)
forbid_changes(ENTRIES)

_OPEN = sa.text("state = 'held'")
HOLDS = sa.Table(
    "holds",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("amount_nano", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("lease_until", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("context", sa.Text, nullable=False),
    # With defaults, so that an older version can still insert.
    sa.Column("managed", sa.SmallInteger, nullable=False, server_default=sa.text("1")),
    sa.Column("month", sa.Text, nullable=False, server_default=sa.text("''")),
    sa.CheckConstraint("amount_nano >= 0", name="amount"),
    sa.CheckConstraint("state IN ('held', 'settled', 'released')", name="state"),
    sa.Index("ix_holds_lease_until", "lease_until", sqlite_where=_OPEN, postgresql_where=_OPEN),
)

_BALANCE = LEDGER_ACCOUNTS.c.balance_nano
_AMOUNT = sa.bindparam("amount", type_=sa.BigInteger)
_ADD_TO_BALANCE = HotStatement(
    sa.update(LEDGER_ACCOUNTS)
    .values(balance_nano=_BALANCE + _AMOUNT)
    .where(LEDGER_ACCOUNTS.c.id == sa.bindparam("account")),
    "amount",
    "account",
)
_CLOSE_HOLDS = ListStatement(
    sqlite="UPDATE holds SET state = json_extract(closing.value, '$[0]') "
    "FROM json_each(?) AS closing WHERE holds.request_id = json_extract(closing.value, '$[1]') "
    "AND holds.amount_nano = json_extract(closing.value, '$[2]') AND holds.state = 'held'",
    postgresql="UPDATE holds SET state = closing.state "
    "FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS closing (state, request_id, amount_nano) "
    "WHERE holds.request_id = closing.request_id AND holds.amount_nano = closing.amount_nano "
    "AND holds.state = 'held'",
)
_EXTEND_LEASES = ListStatement(
    sqlite="UPDATE holds SET lease_until = json_extract(extension.value, '$[0]') "
    "FROM json_each(?) AS extension WHERE holds.state = 'held' "
    "AND holds.request_id = json_extract(extension.value, '$[1]')",
    postgresql="UPDATE holds SET lease_until = extension.lease_until "
    "FROM unnest(%s::bigint[], %s::text[]) AS extension (lease_until, request_id) "
    "WHERE holds.request_id = extension.request_id AND holds.state = 'held'",
)
_FIND_BALANCES = LockedLookup(LEDGER_ACCOUNTS, "id", "balance_nano")
_FIND_HOLDS = LockedLookup(HOLDS, "request_id", "state", "context")
_INSERT_ACCOUNT = build_insert(LEDGER_ACCOUNTS, ignore_known=True)
_INSERT_ENTRIES = BulkInsert(
    ENTRIES,
    *("transaction_id", "account_id", "amount_nano", "request_id", "created_at"),
    ignore_known=False,
)
_INSERT_HOLDS = BulkInsert(HOLDS, ignore_known=False)


def open_accounts(
    connection: sa.Connection, organization_id: str, accounts: Iterable[str] = ACCOUNTS
) -> None:
    """Insert the accounts of an organization that do not exist yet."""
    _INSERT_ACCOUNT.run_all(
        connection,
        [
            (name_account(organization_id, account), organization_id, find_kind(account), 0)
            for account in accounts
        ],
    )


def append_entries(connection: sa.Connection, entries: Sequence[LedgerEntry], *, at: int) -> None:
    """Insert the entries of whole transactions. Raise `IntegrityError` for a transaction that
    exists."""
    _INSERT_ENTRIES.run(
        connection,
        [
            (entry.transaction_id, entry.account_id, entry.amount_nano, entry.request_id, at)
            for entry in entries
        ],
    )


def add_balances(connection: sa.Connection, entries: Sequence[LedgerEntry]) -> None:
    """Add the amounts to the balances, with one update for each account. The updates are ordered by
    account id, so that two transactions cannot deadlock."""
    sums: defaultdict[str, int] = defaultdict(int)
    for entry in entries:
        sums[entry.account_id] += entry.amount_nano
    changes = [(amount, account_id) for account_id, amount in sorted(sums.items()) if amount]
    assert _ADD_TO_BALANCE.run_all(connection, changes) == len(changes), "an account is missing"


def lock_balances(connection: sa.Connection, account_ids: Iterable[str]) -> dict[str, int]:
    """Return the balances of the accounts that exist, locked until the transaction ends."""
    return dict(_FIND_BALANCES.run(connection, sorted(account_ids)))


def insert_holds(connection: sa.Connection, holds: Sequence[tuple[Hold, int]], *, at: int) -> None:
    """Insert open holds, each with the end of its lease. Times are in unix microseconds."""
    _INSERT_HOLDS.run(
        connection,
        [
            (
                hold.request_id,
                hold.organization_id,
                hold.amount_nano,
                "held",
                lease_until,
                at,
                _encode(hold).decode(),
                1 if hold.managed else 0,
                hold.month,
            )
            for hold, lease_until in holds
        ],
    )


def close_holds(connection: sa.Connection, closings: Sequence[tuple[str, str, int]]) -> int:
    """Close open holds, given as (state, request id, amount). Return how many were open."""
    return _CLOSE_HOLDS.run(connection, closings)


def delete_holds(connection: sa.Connection, holds: Sequence[Hold]) -> int:
    """Delete open holds of these amounts, so that their calls can hold again. Return how many were
    open."""
    deleted = 0
    for hold in holds:
        query = sa.delete(HOLDS).where(
            HOLDS.c.request_id == hold.request_id, HOLDS.c.amount_nano == hold.amount_nano, _OPEN
        )
        deleted += connection.execute(query).rowcount
    return deleted


def find_month(connection: sa.Connection, request_id: str) -> str:
    """Return the month in which the hold of a call counts; empty where there is none."""
    query = sa.select(HOLDS.c.month).where(HOLDS.c.request_id == request_id)
    return connection.execute(query).scalar_one_or_none() or ""


def extend_leases(connection: sa.Connection, ends: Sequence[tuple[int, str]]) -> int:
    """Set the ends of leases (unix microseconds) of open holds, given with their requests. Return
    how many were open."""
    return _EXTEND_LEASES.run(connection, ends)


def lock_open_holds(connection: sa.Connection, request_ids: Sequence[str]) -> list[Hold]:
    """Return the holds of these requests that are open, as they were granted, locked until the
    transaction ends."""
    rows = _FIND_HOLDS.run(connection, sorted(request_ids))
    return [_decode(context) for _, state, context in rows if state == "held"]


def list_open_holds(
    connection: sa.Connection, *, expired_at: int | None, rows_max: int, to_close: bool = False
) -> list[Hold]:
    """Return open holds ordered by the end of their lease: all, or those that expired before
    `expired_at`.

    `to_close` locks the rows and skips those that another process has locked, and those of
    responses in the background, which end with their response.
    """
    query = sa.select(HOLDS.c.context).where(_OPEN).order_by(HOLDS.c.lease_until).limit(rows_max)
    if expired_at is not None:
        query = query.where(HOLDS.c.lease_until < expired_at)
    if to_close:
        query = query.where(~background.runs(HOLDS.c.request_id))
        query = query.with_for_update(skip_locked=True, of=HOLDS)
    return [_decode(context) for context in connection.execute(query).scalars()]


def count_open_holds(connection: sa.Connection) -> int:
    query = sa.select(sa.func.count()).select_from(HOLDS).where(_OPEN)
    return connection.execute(query).scalar_one()


def read_balance(connection: sa.Connection, account_id: str, *, to_change: bool = False) -> int:
    """Return the balance of an account; 0 if there is none. `to_change` locks the row until the
    transaction ends."""
    query = sa.select(_BALANCE).where(LEDGER_ACCOUNTS.c.id == account_id)
    if to_change:
        query = query.with_for_update()
    return connection.execute(query).scalar_one_or_none() or 0


def read_balances(connection: sa.Connection, account_ids: Sequence[str]) -> dict[str, int]:
    """Return the balances of the accounts that exist."""
    balances: dict[str, int] = {}
    for start in range(0, len(account_ids), NAMES_MAX):
        names = account_ids[start : start + NAMES_MAX]
        query = sa.select(LEDGER_ACCOUNTS.c.id, _BALANCE).where(LEDGER_ACCOUNTS.c.id.in_(names))
        balances |= {row.id: row.balance_nano for row in connection.execute(query)}
    return balances


def list_owners(connection: sa.Connection) -> list[str]:
    """Return the organizations that have a wallet, in order."""
    table = LEDGER_ACCOUNTS.c
    query = sa.select(table.organization_id).where(table.kind == "wallet")
    return list(connection.execute(query.order_by(table.organization_id)).scalars())


def has_open_holds(connection: sa.Connection, organization_id: str, *, before: int) -> bool:
    """Return whether holds of an organization from before a time (unix microseconds) are open."""
    mine = (HOLDS.c.organization_id == organization_id, HOLDS.c.created_at < before)
    query = sa.select(sa.literal(1)).where(_OPEN, *mine).limit(1)
    return connection.execute(query).first() is not None


def sum_entries(
    connection: sa.Connection, organization_id: str, *, since: int, until: int
) -> tuple[int, int]:
    """Return the sums of what calls moved on the accounts `revenue` and of credits between two
    times (unix microseconds)."""
    table, accounts = ENTRIES.c, LEDGER_ACCOUNTS.c
    query = (
        sa.select(accounts.kind, sa.func.sum(table.amount_nano))
        .join(LEDGER_ACCOUNTS, accounts.id == table.account_id)
        .where(
            accounts.organization_id == organization_id,
            accounts.kind.in_(("revenue", CREDITS)),
            table.request_id != "",
            table.created_at >= since,
            table.created_at < until,
        )
        .group_by(accounts.kind)
    )
    sums = {kind: int(total) for kind, total in connection.execute(query)}
    return sums.get("revenue", 0), sums.get(CREDITS, 0)


def read_transaction(connection: sa.Connection, transaction_id: str) -> dict[str, int]:
    """Return what a transaction moved on each account; empty if there is no such transaction."""
    query = sa.select(ENTRIES.c.account_id, ENTRIES.c.amount_nano).where(
        ENTRIES.c.transaction_id == transaction_id
    )
    return {row.account_id: row.amount_nano for row in connection.execute(query)}


def list_credits(connection: sa.Connection, organization_id: str) -> list[tuple[str, int]]:
    """Return the accounts of an organization's monthly credits (`credits:2026-11`) and their
    balances, oldest first."""
    query = (
        sa.select(LEDGER_ACCOUNTS.c.id, _BALANCE)
        .where(LEDGER_ACCOUNTS.c.organization_id == organization_id)
        .where(LEDGER_ACCOUNTS.c.kind == CREDITS)
        .order_by(LEDGER_ACCOUNTS.c.id)
    )
    return [(name.partition(":")[2], nano) for name, nano in connection.execute(query)]


def list_credit_owners(connection: sa.Connection, *, before: str) -> list[str]:
    """Return the organizations with credits left in accounts before this one
    (`credits:2026-11`)."""
    table = LEDGER_ACCOUNTS.c
    query = sa.select(table.id, table.organization_id).where(
        table.kind == CREDITS, table.balance_nano > 0
    )
    rows = connection.execute(query)
    return sorted({owner for name, owner in rows if name.partition(":")[2] < before})


def list_granted(connection: sa.Connection, name: str) -> list[str]:
    """Return the organizations that have an account of this month's credits
    (`credits:2026-11`)."""
    table = LEDGER_ACCOUNTS.c
    query = sa.select(table.organization_id).where(
        table.kind == CREDITS, table.id == table.organization_id + f":{name}"
    )
    return sorted(connection.execute(query).scalars())


def sum_grants(connection: sa.Connection, account_id: str, *, prefix: str) -> int:
    """Return what the transactions whose names begin so moved on an account."""
    query = sa.select(sa.func.coalesce(sa.func.sum(ENTRIES.c.amount_nano), 0)).where(
        ENTRIES.c.transaction_id >= prefix,
        ENTRIES.c.transaction_id < prefix + ";",
        ENTRIES.c.account_id == account_id,
    )
    return int(connection.execute(query).scalar_one())


def find_inconsistencies(connection: sa.Connection) -> list[str]:
    """Return every inconsistency of the ledger, one sentence each."""
    return [
        template.format(*row) for template, query in _AUDIT for row in connection.execute(query)
    ]


_SUM = sa.func.sum(ENTRIES.c.amount_nano)
_POSTED = (
    sa.select(sa.func.coalesce(_SUM, 0))
    .where(ENTRIES.c.account_id == LEDGER_ACCOUNTS.c.id)
    .scalar_subquery()
)
_HELD = (
    sa.select(sa.func.coalesce(sa.func.sum(HOLDS.c.amount_nano), 0))
    .where(HOLDS.c.organization_id == LEDGER_ACCOUNTS.c.organization_id)
    .where(HOLDS.c.managed == 1)
    .where(_OPEN)
    .scalar_subquery()
)
_AUDIT: tuple[tuple[str, sa.Executable], ...] = (
    (
        "Transaction {0} sums to {1}, not to 0.",
        sa.select(ENTRIES.c.transaction_id, _SUM)
        .group_by(ENTRIES.c.transaction_id)
        .having(_SUM != 0),
    ),
    (
        "Account {0} says {1}, its entries sum to {2}.",
        sa.select(LEDGER_ACCOUNTS.c.id, _BALANCE, _POSTED).where(_BALANCE != _POSTED),
    ),
    (
        "Account {0} says {1}, the open holds sum to {2}.",
        sa.select(LEDGER_ACCOUNTS.c.id, _BALANCE, _HELD)
        .where(LEDGER_ACCOUNTS.c.kind == "held")
        .where(_BALANCE != _HELD),
    ),
    (
        "Entry {0} is of an account that does not exist.",
        sa.select(ENTRIES.c.id).where(ENTRIES.c.account_id.not_in(sa.select(LEDGER_ACCOUNTS.c.id))),
    ),
)

"""The SQL of sealed rows, in any table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from headgate.kit.db.schema import count_rows
from headgate.vault.store.secrets import SECRETS

SEALED_CREDENTIALS = sa.table(
    "credentials",
    sa.column("id", sa.Text),
    sa.column("organization_id", sa.Text),
    sa.column("name", sa.Text),
    sa.column("base_url", sa.Text),
    sa.column("sealed", sa.LargeBinary),
    sa.column("key_id", sa.Text),
    sa.column("seal_number", sa.BigInteger),
)
"""The sealed columns of credentials; the table itself belongs to the feature `credentials`."""
SEALED_WEBHOOK_SECRETS = sa.table(
    "webhook_secrets",
    sa.column("id", sa.Text),
    sa.column("organization_id", sa.Text),
    sa.column("endpoint_id", sa.Text),
    sa.column("name", sa.Text),
    sa.column("sealed", sa.LargeBinary),
    sa.column("key_id", sa.Text),
    sa.column("seal_number", sa.BigInteger),
)
"""The sealed columns of the secrets of webhooks; the table belongs to the feature `webhooks`."""
SEALED_SIGNING_SECRETS = sa.table(
    "signing_secrets",
    sa.column("id", sa.Text),
    sa.column("organization_id", sa.Text),
    sa.column("api_key_id", sa.Text),
    sa.column("name", sa.Text),
    sa.column("sealed", sa.LargeBinary),
    sa.column("key_id", sa.Text),
    sa.column("seal_number", sa.BigInteger),
)
"""The sealed columns of signing secrets; the table belongs to the feature `signatures`."""
SEALED_PAYLOADS = sa.table(
    "request_payloads",
    sa.column("id", sa.Text),
    sa.column("organization_id", sa.Text),
    sa.column("name", sa.Text),
    sa.column("sealed", sa.LargeBinary),
    sa.column("key_id", sa.Text),
    sa.column("seal_number", sa.BigInteger),
)
"""The sealed bodies of requests; the table belongs to the feature `request_log`."""
SEALED_MCP_SECRETS = sa.table(
    "mcp_server_secrets",
    sa.column("id", sa.Text),
    sa.column("organization_id", sa.Text),
    sa.column("server_id", sa.Text),
    sa.column("person_id", sa.Text),
    sa.column("name", sa.Text),
    sa.column("origin", sa.Text),
    sa.column("sealed", sa.LargeBinary),
    sa.column("key_id", sa.Text),
    sa.column("seal_number", sa.BigInteger),
)
"""The sealed headers and tokens of MCP servers; the table belongs to the feature `mcp_servers`."""
SEALED_TABLES: Mapping[str, sa.TableClause] = {
    table.name: table
    for table in (
        SEALED_CREDENTIALS,
        SECRETS,
        SEALED_WEBHOOK_SECRETS,
        SEALED_SIGNING_SECRETS,
        SEALED_PAYLOADS,
        SEALED_MCP_SECRETS,
    )
}
"""Every table whose column `sealed` is opened with the organization key `key_id`.

All have `id`, `organization_id`, `name`, `sealed` (null: the secret was deleted), `key_id` and
`seal_number`. How their seals are bound is in `service/sealed_tables.py`.
"""


def select_sealed(
    connection: sa.Connection, table: str, *, key_id: str | None, after: str, limit: int
) -> list[Mapping[str, Any]]:
    """Return a page, by id, of sealed rows of a table; with `key_id`, of those under that key."""
    rows = SEALED_TABLES[table]
    statement = sa.select(rows).where(rows.c.sealed.is_not(None), rows.c.id > after)
    if key_id is not None:
        statement = statement.where(rows.c.key_id == key_id)
    statement = statement.order_by(rows.c.id).limit(limit)
    return [{**row} for row in connection.execute(statement).mappings()]


def replace_seal(
    connection: sa.Connection, table: str, row: Mapping[str, Any], values: Mapping[str, Any]
) -> int:
    """Change a row if its seal is still the one that was read; return 1, else 0."""
    rows = SEALED_TABLES[table]
    statement = sa.update(rows).where(rows.c.id == row["id"], rows.c.sealed == row["sealed"])
    return connection.execute(statement.values(**values)).rowcount


def move_forgotten(connection: sa.Connection, table: str, *, before: str, after: str) -> int:
    """Let rows without a secret name another key, so that theirs can be deleted; return how
    many."""
    rows = SEALED_TABLES[table]
    statement = sa.update(rows).where(rows.c.key_id == before, rows.c.sealed.is_(None))
    return connection.execute(statement.values(key_id=after)).rowcount


def count_rows_by_key(connection: sa.Connection) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rows in SEALED_TABLES.values():
        statement = sa.select(rows.c.key_id, sa.func.count()).group_by(rows.c.key_id)
        for key_id, count in connection.execute(statement):
            counts[key_id] = counts.get(key_id, 0) + count
    return counts


def count_rows_of_key(connection: sa.Connection, key_id: str) -> int:
    return sum(
        count_rows(connection, rows, rows.c.key_id == key_id) for rows in SEALED_TABLES.values()
    )

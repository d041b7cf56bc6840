"""The tables with sealed columns: what their seals are bound to, and which rows do not open.

To add a table, add a line to `BINDINGS` and one to `store.sealed_rows.SEALED_TABLES`; rotation,
`vault check` and doctor then cover it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from headgate.kit import crypto
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.kit.errors import HeadgateError
from headgate.vault.model.sealed_row import (
    CredentialRow,
    McpSecretRow,
    PayloadRow,
    SigningSecretRow,
    UnreadableRow,
    WebhookSecretRow,
)
from headgate.vault.model.secret import SecretRecord
from headgate.vault.service.sealing import (
    Sealer,
    bind_credential,
    bind_mcp_secret,
    bind_payload,
    bind_signing_secret,
    bind_webhook_secret,
    explain_unreadable,
)
from headgate.vault.service.secrets import bind_secret
from headgate.vault.store import sealed_rows

Row = Mapping[str, Any]
PAGE_ROWS = 200


def _bind_credential(row: Row) -> bytes:
    fields = {name: row[name] for name in CredentialRow.__struct_fields__}
    return bind_credential(CredentialRow(**fields))


def _bind_secret(row: Row) -> bytes:
    return bind_secret(SecretRecord(**{name: row[name] for name in SecretRecord.__struct_fields__}))


def _bind_webhook_secret(row: Row) -> bytes:
    fields = {name: row[name] for name in WebhookSecretRow.__struct_fields__}
    return bind_webhook_secret(WebhookSecretRow(**fields))


def _bind_signing_secret(row: Row) -> bytes:
    fields = {name: row[name] for name in SigningSecretRow.__struct_fields__}
    return bind_signing_secret(SigningSecretRow(**fields))


def _bind_payload(row: Row) -> bytes:
    return bind_payload(PayloadRow(**{name: row[name] for name in PayloadRow.__struct_fields__}))


def _bind_mcp_secret(row: Row) -> bytes:
    fields = {name: row[name] for name in McpSecretRow.__struct_fields__}
    return bind_mcp_secret(McpSecretRow(**fields))


BINDINGS: Mapping[str, Callable[[Row], bytes]] = {
    "credentials": _bind_credential,
    "secrets": _bind_secret,
    "webhook_secrets": _bind_webhook_secret,
    "signing_secrets": _bind_signing_secret,
    "request_payloads": _bind_payload,
    "mcp_server_secrets": _bind_mcp_secret,
}
"""For each table, the function that returns what the seal of a row is bound to."""


def reseal(table: str, row: Row, old: SecretKey, new_id: str, new: SecretKey) -> dict[str, Any]:
    """Seal a row again under another key; return the changed columns. Raise `BrokenSealError`."""
    secret = crypto.open_envelope(old, row["sealed"], bound_to=BINDINGS[table](row))
    changed = {"key_id": new_id, "seal_number": row["seal_number"] + 1}
    bound_to = BINDINGS[table]({**row, **changed})
    return {**changed, "sealed": crypto.seal_envelope(new, secret, bound_to=bound_to)}


def iterate_rows(connection: sa.Connection, table: str) -> Iterator[Row]:
    """Yield the rows of a sealed table that hold a secret, by id."""
    after = ""
    while rows := sealed_rows.select_sealed(
        connection, table, key_id=None, after=after, limit=PAGE_ROWS
    ):
        yield from rows
        after = rows[-1]["id"]


def find_unreadable_rows(connection: sa.Connection, sealer: Sealer) -> list[UnreadableRow]:
    """Open all rows of all sealed tables; return those that do not open."""
    keys = sealer.organization_keys(connection)
    unreadable_rows: list[UnreadableRow] = []
    for table in BINDINGS:
        for row in iterate_rows(connection, table):
            key = keys.get(row["key_id"])
            try:
                if key is None:
                    raise KeyError(row["key_id"])
                crypto.open_envelope(key, row["sealed"], bound_to=BINDINGS[table](row))
            except (BrokenSealError, KeyError, HeadgateError) as error:
                reason = explain_unreadable(error)
                unreadable_rows.append(UnreadableRow(row["id"], row["name"], reason, table))
    return unreadable_rows

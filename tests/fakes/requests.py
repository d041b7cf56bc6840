"""Requests in the request log, with bodies that look like those of a chat completion."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from headgate.main.application import Application
from headgate.request_log.model.entry import MICROSECONDS, RequestEntry
from headgate.request_log.model.payload import StoredExchange, encode_exchange, keep_body
from headgate.request_log.service.payloads import seal_payloads
from headgate.request_log.store import entries
from tests.fakes.api import Tenant
from tests.fakes.ledger import NOVEMBER

ASKED = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"hi"}]}'
ANSWERED = b'{"id":"chatcmpl-1","choices":[]}'
JSON = "application/json"


def make_entry(**changes: Any) -> RequestEntry:
    """Return a row; `changes` replace its fields."""
    usual: dict[str, Any] = {
        "id": "req_1",
        "created_at": int(NOVEMBER * MICROSECONDS),
        "organization_id": "org_1",
        "project_id": "proj_1",
        "key_id": "key_1",
        "endpoint": "chat.completions",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "outcome": "completed",
        "provider": "openai",
        "model": "gpt-5.4-mini",
        "pricing": "priced",
    }
    return RequestEntry(**{**usual, **changes})


def make_exchange(
    asked: bytes = ASKED, answered: bytes = ANSWERED, *, media_type: str = JSON
) -> StoredExchange:
    return StoredExchange(
        "POST",
        "/v1/chat/completions",
        (("content-type", JSON),),
        keep_body(asked, JSON, bytes_max=10_000),
        "/chat/completions",
        None,
        200,
        (("content-type", media_type),),
        keep_body(answered, media_type, bytes_max=10_000),
    )


def keep_request(
    application: Application,
    connection: sa.Connection,
    tenant: Tenant,
    *,
    exchange: StoredExchange | None = None,
    **changes: Any,
) -> RequestEntry:
    """Insert a row with its sealed bodies."""
    own: dict[str, Any] = {
        "organization_id": tenant.organization_id,
        "project_id": tenant.project_id,
        "key_id": "key_" + tenant.live_key.split("_")[2],
        "payload": 1,
    }
    entry = make_entry(**{**own, **changes})
    entries.insert(connection, [entry])
    body = encode_exchange(exchange or make_exchange())
    sealed = seal_payloads(
        connection, application.sealer, entry.organization_id, [(entry.id, body)]
    )
    assert sealed == 1
    return entry


def parse_events(text: str) -> list[Any]:
    """Return the data of server-sent events."""
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]

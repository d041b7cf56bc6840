"""Seal the bodies of requests under the key of their organization, and open them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from headgate.kit import crypto
from headgate.kit.crypto import BrokenSealError
from headgate.kit.errors import HeadgateError
from headgate.request_log.model.payload import (
    PayloadNotKeptError,
    StoredExchange,
    decode_exchange,
)
from headgate.request_log.store import payloads as store
from headgate.request_log.store.payloads import SealedPayload
from headgate.vault.model.sealed_row import PayloadRow
from headgate.vault.service import Sealer
from headgate.vault.service.sealing import bind_payload

log = structlog.get_logger(__name__)


def seal_payloads(
    connection: sa.Connection,
    sealer: Sealer,
    organization_id: str,
    bodies: Sequence[tuple[str, bytes]],
) -> int:
    """Seal and insert encoded exchanges, each with the id of its request. Return how many were
    kept: none where the organization has no key that seals."""
    try:
        key_id, key = sealer.current_key(connection, organization_id, seals=len(bodies))
    except (BrokenSealError, HeadgateError) as error:
        log.warning("request_log.unsealed", organization=organization_id, error=str(error))
        return 0
    for request_id, body in bodies:
        bound_to = bind_payload(PayloadRow(request_id, organization_id, key_id, 1))
        sealed = crypto.seal_envelope(key, body, bound_to=bound_to)
        store.insert(
            connection, SealedPayload(request_id, organization_id, request_id, sealed, key_id, 1)
        )
    return len(bodies)


def open_payload(connection: sa.Connection, sealer: Sealer, request_id: str) -> StoredExchange:
    """Open the bodies of a request. Raise `PayloadNotKeptError`."""
    found = store.find(connection, request_id)
    if found is None:
        raise PayloadNotKeptError(f"The bodies of {request_id} are not kept.")
    keys = sealer.organization_keys(connection)
    row = PayloadRow(found.id, found.organization_id, found.key_id, found.seal_number)
    try:
        data = crypto.open_envelope(keys[found.key_id], found.sealed, bound_to=bind_payload(row))
    except (BrokenSealError, KeyError) as error:
        log.warning("request_log.unreadable", request=request_id, error=repr(error))
        raise PayloadNotKeptError(
            f"The bodies of {request_id} do not open: the seal is broken, or its key is gone."
        ) from None
    return decode_exchange(data)

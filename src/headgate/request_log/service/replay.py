"""Send a kept request again, and compare the answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from headgate.relay.ports import Grant
from headgate.request_log.model.entry import RequestEntry
from headgate.request_log.model.payload import StoredExchange
from headgate.request_log.model.replay import (
    ReplayAnswer,
    ReplayKeyError,
    ReplayResult,
    ReplayTarget,
    ReplayTargetMissingError,
    check_replayable,
    compare,
)

MARK = "headgate-replay-of"
"""The name under which the metadata of a replayed call has the id of the first one."""
METADATA_HEADER = "x-headgate-metadata"
METADATA_PAIRS_MAX = 16
NOT_SENT_AGAIN = frozenset({"idempotency-key", METADATA_HEADER, "x-headgate-cache"})
CREDENTIAL_HEADER = "x-headgate-credential"


class ReplayRequest(msgspec.Struct, frozen=True):
    """Describe a request that is sent again, as a client would send it."""

    grant: Grant
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Replayer(Protocol):
    """Send requests through the data plane of this process."""

    async def run(self, target: ReplayTarget, request: ReplayRequest) -> ReplayAnswer:
        """Answer a request as the gateway would answer a client. Raise a `HeadgateError` where the
        target is not there."""
        ...

    def find_grant(self, key_id: str) -> Grant | None:
        """Return what a key may do now; None for one that is not active."""
        ...


class NoReplayer:
    """Send nothing: this process has no data plane."""

    async def run(self, target: ReplayTarget, request: ReplayRequest) -> ReplayAnswer:
        raise ReplayTargetMissingError(f"This process has no {target} to send a request to.")

    def find_grant(self, key_id: str) -> Grant | None:
        return Grant(key_id, "", "")


async def replay(
    replayer: Replayer,
    entry: RequestEntry,
    stored: StoredExchange,
    *,
    target: ReplayTarget,
    credential: str | None = None,
    ignored: Collection[str] = (),
) -> ReplayResult:
    """Send a kept request again; `ignored` is that of `compare`.

    Raise `ReplayIncompleteError`, `ReplayKeyError`, and as `Replayer.run`.

    A provider is asked on behalf of the key of the request, within its limits, and the call has a
    receipt. The simulator is asked on behalf of nobody: nothing is recorded.
    """
    check_replayable(stored)
    if target == "provider":
        grant = replayer.find_grant(entry.key_id)
        if grant is None:
            raise ReplayKeyError(f"The key {entry.key_id} of the request is not active any more.")
        # These say how a client has to come, which is no client here.
        grant = msgspec.structs.replace(grant, networks=(), requires_signature=False)
    else:
        grant = Grant(entry.key_id, entry.organization_id, entry.project_id)
    assert stored.request.body is not None, "it was checked"
    request = ReplayRequest(
        msgspec.structs.replace(grant, project_id=entry.project_id),
        stored.method,
        stored.target,
        build_headers(entry, stored, credential),
        stored.request.body,
    )
    return compare(entry.id, target, stored, await replayer.run(target, request), ignored)


def build_headers(
    entry: RequestEntry, stored: StoredExchange, credential: str | None
) -> tuple[tuple[str, str], ...]:
    """Return the headers of a replay: those of the client, with the id of the first request in the
    metadata. No cache may answer, nor the store of idempotency keys."""
    left_out = NOT_SENT_AGAIN if credential is None else NOT_SENT_AGAIN | {CREDENTIAL_HEADER}
    headers = [(name, value) for name, value in stored.headers if name not in left_out]
    metadata = msgspec.json.decode(entry.metadata or "{}", type=dict[str, str])
    if len(metadata) < METADATA_PAIRS_MAX:
        metadata[MARK] = entry.id
    headers.append((METADATA_HEADER, msgspec.json.encode(metadata).decode("latin-1")))
    headers.append(("x-headgate-cache", "bypass"))
    if credential is not None:
        headers.append((CREDENTIAL_HEADER, credential))
    return tuple(headers)

"""Keep the requests of projects that ask for it: the implementation of `relay.request_log`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from headgate.kit.clock import Clock
from headgate.kit.db.writer import BatchQueue, Writer
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.relay.call import Call, Caller
from headgate.relay.ports import Receipt
from headgate.relay.request_log import RefusedRequest
from headgate.request_log.model.entry import RequestEntry
from headgate.request_log.model.payload import (
    StoredExchange,
    describe_missing,
    encode_exchange,
    find_header,
    keep_body,
    parse_head,
)
from headgate.request_log.service.entries import build_entry, build_refusal, list_end
from headgate.request_log.service.followed_call import FollowedCall, list_headers, read_body
from headgate.request_log.service.index import RequestLogIndex
from headgate.request_log.service.payloads import seal_payloads
from headgate.request_log.store import entries as store
from headgate.vault.service import Sealer

FULL = "full"
PENDING_MAX = 10_000
"""How many rows may wait for the database before further ones are dropped and counted."""

log = structlog.get_logger(__name__)


class PendingEntry(msgspec.Struct, frozen=True):
    """Hold a row on its way to the database, and the encoded bodies; empty without any."""

    entry: RequestEntry
    body: bytes = b""


class RequestRecorder:
    """Follow calls, and write one row for each behind them.

    Rows are written beside the settlement and not in it: no call waits for its row, and a process
    that dies loses the rows of its last moments. `payload_bytes_max` bounds each kept body,
    `pending_bytes_max` the bodies that wait to be written.
    """

    projects: Container[str]

    def __init__(
        self,
        writer: Writer,
        index: RequestLogIndex,
        sealer: Sealer,
        clock: Clock,
        *,
        payload_bytes_max: int,
        pending_bytes_max: int,
    ) -> None:
        self._index = index
        self._sealer = sealer
        self._clock = clock
        self._payload_bytes_max = payload_bytes_max
        self._pending_bytes_max = pending_bytes_max
        self._pending_bytes = 0
        self._pending = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._queue = writer.create_queue(self._store, durable=False)
        self._ends = writer.create_queue(self._settle, durable=False)
        index.listen(self._follow)
        self.dropped = 0
        """Rows that could not be written."""
        self.payloads_dropped = 0
        """Bodies that were not kept, for lack of memory or of a key."""

    def _follow(self, projects: Container[str]) -> None:
        self.projects = projects

    def begin(self, call: Call, caller: Caller, *, target: bytes, headers: Headers) -> Caller:
        is_full = self._index.find(call.grant.project_id).mode == FULL
        followed = FollowedCall(
            call,
            caller,
            target=target,
            headers=headers,
            client_address=find_address(caller),
            bytes_max=self._payload_bytes_max if is_full else 0,
            on_end=self._keep,
        )
        call.record = followed
        return followed

    def refuse(self, request: RefusedRequest, error: HeadgateError) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        self._write(PendingEntry(build_refusal(request, error, now=now, monotonic=monotonic)))

    def end(self, receipt: Receipt) -> None:
        """Complete the row of a response that ran in the background. Must not raise."""
        if receipt.project_id in self.projects:
            self._put(self._ends, receipt)

    async def drain(self) -> None:
        """Wait until the bodies that are being encoded are queued."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, followed: FollowedCall) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        entry = build_entry(followed, now=now, monotonic=monotonic)
        if not followed.keeps_bodies:
            self._write(PendingEntry(entry))
            return
        size = len(followed.request_body or b"") + sum(map(len, followed.response.pieces))
        if self._pending_bytes + size > self._pending_bytes_max:
            self.payloads_dropped += 1
            self._write(PendingEntry(entry))
            return
        self._pending_bytes += size
        build = self._prepare(followed)
        task = asyncio.get_running_loop().create_task(self._encode(entry, build, size))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _encode(
        self, entry: RequestEntry, build: Callable[[], StoredExchange], size: int
    ) -> None:
        """Encode bodies in a thread, since they may be large, and queue them with their row."""
        try:
            body = await asyncio.to_thread(lambda: encode_exchange(build()))
        # Whatever is in the bodies, the row is kept.
        except Exception:
            log.exception("request_log.unencoded", request=entry.id)
            self.payloads_dropped += 1
            body = b""
        finally:
            self._pending_bytes -= size
        self._write(PendingEntry(msgspec.structs.replace(entry, payload=int(bool(body))), body))

    def _prepare(self, followed: FollowedCall) -> Callable[[], StoredExchange]:
        """Return what makes the kept bodies, and holds nothing else of the call."""
        bytes_max = self._payload_bytes_max
        headers = list_headers(followed.headers)
        head = parse_head(followed.head)
        request, response = followed.request_body, b"".join(followed.response.pieces)
        size, is_too_large = followed.response.size, followed.response.is_too_large
        method, target = followed.method, followed.target.decode("latin-1")
        state, status = followed.state, followed.status
        sent = read_body(state.body) if state is not None and state.attempts else None
        if sent is request or sent == request:
            sent = None
        sent_target = "" if state is None else state.target.decode("latin-1")

        def build() -> StoredExchange:
            kind = find_header(headers, "content-type")
            answered = find_header(head, "content-type")
            return StoredExchange(
                method,
                target,
                headers,
                describe_missing(0, kind)
                if request is None
                else keep_body(request, kind, bytes_max=bytes_max),
                sent_target,
                None if sent is None else keep_body(sent, "application/json", bytes_max=bytes_max),
                status,
                head,
                describe_missing(size, answered)
                if is_too_large
                else keep_body(response, answered, bytes_max=bytes_max),
            )

        return build

    def _write(self, pending: PendingEntry) -> None:
        self._put(self._queue, pending)

    def _put(self, queue: BatchQueue[Any, None], item: Any) -> None:
        if self._pending >= PENDING_MAX:
            self.dropped += 1
            return
        try:
            future = queue.put(item)
        except HeadgateError:
            self.dropped += 1
            return
        self._pending += 1
        future.add_done_callback(self._end_write)

    def _end_write(self, future: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self.dropped += 1
            log.warning("request_log.dropped", error=str(error))

    def _store(self, connection: sa.Connection, pending: Sequence[PendingEntry]) -> Sequence[None]:
        bodies: dict[str, list[tuple[str, bytes]]] = {}
        for each in pending:
            if each.body:
                owner = each.entry.organization_id
                bodies.setdefault(owner, []).append((each.entry.id, each.body))
        unsealed = {
            organization_id
            for organization_id, own in bodies.items()
            if not seal_payloads(connection, self._sealer, organization_id, own)
        }
        store.insert(
            connection,
            [
                msgspec.structs.replace(each.entry, payload=0)
                if each.body and each.entry.organization_id in unsealed
                else each.entry
                for each in pending
            ],
        )
        return [None] * len(pending)

    def _settle(self, connection: sa.Connection, receipts: Sequence[Receipt]) -> Sequence[None]:
        for receipt in receipts:
            store.settle(connection, receipt.request_id, list_end(receipt))
        return [None] * len(receipts)


def find_address(caller: Caller) -> str:
    """Return the address of a client, empty where proxies name a malformed one."""
    try:
        return caller.client_address
    except HeadgateError:
        return ""

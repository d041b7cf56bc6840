"""Answer repeated requests for embeddings from a cache (decision 0028)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from headgate.gateway.models import JSON_TYPE, EmptyResponse
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError, SecretKey, encode_fields, open_box, seal
from headgate.kit.http.errors import EgressError
from headgate.llm.redaction import redact
from headgate.llm.request import JsonRequest
from headgate.relay.call_state import CallState
from headgate.relay.pipeline import Backend
from headgate.relay.upstream import UpstreamResponse, describe_egress_error

IGNORED_FIELDS = ("user",)
"""Fields that do not change the vectors."""


class Cache(Protocol):
    bytes_max: int

    async def find(self, box_id: bytes) -> bytes | None: ...

    def put(self, box_id: bytes, box: bytes) -> None: ...


class EmbeddingCache:
    """Be the backend of calls for embeddings: the cache, then the provider.

    An answer is sealed with a key that is derived from the organization, the provider's secret and
    the whole request, so the database alone reveals neither texts nor vectors.
    """

    def __init__(
        self, upstream: Backend, cache: Cache, clock: Clock, *, body_bytes_max: int
    ) -> None:
        self._upstream = upstream
        self._cache = cache
        self._clock = clock
        self._body_bytes_max = body_bytes_max

    async def send(
        self, state: CallState, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> UpstreamResponse:
        """Return the cached answer, or the provider's, which is then cached if it succeeded."""
        if state.call.bypasses_cache or not self._cache.bytes_max:
            return await self._upstream.send(state, sleep)
        assert isinstance(state.body, JsonRequest), "a request for embeddings is JSON"
        box_id, key = derive(state, state.body)
        body = self._open(key, box_id, await self._cache.find(box_id))
        if body is not None:
            state.cache_status = "hit"
            state.sent_at = self._clock.monotonic()
            return UpstreamResponse(
                200, [JSON_TYPE], EmptyResponse(), body=body, content_type=JSON_TYPE[1]
            )
        state.cache_status = "miss"
        answer = await self._upstream.send(state, sleep)
        if answer.status == 200 and answer.body is None and answer.claims_json:
            try:
                answer.body = await answer.response.read(self._body_bytes_max, state.reserve_answer)
            except EgressError as error:
                raise describe_egress_error(error) from error
            self._store(state, answer, box_id, key)
        return answer

    def _store(
        self, state: CallState, answer: UpstreamResponse, box_id: bytes, key: SecretKey
    ) -> None:
        body = answer.body
        assert body is not None, "it was read"
        assert state.credential is not None, "an answer came from somewhere"
        if not answer.coding and is_embedding(body):
            body = redact(body, state.credential.secret)
            self._cache.put(box_id, seal(key, body, bound_to=box_id))

    def _open(self, key: SecretKey, box_id: bytes, box: bytes | None) -> bytes | None:
        if box is None:
            return None
        try:
            return open_box(key, box, bound_to=box_id)
        except BrokenSealError:
            return None


class _EmbeddingList(msgspec.Struct):
    data: list[msgspec.Raw]
    error: msgspec.Raw | None = None


def is_embedding(body: bytes) -> bool:
    """Return whether an answer has vectors and no error."""
    try:
        listed = msgspec.json.decode(body, type=_EmbeddingList)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return bool(listed.data) and listed.error is None


def derive(state: CallState, body: JsonRequest) -> tuple[bytes, SecretKey]:
    """Return the id of an answer and the key that seals it."""
    credential = state.credential
    assert credential is not None, "routing comes before sending"
    fields = body.fields
    parts = [
        part
        for name in sorted(fields.keys() - set(IGNORED_FIELDS))
        for part in (name, bytes(fields[name]))
    ]
    of = encode_fields(
        *(state.call.grant.organization_id, credential.id, state.target, credential.secret), *parts
    )
    box_id = hashlib.sha256(encode_fields("headgate.embedding.1", of)).digest()
    key = hashlib.sha256(encode_fields("headgate.embedding_seal.1", of)).digest()
    return box_id, SecretKey(key)

"""Answer inputs of requests for embeddings from a cache, one by one (decision 0028)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from headgate.gateway.models import JSON_TYPE, EmptyResponse
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError, SecretKey, encode_fields, open_box, seal
from headgate.kit.http.errors import EgressError
from headgate.kit.http.exchange import UNHELD_BYTES
from headgate.llm.redaction import redact
from headgate.llm.request import JsonRequest
from headgate.relay.backend import Backend
from headgate.relay.call_state import CallState, ResponseMemoryExhaustedError
from headgate.relay.upstream import (
    InvalidProviderResponseError,
    UpstreamResponse,
    describe_egress_error,
)

COPIES = 2
"""How often a cached embedding is held beside the answer: sealed, and opened."""
IGNORED_FIELDS = frozenset(("input", "user"))
"""Fields that do not change the vector of an input, besides the input itself."""
INPUTS_MAX = 2_048
"""How many inputs OpenAI takes. A larger batch is not looked up."""
SEALED_ON_THE_LOOP = 8
"""More boxes than this are opened or sealed in a thread."""
NO_TOKENS = msgspec.Raw(b'{"prompt_tokens":0,"total_tokens":0}')
NULL = msgspec.Raw(b"null")
ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, ValueError)
"""What an answer raises that is no list of embeddings."""

Result = TypeVar("Result")
Members = dict[str, msgspec.Raw]
_decode_members = msgspec.json.Decoder(Members).decode
_decode_items = msgspec.json.Decoder(list[Members]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Cache(Protocol):
    bytes_max: int

    async def find(self, box_ids: Sequence[bytes]) -> Mapping[bytes, bytes]: ...

    def put(self, boxes: Sequence[tuple[bytes, bytes]]) -> None: ...


class EmbeddingInput(msgspec.Struct, frozen=True):
    """Name an input in the cache: its JSON text, the id of its box and the key that seals it."""

    text: bytes
    box_id: bytes
    key: SecretKey


class CachedEmbedding(msgspec.Struct, frozen=True, array_like=True):
    """Hold an embedding without its index, and the answer that it was in without data."""

    envelope: bytes
    item: bytes


class EmbeddingCache:
    """Be the backend of calls for embeddings: the cache, then the provider for what is missing.

    An embedding is sealed with a key that is derived from the organization, the provider's secret
    and the request with this one input, so the database alone reveals neither texts nor vectors.
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
        """Return the cached embeddings, with those of the provider for the other inputs, which are
        then cached."""
        if state.call.bypasses_cache or not self._cache.bytes_max:
            return await self._upstream.send(state, sleep)
        assert isinstance(state.body, JsonRequest), "a request for embeddings is JSON"
        lookups = list_embedding_inputs(state, state.body)
        if not lookups:
            return await self._upstream.send(state, sleep)
        boxes = await self._find(state, lookups)
        found = await run_aside(len(boxes), lambda: open_boxes(lookups, boxes))
        missing = [index for index in range(len(lookups)) if index not in found]
        if not missing:
            return self._answer(state, found)
        state.cache_status = "partial" if found else "miss"
        if found:
            limit_inputs(state, state.body, [lookups[index].text for index in missing])
        answer = await self._upstream.send(state, sleep)
        if answer.status == 200 and answer.body is None and answer.claims_json:
            await self._merge(state, answer, found, {index: lookups[index] for index in missing})
        return answer

    async def _find(
        self, state: CallState, lookups: Sequence[EmbeddingInput]
    ) -> Mapping[bytes, bytes]:
        """Return the boxes of the inputs; none where there is no memory to open them."""
        boxes = await self._cache.find([each.box_id for each in lookups])
        size = sum([len(boxes.get(each.box_id, b"")) for each in lookups])
        try:
            if size:
                state.reserve_answer(COPIES * size)
        except ResponseMemoryExhaustedError:
            return {}
        return boxes

    def _answer(self, state: CallState, found: Mapping[int, CachedEmbedding]) -> UpstreamResponse:
        state.cache_status = "hit"
        state.sent_at = self._clock.monotonic()
        envelope = _decode_members(found[0].envelope)
        if "usage" in envelope:
            envelope["usage"] = NO_TOKENS
        items = {index: _decode_members(each.item) for index, each in found.items()}
        body = join(envelope, items)
        state.reserve_answer(len(body))
        return UpstreamResponse(
            200, [JSON_TYPE], EmptyResponse(), body=body, content_type=JSON_TYPE[1]
        )

    async def _merge(
        self,
        state: CallState,
        answer: UpstreamResponse,
        found: Mapping[int, CachedEmbedding],
        missing: Mapping[int, EmbeddingInput],
    ) -> None:
        """Read an answer, cache its embeddings, and add those that were found."""
        try:
            body = await answer.response.read(self._body_bytes_max, state.reserve_answer)
        except EgressError as error:
            raise describe_egress_error(error) from error
        answer.body = body
        assert state.credential is not None, "an answer came from somewhere"
        try:
            # A coded body, which the gateway never asks for, is not JSON either.
            envelope, items = split(redact(body, state.credential.secret), list(missing))
        except ERRORS as error:
            if not found:
                return
            raise InvalidProviderResponseError(
                f"The provider did not return {len(missing)} embeddings for as many inputs, so "
                "they cannot be joined with those of the cache. Send `x-headgate-cache: bypass` to "
                "get its own answer.",
                should_retry=False,
            ) from error
        boxes = await run_aside(
            len(items),
            lambda: [seal_item(missing[index], envelope, items[index]) for index in items],
        )
        self._cache.put(boxes)
        if found:
            joined = {index: _decode_members(each.item) for index, each in found.items()}
            answer.body = join(envelope, joined | items)
            state.reserve_answer(len(answer.body))
            answer.headers = [each for each in answer.headers if each[0] != b"content-length"]


def list_embedding_inputs(state: CallState, body: JsonRequest) -> list[EmbeddingInput]:
    """Return the inputs of a request in their order; none where they cannot be told apart."""
    credential = state.credential
    assert credential is not None, "routing comes before sending"
    fields = body.fields
    try:
        texts = list_inputs(bytes(fields["input"]))
    except ERRORS:
        return []
    if not 1 <= len(texts) <= INPUTS_MAX:
        return []
    parts = [
        part
        for name in sorted(fields.keys() - IGNORED_FIELDS)
        for part in (name, bytes(fields[name]))
    ]
    shared = hashlib.sha256(
        encode_fields(
            *(state.call.grant.organization_id, credential.id, state.target, credential.secret),
            *parts,
        )
    ).digest()
    return [make_embedding_input(shared, text) for text in texts]


def list_inputs(raw: bytes) -> list[bytes]:
    """Return the JSON text of each input: a string or a list of tokens, or several of them. Raise
    one of `ERRORS`."""
    if not raw.startswith(b"["):
        return [raw]
    texts = [bytes(each) for each in _decode_raws(raw)]
    kinds = {text[:1] for text in texts}
    if kinds in ({b'"'}, {b"["}):
        return texts
    return [raw]


def make_embedding_input(shared: bytes, text: bytes) -> EmbeddingInput:
    # Spelled in one way, whatever spaces and escapes the client wrote.
    of = encode_fields(shared, _encode(msgspec.json.decode(text)))
    return EmbeddingInput(
        text,
        hashlib.sha256(encode_fields("headgate.embedding.3", of)).digest(),
        SecretKey(hashlib.sha256(encode_fields("headgate.embedding_seal.3", of)).digest()),
    )


def limit_inputs(state: CallState, body: JsonRequest, texts: Sequence[bytes]) -> None:
    """Send these inputs only. Raise as `Caller.reserve_memory`."""
    limited = body.with_inputs(texts)
    state.body = limited
    if len(limited.body) > UNHELD_BYTES and state.caller is not None:
        state.caller.reserve_memory(len(limited.body))


def split(body: bytes, indices: Sequence[int]) -> tuple[Members, dict[int, Members]]:
    """Return an answer without its data, and its embeddings by the indices of their inputs. Raise
    one of `ERRORS` for anything else than one embedding for each input."""
    envelope = _decode_members(body)
    items = _decode_items(envelope["data"])
    if envelope.get("error", NULL) != NULL:
        raise ValueError("The answer has an error.")
    envelope["data"] = NULL
    found: dict[int, Members] = {}
    for item in items:
        position = msgspec.json.decode(item["index"], type=int)
        if not 0 <= position < len(indices) or "embedding" not in item:
            raise ValueError("An item is no embedding of an input.")
        found[indices[position]] = item
    if len(found) != len(indices) or len(items) != len(indices):
        raise ValueError("An input has no embedding, or two.")
    return envelope, found


def join(envelope: Members, items: Mapping[int, Members]) -> bytes:
    """Return the answer with these embeddings, in the order of their inputs."""
    data = [items[index] | {"index": msgspec.Raw(b"%d" % index)} for index in sorted(items)]
    return _encode({**envelope, "data": data})


def seal_item(lookup: EmbeddingInput, envelope: Members, item: Members) -> tuple[bytes, bytes]:
    kept = CachedEmbedding(_encode(envelope), _encode({**item, "index": None}))
    box = seal(lookup.key, msgspec.msgpack.encode(kept), bound_to=lookup.box_id)
    return lookup.box_id, box


def open_boxes(
    lookups: Sequence[EmbeddingInput], boxes: Mapping[bytes, bytes]
) -> dict[int, CachedEmbedding]:
    """Return what is known of the inputs, by their indices."""
    found: dict[int, CachedEmbedding] = {}
    for index, lookup in enumerate(lookups):
        box = boxes.get(lookup.box_id)
        if box is None:
            continue
        try:
            opened = open_box(lookup.key, box, bound_to=lookup.box_id)
        except BrokenSealError:
            continue
        found[index] = msgspec.msgpack.decode(opened, type=CachedEmbedding)
    return found


async def run_aside(count: int, work: Callable[[], Result]) -> Result:
    """Return the result of work on so many boxes, without blocking the event loop for long."""
    return await asyncio.to_thread(work) if count > SEALED_ON_THE_LOOP else work()

"""Cached embeddings are opened only where there is memory for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import pytest

from headgate.gateway.embedding_cache import (
    EmbeddingCache,
    list_embedding_inputs,
    seal_item,
)
from headgate.kit.errors import HeadgateError
from headgate.llm.request import JsonRequest
from headgate.relay.call_state import CallState
from headgate.relay.upstream import UpstreamResponse
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeCaller,
    FakeResponse,
    ManualClock,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio
BODY = b'{"model":"text-embedding-3-small","input":["a","b"]}'


class FullCaller(FakeCaller):
    """A client for whom there is only so much memory left."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__()
        self.bytes_max = bytes_max

    def reserve_memory(self, size: int) -> None:
        if self.held_bytes + size > self.bytes_max:
            raise HeadgateError("No memory.")
        super().reserve_memory(size)


class FakeCache:
    bytes_max = 1 << 20

    def __init__(self) -> None:
        self.boxes: dict[bytes, bytes] = {}

    async def find(self, box_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        return {each: self.boxes[each] for each in box_ids if each in self.boxes}

    def put(self, boxes: Sequence[tuple[bytes, bytes]]) -> None:
        self.boxes.update(boxes)


class FakeBackend:
    """Count the inputs that are asked for, and refuse."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def send(
        self, state: CallState, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> UpstreamResponse:
        assert isinstance(state.body, JsonRequest)
        self.asked.append(len(msgspec.json.decode(state.body.fields["input"])))
        return UpstreamResponse(503, [], FakeResponse(), body=b"{}")


def make_embedding_state(bytes_max: int) -> CallState:
    state = make_state(make_call("/embeddings", body=BODY))
    state.credential = CREDENTIAL
    state.caller = FullCaller(bytes_max)
    state.body = state.call.body
    return state


def raw(fields: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}


@pytest.mark.parametrize(("bytes_max", "asked"), [(1 << 20, []), (1_000, [2])])
async def test_without_memory_the_provider_is_asked(bytes_max: int, asked: list[int]) -> None:
    cache, backend = FakeCache(), FakeBackend()
    state = make_embedding_state(bytes_max)
    assert isinstance(state.body, JsonRequest)
    envelope = raw({"object": "list", "data": None, "usage": {"prompt_tokens": 2}})
    item = raw({"object": "embedding", "index": 0, "embedding": [0.5] * 500})
    cache.put(
        [seal_item(each, envelope, item) for each in list_embedding_inputs(state, state.body)]
    )
    embeddings = EmbeddingCache(backend, cache, ManualClock(), body_bytes_max=1 << 20)
    answer = await embeddings.send(state)
    assert backend.asked == asked
    assert answer.status == (503 if asked else 200)
    assert state.cache_status == ("miss" if asked else "hit")

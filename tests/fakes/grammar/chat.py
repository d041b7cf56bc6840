"""The grammar of a stream of Chat Completions: what every client may rely on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Chunk = dict[str, Any]
SHARED = ("id", "object", "created", "model")
"""What all chunks of an answer have in common."""
FINISHES = {"stop", "length", "tool_calls", "content_filter", "function_call"}


def check_stream(chunks: Iterable[Chunk | None]) -> None:
    """Assert that chunks are one whole stream, or one that ends with an error. None stands for
    `[DONE]`."""
    machine = ChatMachine()
    for chunk in chunks:
        machine.feed(chunk)
    machine.finish()


class ChatMachine:
    """Follow one stream, chunk by chunk."""

    def __init__(self) -> None:
        self._ended = False
        self._shared: list[Any] = []
        self._choices: dict[int, _Choice] = {}
        self._has_usage = False

    def feed(self, chunk: Chunk | None) -> None:
        assert not self._ended, "a chunk comes after the end"
        if chunk is None:
            assert self._choices, "the answer has no choice"
            assert all(each.finished for each in self._choices.values()), "a choice has no end"
            self._ended = True
        elif "error" in chunk:
            assert chunk["error"]["message"]
            self._ended = True
        else:
            self._feed_chunk(chunk)

    def finish(self) -> None:
        assert self._ended, "the stream has no end"

    def _feed_chunk(self, chunk: Chunk) -> None:
        shared = [chunk[name] for name in SHARED]
        assert chunk["object"] == "chat.completion.chunk"
        assert self._shared in ([], shared), "chunks belong to different answers"
        self._shared = shared
        assert not self._has_usage, "a chunk comes after the usage"
        if not chunk["choices"]:
            assert all(each.finished for each in self._choices.values())
            self._has_usage = chunk["usage"] is not None
            assert self._has_usage
        for choice in chunk["choices"]:
            self._choices.setdefault(choice["index"], _Choice()).feed(choice)


class _Choice:
    """Follow one choice: its role, its pieces, the calls of tools in order, its reason."""

    def __init__(self) -> None:
        self.finished = False
        self._begun = False
        self._calls: set[int] = set()

    def feed(self, choice: Chunk) -> None:
        assert not self.finished, "a choice goes on after its end"
        delta = choice["delta"]
        if not self._begun:
            assert delta["role"] == "assistant", "a choice begins without its role"
        self._begun = True
        for call in delta.get("tool_calls") or ():
            self._feed_call(call)
        reason = choice.get("finish_reason")
        if reason is not None:
            assert reason in FINISHES
            self.finished = True

    def _feed_call(self, call: Chunk) -> None:
        index = call["index"]
        if index in self._calls:
            assert call.get("id") is None or "function" in call or "custom" in call
            return
        assert index == len(self._calls), "calls are not in order"
        self._calls.add(index)
        # Both are empty if the provider has told none.
        assert isinstance(call["id"], str), "a call begins without its id"
        assert isinstance(call[call["type"]]["name"], str), "a call begins without its name"

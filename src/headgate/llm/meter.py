"""How a wire tells the journey what an answer used.

A `Meter` value belongs to one wire and holds no state; the state of one answer is the `Reading`
that it fills.
"""

from __future__ import annotations

from typing import Protocol

from headgate.llm.usage import Reading


class Meter(Protocol):
    """Reads the answers of one wire. Never raises: what cannot be read is not filled."""

    def read_body(self, body: bytes, reading: Reading) -> None:
        """Learn from a whole buffered answer (JSON, or anything else, which is ignored)."""
        ...

    def read_event(self, event: bytes, data: bytes, reading: Reading) -> bool:
        """Learn from one event of a stream: its `event` name (may be empty) and its joined data.

        True when this event is the last of a finished answer (`[DONE]`, `response.completed`, ...):
        the answer must be settled before it goes on (law 1).
        """
        ...

    def is_usage_only(self, data: bytes) -> bool:
        """Whether this event exists only because the gateway asked for usage (decision 8)."""
        ...

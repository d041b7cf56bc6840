"""How a wire tells the call pipeline what an answer used.

A `Meter` value belongs to one wire and holds no state; the state of one answer is the `ParsedUsage`
that it fills.
"""

from __future__ import annotations

from typing import Protocol

from headgate.llm.usage import ParsedUsage


class Meter(Protocol):
    """Reads the answers of one wire. Never raises: what cannot be read is not filled."""

    @property
    def bulk(self) -> tuple[bytes, ...]:
        """How the events begin that are only bulk on their way (partial images, audio).

        They are never the last of an answer, never there for usage only, and nothing is learned
        from them; so they are neither held until complete, nor read, nor bounded in size.
        """
        ...

    @property
    def has_last_event(self) -> bool:
        """Whether a finished stream of this wire ends in an event that says so."""
        ...

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        """Learn from a whole buffered answer. False if it is no JSON object."""
        ...

    def encode_error(self, error: dict[str, str | None], parsed: ParsedUsage) -> bytes:
        """The frame in which a stream of this wire says that it failed."""
        ...

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Learn from one event of a stream: its `event` name (may be empty) and its joined data.

        True when this event is the last of a finished answer (`[DONE]`, `response.completed`, an
        in-band error, ...): the answer must be settled before it goes on (law 1). A usage that was
        read is a new `Usage` object in the reading, even if it is equal to the one before.
        """
        ...

    def is_complete(self, parsed: ParsedUsage, choices: int) -> bool:
        """Whether a stream that ended without its last event was a finished answer all the same.

        `choices` is how many answers were asked for.
        """
        ...

    def is_usage_only(self, data: bytes) -> bool:
        """Whether this event exists only because the gateway asked for usage (decision 8).

        Asked only of an event from which `read_event` has just read a usage.
        """
        ...

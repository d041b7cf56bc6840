"""Define the interface by which a wire reports what an answer used.

A `Meter` belongs to one wire and holds no state; the state of one answer is the `ParsedUsage` that
it fills.
"""

from __future__ import annotations

from typing import Protocol

from headgate.llm.usage import ParsedUsage


class Meter(Protocol):
    """Read the answers of one wire. Never raises: what cannot be parsed is left unset."""

    @property
    def bulk_prefixes(self) -> tuple[bytes, ...]:
        """Return the first bytes of events that carry only bulk data (partial images, audio).

        Such events are never the last of an answer, never there for usage only, and nothing is read
        from them; so they are neither held until complete, nor parsed, nor limited in size.
        """
        ...

    @property
    def has_last_event(self) -> bool:
        """Return whether a finished stream of this wire ends in an event that says so."""
        ...

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        """Read a whole buffered answer. Return False if it is no JSON object."""
        ...

    def encode_error(self, error: dict[str, str | None], parsed: ParsedUsage) -> bytes:
        """Return the frame by which a stream of this wire reports that it failed."""
        ...

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Read one event of a stream: its `event` name (may be empty) and its joined data.

        Return True if this event is the last of a finished answer (`[DONE]`, `response.completed`,
        an in-band error, ...): the answer must be settled before it is passed on (law 1). A usage
        that was read is set as a new `Usage` object, even if it equals the one before.
        """
        ...

    def is_complete(self, parsed: ParsedUsage, choices: int) -> bool:
        """Return whether a stream that ended without its last event was a finished answer
        nevertheless.

        `choices` is the number of answers that the request asked for.
        """
        ...

    def is_usage_only(self, data: bytes) -> bool:
        """Return whether this event exists only because the gateway asked for usage. It is called
        only for an event from which `read_event` has just read a usage."""
        ...

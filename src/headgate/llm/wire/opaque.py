"""Answers of which nothing is known: they pass as they come, and nothing is read from them."""

from __future__ import annotations

from headgate.llm.meter import Meter
from headgate.llm.usage import ParsedUsage


class OpaqueMeter:
    """Reads nothing; every event is bulk."""

    bulk: tuple[bytes, ...] = (b"",)
    has_last_event = False

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        """Learn nothing; anything is as good."""
        return True

    def encode_error(self, error: dict[str, str | None], parsed: ParsedUsage) -> bytes:
        """None is known."""
        return b""

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Learn nothing; no event is known to be the last."""
        return False

    def is_complete(self, parsed: ParsedUsage, choices: int) -> bool:
        """Always: no last event is known."""
        return True

    def is_usage_only(self, data: bytes) -> bool:
        """Never."""
        return False


METER: Meter = OpaqueMeter()

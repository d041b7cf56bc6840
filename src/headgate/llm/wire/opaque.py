"""Pass answers of an unknown format unchanged, and read nothing."""

from __future__ import annotations

from headgate.llm.meter import Meter
from headgate.llm.usage import ParsedUsage


class OpaqueMeter:
    """Read nothing; every event is bulk."""

    bulk_prefixes: tuple[bytes, ...] = (b"",)
    has_last_event = False

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        return True

    def encode_error(self, error: dict[str, str | None], parsed: ParsedUsage) -> bytes:
        return b""

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        return False

    def is_complete(self, parsed: ParsedUsage, choices: int) -> bool:
        """Return True: no last event is known."""
        return True

    def is_usage_only(self, data: bytes) -> bool:
        return False


METER: Meter = OpaqueMeter()

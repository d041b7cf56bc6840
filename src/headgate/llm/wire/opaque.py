"""Answers of which nothing is known: they pass as they come, and nothing is read from them."""

from __future__ import annotations

from headgate.llm.meter import Meter
from headgate.llm.usage import Reading


class OpaqueMeter:
    """Reads nothing; every event is bulk."""

    bulk: tuple[bytes, ...] = (b"",)

    def read_body(self, body: bytes, reading: Reading) -> None:
        """Learn nothing."""

    def read_event(self, event: bytes, data: bytes, reading: Reading) -> bool:  # noqa: ARG002
        """Learn nothing; no event is known to be the last."""
        return False

    def is_usage_only(self, data: bytes) -> bool:  # noqa: ARG002
        """Never."""
        return False


METER: Meter = OpaqueMeter()

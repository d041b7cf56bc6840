"""Limit the memory of all bodies together, shared fairly between keys (decision 0016).

Request bodies are counted when they are announced, or as they arrive; answers as far as they are
held. Below half of the budget every body is accepted. Above it a key may hold a few times what is
left free, so that a key that fills the memory leaves room for others. While another key was
rejected lately, no key may hold more than its equal share.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from headgate.kit.errors import HeadgateError, Kind

SHARE = 4
"""Bytes that a key may hold for each free one: alone it gets four fifths of all."""
REFUSAL_REMEMBERED_SECONDS = 5.0
"""A key that was rejected counts as one that needs its share for so long."""
REFUSALS_MAX = 1024
RETRY_SECONDS = 1.0


class BodyMemoryExhaustedError(HeadgateError):
    """The gateway holds as many bodies as it has memory for.

    Try again in a moment.
    """

    kind = Kind.UNAVAILABLE
    code = "overloaded"


class BodyOverBudgetError(HeadgateError):
    """The body is larger than all bodies together may be.

    Send less, or raise the limit that the message names.
    """

    kind = Kind.TOO_LARGE
    code = "request_too_large"


class BodyBudget:
    """Limit the memory of one process for bodies. `taken` is what they occupy now, in bytes."""

    def __init__(self, bytes_max: int, now: Callable[[], float] = time.monotonic) -> None:
        self.bytes_max = bytes_max
        self.taken = 0
        self.refusals = 0
        self._unchecked_bytes = bytes_max // 2
        self._held: dict[str, int] = {}
        self._refused_until: dict[str, float] = {}
        """Until when a key that was rejected counts as one that needs its share, by key id."""
        self._now = now

    def take(self, key_id: str, size: int) -> None:
        """Count a body, or a further part of one, for a key.

        Raise `BodyMemoryExhaustedError`, or `BodyOverBudgetError` for a body that can never fit;
        then nothing is counted.
        """
        held = self._held.get(key_id, 0) + size
        taken = self.taken + size
        if taken > self._unchecked_bytes:
            self._check(key_id, size, held=held, free=self.bytes_max - taken)
        self._held[key_id] = held
        self.taken = taken

    def give(self, key_id: str, size: int) -> None:
        self.taken -= size
        held = self._held[key_id] - size
        if held:
            self._held[key_id] = held
        else:
            del self._held[key_id]

    def _check(self, key_id: str, size: int, *, held: int, free: int) -> None:
        if size > self.bytes_max:
            raise BodyOverBudgetError(
                f"The body has {size} bytes; all bodies together may take {self.bytes_max} bytes "
                "on this server."
            )
        # Alone, one body may take everything: a large one could never pass otherwise.
        is_alone = free >= 0 and not self.taken
        if is_alone or (held <= SHARE * free and held <= self._find_fair_share(key_id)):
            self._refused_until.pop(key_id, None)
            return
        self.refusals += 1
        self._note_refusal(key_id)
        raise BodyMemoryExhaustedError(
            "The gateway has no memory left for another body. Try again in a moment.",
            retry_after_seconds=RETRY_SECONDS,
        )

    def _find_fair_share(self, key_id: str) -> int:
        """Return the most that a key may hold now: everything, or its equal share while others
        wait."""
        now = self._now()
        self._refused_until = {
            each: until for each, until in self._refused_until.items() if until > now
        }
        if not self._refused_until.keys() - {key_id}:
            return self.bytes_max
        return self.bytes_max // len(self._held.keys() | self._refused_until.keys() | {key_id})

    def _note_refusal(self, key_id: str) -> None:
        if len(self._refused_until) < REFUSALS_MAX:
            self._refused_until[key_id] = self._now() + REFUSAL_REMEMBERED_SECONDS

"""Stand between the pipeline and the client of a call, and keep what the client gets."""

from __future__ import annotations

from headgate.kit.errors import HeadgateError
from headgate.relay.call import Caller, CallerListener

CAPTURED_AT_ONCE = 64 * 1024
"""Memory is counted for captured bytes in such steps."""


class CallerWrapper:
    """Pass everything on to the caller that it wraps (`relay.call.Caller`).

    Subclasses change what they have to.
    """

    def __init__(self, caller: Caller) -> None:
        self.takes_trailers = caller.takes_trailers
        self._caller = caller

    @property
    def gone(self) -> bool:
        return self._caller.gone

    @property
    def sent_bytes(self) -> int:
        return self._caller.sent_bytes

    @property
    def has_enough(self) -> bool:
        return self._caller.has_enough

    @property
    def client_address(self) -> str:
        return self._caller.client_address

    def reserve_memory(self, size: int) -> None:
        self._caller.reserve_memory(size)

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        self._caller.answer(status, head, body)

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        self._caller.start(status, head, trailer_names)
        # The edge decides about trailers when it sends the head.
        self.takes_trailers = self._caller.takes_trailers

    def write(self, data: bytes) -> None:
        self._caller.write(data)

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        self._caller.finish(complete=complete, trailers=trailers)

    def set_listener(self, listener: CallerListener | None) -> None:
        self._caller.set_listener(listener)

    def abandon(self) -> None:
        self._caller.abandon()


class CapturedBody:
    """Keep the body of an answer up to `bytes_max`, in memory that is counted for its caller. One
    that is larger, or for which there is no memory, is dropped; `size` counts it on."""

    __slots__ = ("_bytes_max", "_caller", "_counted_bytes", "is_too_large", "pieces", "size")

    def __init__(self, caller: Caller, bytes_max: int) -> None:
        self._caller = caller
        self._bytes_max = bytes_max
        self._counted_bytes = 0
        self.pieces: list[bytes] = []
        self.size = 0
        self.is_too_large = False

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.is_too_large:
            return
        if self.size > self._bytes_max:
            self._drop()
            return
        if self.size > self._counted_bytes:
            try:
                self._caller.reserve_memory(CAPTURED_AT_ONCE + len(data))
            except HeadgateError:
                self._drop()
                return
            self._counted_bytes += CAPTURED_AT_ONCE + len(data)
        self.pieces.append(data)

    def _drop(self) -> None:
        self.is_too_large = True
        self.pieces = []

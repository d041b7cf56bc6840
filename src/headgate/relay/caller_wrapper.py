"""Stand between the pipeline and the client of a call."""

from __future__ import annotations

from headgate.relay.call import Caller, CallerListener


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

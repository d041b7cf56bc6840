"""Resolve names by the operating system, in a bounded number of threads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

from headgate.kit.errors import drop_trace
from headgate.kit.http.errors import ConnectError, PoolExhaustedError

LOOKUPS_MAX = 32


def resolve_host(host: str) -> list[str]:
    """Return all addresses of a name, without duplicates; this blocks. Raise OSError, and
    UnicodeError for an impossible name."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class SystemLookup:
    """Implement `guard.Lookup` by the system's resolver, on one running loop.

    Callers who ask for one name at the same time share one question; no answer is cached. The
    system cannot be interrupted, so a silent name server keeps a thread until the system gives up;
    the number of such threads is bounded, and they never delay an exit.
    """

    def __init__(
        self, *, lookups_max: int = LOOKUPS_MAX, ask: Callable[[str], list[str]] = resolve_host
    ) -> None:
        self._lookups_max = lookups_max
        self._ask = ask
        self._running: dict[str, asyncio.Future[list[str] | Exception]] = {}

    async def find(self, host: str) -> Sequence[str]:
        """Return the addresses of a name. Other callers keep waiting when one is cancelled."""
        answer = self._running.get(host)
        if answer is None:
            answer = self._start(host)
        outcome = await asyncio.shield(answer)
        if isinstance(outcome, Exception):
            raise ConnectError(f"Cannot resolve {host}: {describe(outcome)}") from outcome
        return outcome

    def _start(self, host: str) -> asyncio.Future[list[str] | Exception]:
        if len(self._running) >= self._lookups_max:
            raise PoolExhaustedError(f"{self._lookups_max} names are being resolved already.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str] | Exception] = loop.create_future()

        def settle(outcome: list[str] | Exception) -> None:
            del self._running[host]
            if not answer.done():
                answer.set_result(outcome)

        def work() -> None:
            outcome: list[str] | Exception
            try:
                outcome = self._ask(host)
            except (OSError, UnicodeError) as error:
                outcome = drop_trace(error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, outcome)

        thread = threading.Thread(target=work, name="headgate-lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise PoolExhaustedError(f"No name can be resolved now: {error}.") from error
        self._running[host] = answer
        return answer


def describe(error: Exception) -> str:
    """Return what the system says about an error, without its number."""
    return str(getattr(error, "strerror", None) or error)

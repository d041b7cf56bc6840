"""Hashes and verifies passwords (argon2id) in a few threads of low priority.

One check takes about 20 ms of CPU and 19 MiB. Without a bound, many logins at once would take all
CPUs from model calls. So there is one thread per two CPUs and two at most, they yield to the rest
of the process, and the queue before them is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2
import msgspec

from headgate.accounts.model import SignInFailedError
from headgate.kit.errors import HeadgateError, Kind

MEMORY_KIBIBYTES = 19 * 1024
ITERATIONS = 2
PARALLELISM = 1
THREADS_MAX = 2
WAITING_MAX = 32
NICENESS = 10
RETRY_SECONDS = 2.0

Result = TypeVar("Result")


class SignInOverloadedError(HeadgateError):
    """Too many sign-ins are being checked at this moment.

    Wait for the seconds in `Retry-After`, then try again.
    """

    kind = Kind.LIMITED
    code = "sign_in_crowded"


class PasswordCheck(msgspec.Struct, frozen=True):
    """Hold the result of a check. `needs_rehash` says that the hash has outdated parameters."""

    is_correct: bool
    needs_rehash: bool = False


class PasswordHasher:
    def __init__(self, *, waiting_max: int = WAITING_MAX) -> None:
        self._argon = argon2.PasswordHasher(
            time_cost=ITERATIONS, memory_cost=MEMORY_KIBIBYTES, parallelism=PARALLELISM
        )
        self.threads = min(THREADS_MAX, max(1, (os.cpu_count() or 1) // 2))
        self._waiting_max = waiting_max
        self._waiting = 0
        self._dummy_hash: str | None = None
        self._executor = ThreadPoolExecutor(
            self.threads, thread_name_prefix="headgate-password", initializer=_lower_priority
        )

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raise `SignInOverloadedError`."""
        return await self._run(lambda: self.hash_blocking(password))

    async def verify(self, stored: str | None, password: str) -> PasswordCheck:
        """Check a password against a stored hash. Raise `SignInOverloadedError`.

        Without a stored hash the answer is no after the same work, so that response times do not
        tell whether an account exists.
        """
        return await self._run(lambda: self._verify_now(stored, password))

    def hash_blocking(self, password: str) -> str:
        """Hash in the calling thread, for the command line."""
        return self._argon.hash(_encode(password))

    def _verify_now(self, stored: str | None, password: str) -> PasswordCheck:
        # Made at the first use, since it takes as long as a check.
        if self._dummy_hash is None:
            self._dummy_hash = self.hash_blocking("nobody has this password")
        reference_hash = stored or self._dummy_hash
        try:
            self._argon.verify(reference_hash, _encode(password))
        except argon2.exceptions.VerificationError:
            return PasswordCheck(is_correct=False)
        except argon2.exceptions.InvalidHashError as error:
            raise SignInFailedError(
                "The stored password hash is corrupt. Set a new password."
            ) from error
        return PasswordCheck(stored is not None, self._argon.check_needs_rehash(reference_hash))

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= self._waiting_max:
            raise SignInOverloadedError(
                "Too many people are signing in at the moment. Try again.",
                retry_after_seconds=RETRY_SECONDS,
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _encode(password: str) -> bytes:
    """Normalize, so that every keyboard's composition of a character gives the same bytes."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _lower_priority() -> None:
    """Lower the priority of this thread. Only Linux has one per thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

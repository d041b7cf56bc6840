"""Hashes and checks passwords (argon2id), away from the event loop and few at a time.

One check takes about 20 ms of a processor and 19 MiB. Without a bound, a flood of logins would
take all processors from the calls: so one thread for two processors, two at most, which give way
to the rest of the process, and a short line before them.
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
    """Too many want to sign in at this moment."""

    kind = Kind.LIMITED
    code = "sign_in_crowded"


class PasswordCheck(msgspec.Struct, frozen=True):
    """Whether a password is the right one; `needs_rehash` where its hash should be made anew."""

    is_correct: bool
    needs_rehash: bool = False


class PasswordHasher:
    """The only place in which passwords are hashed."""

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
        """What is stored of a password. Raises `SignInOverloadedError`."""
        return await self._run(lambda: self.hash_blocking(password))

    async def verify(self, stored: str | None, password: str) -> PasswordCheck:
        """Whether this is the password. Where none is stored the answer is no, after the same
        work: nobody learns from the time whether there is such a person. Raises
        `SignInOverloadedError`."""
        return await self._run(lambda: self._verify_now(stored, password))

    def hash_blocking(self, password: str) -> str:
        """As `hash`, in this thread; for the command line."""
        return self._argon.hash(_encode(password))

    def _verify_now(self, stored: str | None, password: str) -> PasswordCheck:
        if self._dummy_hash is None:
            self._dummy_hash = self.hash_blocking("nobody has this password")
        compared = stored or self._dummy_hash
        try:
            self._argon.verify(compared, _encode(password))
        except argon2.exceptions.VerificationError:
            return PasswordCheck(is_correct=False)
        except argon2.exceptions.InvalidHashError as error:
            raise SignInFailedError("The stored password cannot be read; set it anew.") from error
        return PasswordCheck(stored is not None, self._argon.check_needs_rehash(compared))

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= self._waiting_max:
            raise SignInOverloadedError(
                "Too many are signing in at this moment. Try again.",
                retry_after_seconds=RETRY_SECONDS,
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _encode(password: str) -> bytes:
    """The same bytes however a keyboard has composed the same characters."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _lower_priority() -> None:
    """On Linux a thread has a niceness of its own; elsewhere it would be the process's."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

"""Claim the right to run a request once, and keep its answer: the values, without their storage.

A claim is made before the work and committed. It ends with an answer, is freed, or is left behind
by a process that died; then its lease runs out.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable
from typing import Protocol

import msgspec


class ClaimState(enum.Enum):
    """Name what a request finds under its claim."""

    ACQUIRED = "acquired"
    """The request owns the claim and must run."""
    RUNNING = "running"
    """Another request owns the claim and still runs."""
    ANSWERED = "answered"
    REUSED = "reused"
    """The claim belongs to another request: the digests differ."""
    UNSTORED = "unstored"
    """It was answered, and the answer was not kept."""
    EXHAUSTED = "exhausted"
    """Nobody knows how its runs ended, and it may not run again."""


class ClaimRequest(msgspec.Struct, frozen=True):
    """Ask for a claim. `digest` tells one request from another, None where it is not known yet;
    `owner` is the id of this run."""

    id: bytes
    digest: bytes | None
    owner: str
    organization_id: str


class Claimed(msgspec.Struct, frozen=True):
    """Say what a request found. `owner` is the run that has the claim or answered it; `previous` is
    an earlier run of the same request of which nobody knows how it ended."""

    state: ClaimState
    owner: str
    answer: bytes = b""
    digest: bytes | None = None
    previous: str = ""


class ClaimEnding(enum.Enum):
    """Name how a run leaves its claim."""

    ANSWERED = "answered"
    UNSTORED = "unstored"
    UNKNOWN = "unknown"
    """The work may have been done: it may run once more, and no further time."""
    FREED = "freed"
    """Nothing was done, so the next request runs."""


class ClaimVerdict(msgspec.Struct, frozen=True):
    """Say how a run ends. `answer` is sealed; `previous` is that of `Claimed`."""

    id: bytes
    owner: str
    ending: ClaimEnding
    answer: bytes = b""
    digest: bytes | None = None
    previous: str = ""


class Claims(Protocol):
    """Keep claims for all processes."""

    def acquire(self, request: ClaimRequest) -> Awaitable[Claimed]:
        """Claim the request, committed on return. Raise a `HeadgateError` of kind UNAVAILABLE."""
        ...

    def track(self, request: ClaimRequest) -> None:
        """Extend the lease of an acquired claim from now on, until `forget`."""
        ...

    def forget(self, claim_id: bytes) -> None: ...

    def release(self, verdict: ClaimVerdict) -> None:
        """End a run that leaves no receipt, as soon as that is possible."""
        ...

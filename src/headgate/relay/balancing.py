"""Share the calls of a target out among its credentials, and leave out those that fail.

Calls are shared by weight: each call draws an order of the credentials, in which a heavier one
comes first more often. The order also says what is tried next when the first one fails. Calls with
a correlation id draw by a hash of it, so that a conversation stays with its credential, where the
provider has its prompt cached.

A credential is ejected when its calls fail while they would succeed elsewhere: after some failures
in a row, or when half of many failed. It rests, each time for longer, and is then used again. One
that answers 429 rests for a moment. An ejected credential is still tried after all others, so that
nothing is refused that could have been answered. All of this is known to one process only.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from headgate.kit.clock import Clock
from headgate.kit.http.message import Headers
from headgate.llm import provider_errors
from headgate.relay.targets import Target

CONSECUTIVE_FAILURES_MAX = 5
WINDOW_SECONDS = 60.0
WINDOW_CALLS_MIN = 20
"""A share of failures says nothing about fewer calls."""
FAILURES_SHARE_MAX = 0.5
EJECTION_SECONDS = 30.0
EJECTION_SECONDS_MAX = 600.0
RATE_LIMITED_SECONDS = 2.0
RATE_LIMITED_SECONDS_MAX = 60.0
FORGIVEN_SECONDS = 600.0
"""After so long without an ejection, the next one is the first again."""
KEPT_MAX = 4_096
RATE_LIMITED = 429
CREDENTIAL_FAULTS = frozenset({401, 403, 408, RATE_LIMITED})
"""Answers below 500 that say something about the credential rather than the request."""
REQUEST_FAULTS = frozenset({400, 413, 422})
"""Answers that the same request gets with any credential."""

log = structlog.get_logger(__name__)

HealthKey = tuple[str, str, str]
"""Organization, credential as the target names it, and model."""


class TargetAttempt(msgspec.Struct, frozen=True):
    """Hold one target with one credential. `slot` is the index of its target on the route, and
    `is_shared` says that the target has several credentials."""

    target: Target
    slot: int
    is_shared: bool = False


class CredentialHealth:
    """Count the calls of one credential that failed lately. Times are in monotonic seconds."""

    __slots__ = (
        "calls",
        "consecutive",
        "ejected_at",
        "ejected_until",
        "ejections",
        "failures",
        "window_at",
    )

    def __init__(self, now: float) -> None:
        self.window_at = now
        self.calls = 0
        self.failures = 0
        self.consecutive = 0
        self.ejections = 0
        self.ejected_at = -math.inf
        self.ejected_until = -math.inf

    def count(self, now: float, *, failed: bool) -> None:
        """Count a call. Of the window before this one, half is kept."""
        if now - self.window_at >= WINDOW_SECONDS:
            is_next = now - self.window_at < 2 * WINDOW_SECONDS
            self.calls, self.failures = (self.calls // 2, self.failures // 2) if is_next else (0, 0)
            self.window_at = now
        self.calls += 1
        self.failures += failed
        self.consecutive = self.consecutive + 1 if failed else 0

    @property
    def is_outlier(self) -> bool:
        return self.consecutive >= CONSECUTIVE_FAILURES_MAX or (
            self.calls >= WINDOW_CALLS_MIN and self.failures >= self.calls * FAILURES_SHARE_MAX
        )

    def eject(self, now: float) -> float:
        """Begin a rest, and return its seconds."""
        if now - self.ejected_at >= FORGIVEN_SECONDS:
            self.ejections = 0
        seconds = min(EJECTION_SECONDS_MAX, EJECTION_SECONDS * 2**self.ejections)
        self.ejections += 1
        self.ejected_at, self.ejected_until = now, now + seconds
        self.calls = self.failures = self.consecutive = 0
        return seconds


class Balancer:
    """Choose the credentials of calls, and learn from how the calls end."""

    def __init__(self, clock: Clock, *, draw: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._draw = draw
        self._health: dict[HealthKey, CredentialHealth] = {}
        self.ejections = 0
        """How often a credential was ejected."""

    @property
    def ejected(self) -> int:
        now = self._clock.monotonic()
        return sum(health.ejected_until > now for health in self._health.values())

    def spread(
        self, organization_id: str, targets: Sequence[Target], key: str | None
    ) -> list[TargetAttempt]:
        """Return the targets in order, one with several credentials once for each of them.

        `key` is what keeps calls together; None for a call that may go anywhere.
        """
        attempts: list[TargetAttempt] = []
        for slot, target in enumerate(targets):
            if target.credentials:
                attempts += [
                    TargetAttempt(replace(target, credential_name=name, credentials=()), slot, True)
                    for name in self._order(organization_id, target, key)
                ]
            else:
                attempts.append(TargetAttempt(target, slot))
        return attempts

    def _order(self, organization_id: str, target: Target, key: str | None) -> list[str]:
        """Return the credentials of a target in the order in which they are tried."""
        scores: list[tuple[float, float, str]] = []
        for name, weight in target.credentials:
            number = self._draw() if key is None else draw_by_hash(key, name)
            # The order of such numbers is a draw without replacement by weight.
            score = -math.log(max(number, 1e-300)) / weight
            until = self.find_rest(organization_id, name, target.model)
            scores.append((until, score, name))
        return [name for _, _, name in sorted(scores)]

    def find_rest(self, organization_id: str, name: str, model: str) -> float:
        """Return the seconds for which a credential is still ejected; 0.0 for a healthy one."""
        if not self._health:
            return 0.0
        health = self._health.get((organization_id, name, model))
        return 0.0 if health is None else max(0.0, health.ejected_until - self._clock.monotonic())

    def succeed(self, organization_id: str, target: Target) -> None:
        """Take a call that its target answered. It costs one look while nothing fails."""
        if self._health and target.credential_name is not None:
            key = (organization_id, target.credential_name, target.model)
            health = self._health.get(key)
            if health is not None:
                now = self._clock.monotonic()
                health.count(now, failed=False)
                if not health.failures and now - health.ejected_at >= FORGIVEN_SECONDS:
                    del self._health[key]

    def learn(self, organization_id: str, target: Target, status: int, headers: Headers) -> None:
        """Take the head of an answer."""
        if status < 400:
            self.succeed(organization_id, target)
            return
        wait = provider_errors.parse_retry_after(headers, self._clock.now())
        if wait is None and status == RATE_LIMITED:
            wait = provider_errors.parse_reset(headers)
        self.fail(organization_id, target, status=status, wait_seconds=wait)

    def fail(
        self,
        organization_id: str,
        target: Target,
        *,
        status: int,
        wait_seconds: float | None = None,
    ) -> None:
        """Take a call that its target failed: with the status of its answer, or that of the error
        in its place. `wait_seconds` is how long the provider asks to wait."""
        name = target.credential_name
        if name is None or (status < 500 and status not in CREDENTIAL_FAULTS):
            return
        now, key = self._clock.monotonic(), (organization_id, name, target.model)
        health = self._health.get(key) or self._make(key, now)
        health.count(now, failed=True)
        if status == RATE_LIMITED:
            asked = wait_seconds or RATE_LIMITED_SECONDS * 2 ** min(health.consecutive - 1, 5)
            seconds = min(asked, RATE_LIMITED_SECONDS_MAX)
            health.ejected_until = max(health.ejected_until, now + seconds)
        elif health.ejected_until <= now and health.is_outlier:
            seconds = health.eject(now)
            self.ejections += 1
            log.warning(
                "balancing.ejected", credential=name, model=target.model, rest_seconds=seconds
            )

    def _make(self, key: HealthKey, now: float) -> CredentialHealth:
        if len(self._health) >= KEPT_MAX:
            # The one that was made first.
            del self._health[next(iter(self._health))]
        health = self._health[key] = CredentialHealth(now)
        return health


def draw_by_hash(key: str, name: str) -> float:
    """Return a number from 0 to 1 that is always the same for a key and a name."""
    digest = hashlib.blake2b(f"{key}\n{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / (2**64 + 1)


def find_next(
    attempts: Sequence[TargetAttempt], index: int, *, status: int, sent: bool
) -> int | None:
    """Return the index of the attempt after a failed one; None after the last.

    A request that its provider finds faulty is not sent to the same model with another credential.
    """
    slot = attempts[index].slot
    skips = sent and status in REQUEST_FAULTS
    for following in range(index + 1, len(attempts)):
        if attempts[following].slot != slot or not skips:
            return following
    return None

"""Lets a provider rest that only fails, and asks it from time to time whether it is back.

A breaker opens after some consecutive failures of one credential at one origin. Then its calls
fail at once, with nothing sent, until the time of a probe: one single call that is let through. If
the probe is answered everything goes on; if not, the provider rests again.

A failure is what another call would meet as well: no connection, no answer in time, an answer that
breaks off, a 5xx that is worth a retry. A refusal of the request or of its rate (4xx) shows a
provider that works. State exists only for credentials that failed of late, so a healthy call costs
one look into a dictionary that is empty.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Origin
from headgate.relay.ports import Credential

log = structlog.get_logger(__name__)


class ProviderResting(HeadgateError):
    """Nothing is sent: the provider has failed too often, and it is not the time of a probe."""

    kind = Kind.UNAVAILABLE
    code = "provider_circuit_open"


class Breaker:
    """The failures of one credential at its origin. Times are in monotonic seconds."""

    __slots__ = ("changed_at", "failures", "opened", "origin", "probe_at", "probing")

    def __init__(self, origin: Origin, now: float) -> None:
        self.origin = origin
        self.failures = 0
        self.changed_at = now
        self.opened = False
        self.probe_at = 0.0
        """While open: when the next probe may be sent."""
        self.probing = False

    def is_resting(self, now: float) -> bool:
        """Whether nothing may be sent now."""
        return self.opened and (self.probing or now < self.probe_at)


class Breakers:
    """The breakers of one process."""

    KEPT_MAX = 4096

    def __init__(self, clock: Clock, *, failures: int = 5, open_seconds: float = 30.0) -> None:
        """`failures` in a row open a breaker, for `open_seconds`; 0 is never."""
        self._clock = clock
        self._failures_max = failures
        self._open_seconds = open_seconds
        self._failing: dict[str, Breaker] = {}
        self.openings = 0
        """How often a breaker opened; a probe that failed does not count again."""

    def __len__(self) -> int:
        return len(self._failing)

    @property
    def open(self) -> int:
        """How many are open now."""
        return sum(breaker.opened for breaker in self._failing.values())

    def check(self, credential: Credential) -> None:
        """Raise `ProviderResting` if nothing may be sent. Whoever can choose asks before."""
        if self._failing and (breaker := self._find(credential)) is not None:
            now = self._clock.monotonic()
            if breaker.is_resting(now):
                raise self._refuse(credential, breaker, now)

    def enter(self, credential: Credential) -> bool:
        """As `check`, just before sending. Whether this attempt is the probe, whose end must be
        told by `succeed`, `fail` or `abandon`."""
        if not self._failing or (breaker := self._find(credential)) is None or not breaker.opened:
            return False
        now = self._clock.monotonic()
        if breaker.is_resting(now):
            raise self._refuse(credential, breaker, now)
        breaker.probing = True
        # Also a probe that nobody hears of again is the only one of its time.
        breaker.probe_at = now + self._open_seconds
        return True

    def is_resting(self, credential: Credential) -> bool:
        """Whether a further attempt is pointless now."""
        breaker = self._find(credential)
        return breaker is not None and breaker.is_resting(self._clock.monotonic())

    def succeed(self, credential: Credential, *, probe: bool) -> None:
        """The provider answered. One that rests is woken by its probe only: other calls that end
        now were sent before."""
        if not self._failing or (breaker := self._find(credential)) is None:
            return
        if breaker.opened and not probe:
            return
        del self._failing[credential.id]
        if breaker.opened:
            log.info("breaker.closed", **_describe(credential))

    def fail(self, credential: Credential, *, probe: bool) -> None:
        """The provider failed."""
        if not self._failures_max:
            return
        now = self._clock.monotonic()
        breaker = self._find(credential) or self._make(credential, now)
        if breaker.opened and not probe:
            return
        breaker.changed_at = now
        breaker.failures += 1
        breaker.probing = False
        if breaker.failures >= self._failures_max:
            breaker.probe_at = now + self._open_seconds
            if not breaker.opened:
                breaker.opened = True
                self.openings += 1
                log.warning(
                    "breaker.opened",
                    failures=breaker.failures,
                    open_seconds=self._open_seconds,
                    **_describe(credential),
                )

    def abandon(self, credential: Credential) -> None:
        """The probe ended without an answer, and it is not the provider's fault."""
        breaker = self._find(credential)
        if breaker is not None:
            breaker.probing = False

    def _find(self, credential: Credential) -> Breaker | None:
        breaker = self._failing.get(credential.id)
        return breaker if breaker is not None and breaker.origin == credential.origin else None

    def _make(self, credential: Credential, now: float) -> Breaker:
        if len(self._failing) >= self.KEPT_MAX:
            self._prune(now)
        breaker = self._failing[credential.id] = Breaker(credential.origin, now)
        return breaker

    def _prune(self, now: float) -> None:
        """Drop what has not changed for a while; else the oldest, which then has to fail anew."""
        rest = 2 * self._open_seconds
        kept = {
            name: breaker
            for name, breaker in self._failing.items()
            if breaker.probing or now - breaker.changed_at < rest
        }
        while len(kept) >= self.KEPT_MAX:
            del kept[next(iter(kept))]
        self._failing = kept

    def _refuse(self, credential: Credential, breaker: Breaker, now: float) -> ProviderResting:
        seconds = max(1.0, breaker.probe_at - now)
        until = datetime.fromtimestamp(self._clock.now() + seconds, UTC)
        return ProviderResting(
            f"The provider `{credential.integration}` fails through the credential "
            f"`{credential.name}`, so nothing is sent there until {until:%H:%M:%S} UTC, when one "
            "call will try whether it is back. Nothing was sent or charged. Wait, or use another "
            "credential.",
            retry_after_seconds=seconds,
            should_retry=False,
        )


def _describe(credential: Credential) -> dict[str, str]:
    return {
        "credential_id": credential.id,
        "name": credential.name,
        "integration": credential.integration,
    }

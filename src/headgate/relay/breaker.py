"""Stop sending to a provider that only fails, and probe it from time to time.

There are two kinds of breaker (decisions 0008 and 0017). The breaker of an origin opens after
consecutive calls that could not connect to it, whoever made them. The breaker of a credential, its
origin and a model opens after consecutive calls that reached the provider and failed there, so that
the failures of one model or account open no other breaker. Calls of an open breaker fail at once,
with nothing sent, until a probe is due: one single call that is let through. An answered probe
closes the breaker, a failed one keeps it open.

A failure is what another call would meet as well: no connection, no answer in time, an answer that
breaks off, a 5xx that is worth a retry. A call counts once, however often it was retried. A 4xx
shows a provider that works. State exists only for what failed lately, so a healthy call costs one
look into an empty dictionary.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Origin
from headgate.relay.ports import Credential

log = structlog.get_logger(__name__)


class CircuitOpenError(HeadgateError):
    """The provider has failed repeatedly, so the gateway sends it nothing for a while. Nothing was
    charged.

    Wait for the seconds in `Retry-After`, or use another model.
    """

    kind = Kind.UNAVAILABLE
    code = "provider_circuit_open"


BreakerKey = tuple[str, Origin, str]
"""Credential id, origin and model; the first and last are empty for the breaker of an origin."""
MODEL_CHARACTERS_MAX = 256
"""Callers choose the names of models, so a key holds only a prefix of this length."""


class Breaker:
    """Count the consecutive failures of one key. Times are in monotonic seconds."""

    __slots__ = ("changed_at", "failures", "key", "opened", "probe_at", "probing")

    def __init__(self, key: BreakerKey, now: float) -> None:
        self.key = key
        self.failures = 0
        self.changed_at = now
        self.opened = False
        self.probe_at = 0.0
        """When the next probe may be sent, while the breaker is open."""
        self.probing = False

    def rejects(self, now: float) -> bool:
        """Return whether calls are rejected now: the breaker is open, and no probe is due."""
        return self.opened and (self.probing or now < self.probe_at)


Probes = tuple[Breaker, ...]
"""The open breakers for which one call is the probe, mostly none."""


class Breakers:
    KEPT_MAX = 4096

    def __init__(self, clock: Clock, *, failures: int = 5, open_seconds: float = 30.0) -> None:
        """Open a breaker after `failures` in a row, for `open_seconds`; with 0 failures none ever
        opens."""
        self._clock = clock
        self._failures_max = failures
        self._open_seconds = open_seconds
        self._failing: dict[BreakerKey, Breaker] = {}
        self.openings = 0
        """How often a breaker opened; a failed probe does not count again."""

    def __len__(self) -> int:
        return len(self._failing)

    @property
    def open(self) -> int:
        return sum(breaker.opened for breaker in self._failing.values())

    def check(self, credential: Credential, model: str | None) -> None:
        """Raise `CircuitOpenError` if a call would be rejected now. Changes nothing."""
        # The usual case: nothing has failed lately, and the check costs one look.
        if not self._failing:
            return
        now = self._clock.monotonic()
        for breaker in self._find(credential, model):
            if breaker.rejects(now):
                raise self._refuse(credential, breaker, now)

    def admit(self, credential: Credential, model: str | None) -> Probes:
        """Check as `check` does, just before a call is sent; return the breakers that the call
        probes.

        The end of the call must be reported by `succeed`, `fail`, `fail_to_connect` or
        `release_probes`.
        """
        if not self._failing:
            return ()
        self.check(credential, model)
        now = self._clock.monotonic()
        probes = tuple(breaker for breaker in self._find(credential, model) if breaker.opened)
        for breaker in probes:
            breaker.probing = True
            # A probe whose end is never reported blocks others only for this period.
            breaker.probe_at = now + self._open_seconds
        return probes

    def rejects(self, credential: Credential, model: str | None) -> bool:
        """Return whether a further attempt is pointless, because a breaker opened meanwhile."""
        if not self._failing:
            return False
        now = self._clock.monotonic()
        return any(breaker.rejects(now) for breaker in self._find(credential, model))

    def succeed(self, credential: Credential, model: str | None, probes: Probes) -> None:
        """Report a call that the provider answered.

        It closes an open breaker only if it was its probe: other calls that end now were sent
        before the breaker opened.
        """
        if self._failing:
            for breaker in self._find(credential, model):
                self._close(credential, breaker, probes)

    def fail(self, credential: Credential, model: str | None, probes: Probes) -> None:
        connecting, answering = _find_keys(credential, model)
        if (breaker := self._failing.get(connecting)) is not None:
            self._close(credential, breaker, probes)
        self._count(credential, answering, probes)
        self.release_probes(probes)

    def fail_to_connect(self, credential: Credential, probes: Probes) -> None:
        self._count(credential, _find_keys(credential, None)[0], probes)
        self.release_probes(probes)

    def release_probes(self, probes: Probes) -> None:
        """End the probes of a call without a result, so that another call may probe."""
        for breaker in probes:
            breaker.probing = False

    def _find(self, credential: Credential, model: str | None) -> list[Breaker]:
        keys = _find_keys(credential, model)
        return [self._failing[key] for key in keys if key in self._failing]

    def _close(self, credential: Credential, breaker: Breaker, probes: Probes) -> None:
        if breaker.opened and breaker not in probes:
            return
        del self._failing[breaker.key]
        if breaker.opened:
            log.info("breaker.closed", **_describe(credential, breaker))

    def _count(self, credential: Credential, key: BreakerKey, probes: Probes) -> None:
        if not self._failures_max:
            return
        now = self._clock.monotonic()
        breaker = self._failing.get(key) or self._make(key, now)
        # Calls that were sent before the breaker opened tell nothing new.
        if breaker.opened and breaker not in probes:
            return
        breaker.changed_at = now
        breaker.failures += 1
        if breaker.failures >= self._failures_max:
            breaker.probe_at = now + self._open_seconds
            if not breaker.opened:
                breaker.opened = True
                self.openings += 1
                log.warning(
                    "breaker.opened",
                    failures=breaker.failures,
                    open_seconds=self._open_seconds,
                    **_describe(credential, breaker),
                )

    def _make(self, key: BreakerKey, now: float) -> Breaker:
        if len(self._failing) >= self.KEPT_MAX:
            self._prune(now)
        breaker = self._failing[key] = Breaker(key, now)
        return breaker

    def _prune(self, now: float) -> None:
        """Drop breakers that have not changed for a while, and the oldest where that is not
        enough."""
        rest = 2 * self._open_seconds
        kept = {
            key: breaker
            for key, breaker in self._failing.items()
            if breaker.probing or now - breaker.changed_at < rest
        }
        while len(kept) >= self.KEPT_MAX:
            del kept[next(iter(kept))]
        self._failing = kept

    def _refuse(self, credential: Credential, breaker: Breaker, now: float) -> CircuitOpenError:
        seconds = max(1.0, breaker.probe_at - now)
        until = datetime.fromtimestamp(self._clock.now() + seconds, UTC)
        name, _, model = breaker.key
        if not name:
            trouble = f"The provider `{credential.integration}` cannot be connected to"
        else:
            of_model = f" for the model `{model}`" if model else ""
            trouble = f"The provider `{credential.integration}` fails{of_model} through the "
            trouble += f"credential `{credential.name}`"
        return CircuitOpenError(
            f"{trouble}, so nothing is sent there until {until:%H:%M:%S} UTC, when one call will "
            "try whether it is back. Nothing was sent or charged. Wait, or use another "
            f"{'model or ' if name and model else ''}credential.",
            retry_after_seconds=seconds,
            should_retry=False,
        )


def _find_keys(credential: Credential, model: str | None) -> tuple[BreakerKey, BreakerKey]:
    """Return the key of the origin's breaker, and that of the model's."""
    origin = credential.origin
    return ("", origin, ""), (credential.id, origin, (model or "")[:MODEL_CHARACTERS_MAX])


def _describe(credential: Credential, breaker: Breaker) -> dict[str, str]:
    return {
        "of": "model" if breaker.key[0] else "origin",
        "credential_id": credential.id,
        "name": credential.name,
        "integration": credential.integration,
        "model": breaker.key[2],
    }

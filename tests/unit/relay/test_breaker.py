from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from headgate.kit.http.message import Origin
from headgate.relay.breaker import Breakers, CircuitOpenError, Probes
from tests.fakes.pipeline import CREDENTIAL, ManualClock

FAILURES, OPEN_SECONDS = 3, 30.0
MODEL = "gpt-5.4"
NO_PROBE: Probes = ()


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.breakers = Breakers(self.clock, failures=FAILURES, open_seconds=OPEN_SECONDS)

    def fail(self, times: int = FAILURES) -> None:
        for _ in range(times):
            self.breakers.fail(CREDENTIAL, MODEL, self.breakers.admit(CREDENTIAL, MODEL))

    def fail_to_connect(self, times: int = FAILURES) -> None:
        for _ in range(times):
            self.breakers.fail_to_connect(CREDENTIAL, self.breakers.admit(CREDENTIAL, MODEL))

    def is_refused(self, model: str | None = MODEL) -> bool:
        try:
            self.breakers.check(CREDENTIAL, model)
        except CircuitOpenError:
            return True
        return False


def test_breaker_opens_after_its_failures_in_a_row_and_not_before() -> None:
    rig = Rig()
    rig.fail(FAILURES - 1)
    assert not rig.is_refused()
    rig.breakers.succeed(CREDENTIAL, MODEL, NO_PROBE)
    rig.fail(FAILURES - 1)
    assert not rig.is_refused()
    rig.fail(1)
    assert rig.is_refused()
    assert (rig.breakers.open, rig.breakers.openings) == (1, 1)


def test_refusal_names_the_provider_the_credential_and_the_time() -> None:
    rig = Rig()
    rig.fail()
    rig.clock.seconds += 12
    with pytest.raises(CircuitOpenError) as caught:
        rig.breakers.admit(CREDENTIAL, MODEL)
    error = caught.value
    assert "`openai`" in error.message
    assert "`main`" in error.message
    assert "08:17:10 UTC" in error.message, "it is 08:16:52 by the fake clock, and 18 s are left"
    assert CREDENTIAL.origin.host not in error.message
    assert (error.retry_after_seconds, error.should_retry) == (18, False)


def test_another_credential_or_another_origin_goes_on() -> None:
    rig = Rig()
    rig.fail()
    rig.breakers.check(replace(CREDENTIAL, id="cred_2"), MODEL)
    moved = replace(CREDENTIAL, origin=Origin("https", "eu.api.openai.com", 443))
    rig.breakers.check(moved, MODEL)
    assert rig.breakers.admit(moved, MODEL) == ()
    rig.breakers.succeed(moved, MODEL, NO_PROBE)
    assert rig.is_refused()


def test_failures_of_one_model_open_no_other_breaker() -> None:
    rig = Rig()
    rig.fail()
    assert rig.is_refused()
    assert not rig.is_refused("gpt-5.4-mini")
    assert not rig.is_refused(None)
    with pytest.raises(CircuitOpenError, match=r"for the model `gpt-5\.4` through"):
        rig.breakers.check(CREDENTIAL, MODEL)
    rig.breakers.succeed(CREDENTIAL, "gpt-5.4-mini", NO_PROBE)
    assert rig.is_refused(), "another model tells nothing of this one"


def test_breaker_of_an_unreachable_origin_opens_for_all_its_calls() -> None:
    rig = Rig()
    rig.fail_to_connect(FAILURES - 1)
    rig.breakers.fail(CREDENTIAL, MODEL, NO_PROBE)
    rig.fail_to_connect(FAILURES - 1)
    assert not rig.is_refused(), "a call that was answered had a connection"
    rig.fail_to_connect(1)
    for model in (MODEL, "gpt-5.4-mini", None):
        assert rig.is_refused(model)
    with pytest.raises(CircuitOpenError, match="cannot be connected to"):
        rig.breakers.check(replace(CREDENTIAL, id="cred_2"), MODEL)
    rig.breakers.check(replace(CREDENTIAL, origin=Origin("https", "eu.api.openai.com", 443)), MODEL)
    rig.clock.seconds += OPEN_SECONDS
    rig.breakers.succeed(CREDENTIAL, MODEL, rig.breakers.admit(CREDENTIAL, MODEL))
    assert len(rig.breakers) == 0


def test_one_call_probes_each_open_breaker() -> None:
    rig = Rig()
    rig.fail()
    rig.clock.seconds += OPEN_SECONDS
    other = "gpt-5.4-mini"
    for _ in range(FAILURES):
        rig.breakers.fail_to_connect(CREDENTIAL, rig.breakers.admit(CREDENTIAL, other))
    rig.clock.seconds += OPEN_SECONDS
    probes = rig.breakers.admit(CREDENTIAL, MODEL)
    assert len(probes) == 2
    assert rig.is_refused(other), "one call at a time tries the origin"
    rig.breakers.fail(CREDENTIAL, MODEL, probes)
    assert not rig.is_refused(other), "there was a connection"
    assert rig.is_refused()


def test_calls_that_were_sent_before_the_opening_change_nothing_when_they_end() -> None:
    rig = Rig()
    rig.fail()
    rig.clock.seconds += 20
    rig.breakers.fail(CREDENTIAL, MODEL, NO_PROBE)
    rig.breakers.succeed(CREDENTIAL, MODEL, NO_PROBE)
    assert rig.is_refused()
    rig.clock.seconds += 10
    assert not rig.is_refused(), "a late failure puts the probe not off"


def test_probe_that_takes_long_is_the_only_one() -> None:
    rig = Rig()
    rig.fail()
    rig.clock.seconds += OPEN_SECONDS
    probes = rig.breakers.admit(CREDENTIAL, MODEL)
    assert len(probes) == 1
    rig.clock.seconds += 10 * OPEN_SECONDS
    assert rig.is_refused()
    rig.breakers.release_probes(probes)
    assert not rig.is_refused()


def test_zero_failures_disable_the_breaker() -> None:
    breakers = Breakers(ManualClock(), failures=0)
    for _ in range(100):
        breakers.fail(CREDENTIAL, MODEL, NO_PROBE)
    assert (len(breakers), breakers.admit(CREDENTIAL, MODEL)) == (0, ())


def test_number_of_breakers_is_bounded() -> None:
    rig = Rig()
    rig.fail()
    for number in range(2 * Breakers.KEPT_MAX):
        rig.clock.seconds += 0.001
        rig.breakers.fail(CREDENTIAL, f"model-{number}", NO_PROBE)
        assert len(rig.breakers) <= Breakers.KEPT_MAX
    rig.clock.seconds += 2 * OPEN_SECONDS
    for number in range(Breakers.KEPT_MAX):
        rig.breakers.fail(replace(CREDENTIAL, id=f"cred_x{number}"), MODEL, NO_PROBE)
    assert len(rig.breakers) <= Breakers.KEPT_MAX
    assert rig.breakers.open == 0


class BreakerMachine(RuleBasedStateMachine):
    """Start, end and lose calls in any order, and check what may be in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.ordinary = 0
        self.probes: list[Probes] = []
        self.probed_at: list[float] = []
        self.failures = 0
        self.open = False

    @rule(seconds=st.sampled_from([0.1, 1.0, 29.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.seconds += seconds

    @rule()
    def a_call_begins(self) -> None:
        refused = self.rig.is_refused()
        assert self.open or not refused
        try:
            probes = self.rig.breakers.admit(CREDENTIAL, MODEL)
        except CircuitOpenError:
            assert refused
            return
        assert not refused
        assert bool(probes) == self.open
        if probes:
            self.probes.append(probes)
            self.probed_at.append(self.rig.clock.seconds)
        else:
            self.ordinary += 1

    @precondition(lambda self: self.ordinary)
    @rule(fails=st.booleans())
    def a_call_ends(self, fails: bool) -> None:
        self.ordinary -= 1
        if fails:
            self.rig.breakers.fail(CREDENTIAL, MODEL, NO_PROBE)
            self.failures += 1
            self.open = self.open or self.failures >= FAILURES
        else:
            self.rig.breakers.succeed(CREDENTIAL, MODEL, NO_PROBE)
            if not self.open:
                self.failures = 0

    @precondition(lambda self: self.probes)
    @rule(end=st.sampled_from(["succeeds", "fails", "is lost"]))
    def the_probe_ends(self, end: str) -> None:
        probes = self.probes.pop()
        if end == "succeeds":
            self.rig.breakers.succeed(CREDENTIAL, MODEL, probes)
            self.open, self.failures = False, 0
            self.probed_at.clear()
            assert not self.rig.is_refused()
        elif end == "fails":
            self.rig.breakers.fail(CREDENTIAL, MODEL, probes)
            assert self.rig.is_refused()
        else:
            self.rig.breakers.release_probes(probes)

    @invariant()
    def never_more_than_one_probe(self) -> None:
        assert len(self.probes) <= 1
        gaps = [
            later - sooner
            for sooner, later in zip(self.probed_at, self.probed_at[1:], strict=False)
        ]
        assert all(gap >= OPEN_SECONDS for gap in gaps)
        assert self.rig.breakers.open == int(self.open)


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

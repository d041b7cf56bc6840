"""Any bytes, cut anywhere, for every parser of untrusted bytes: the quick form of `make fuzz`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.llm.tap import StreamTap
from headgate.llm.usage import ParsedUsage
from headgate.llm.wire import chat
from rigs.fuzz import growth, session
from rigs.fuzz.targets import REGRESSIONS, TARGETS, Target

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@each_target
def test_every_check_holds_for_any_bytes(target: Target) -> None:
    words = st.one_of(st.sampled_from(target.words), st.binary(max_size=4))
    made = st.lists(words, max_size=30).map(b"".join)

    @settings(max_examples=100, deadline=None)
    @given(made)
    def check(data: bytes) -> None:
        target.check(data)

    check()
    target.check(b"")


@each_target
def test_seeds_and_former_regressions_pass(target: Target) -> None:
    seeds = list(target.read_seeds())
    assert seeds
    for data in seeds + [content for _, content in target.read_regressions()]:
        target.check(data)


@each_target
def test_time_grows_with_the_bytes_only(target: Target) -> None:
    for word in target.words:
        assert growth.measure_growth(target, word) <= growth.RATIO_MAX, word


def test_an_endless_event_in_single_bytes_passes_in_linear_time() -> None:
    def feed(data: bytes) -> None:
        tap = StreamTap(chat.METER, ParsedUsage(), drop_usage=False, event_bytes_max=len(data) - 2)
        assert sum(len(tap.feed(b"x")) for _ in data) < len(data)

    assert growth.measure_growth(Target("endless", feed, (b"xxx",)), b"x") <= growth.RATIO_MAX


def test_every_folder_of_regressions_is_of_a_target() -> None:
    found = {path.name for path in REGRESSIONS.glob("*/")} if REGRESSIONS.exists() else set[str]()
    assert found <= set(TARGETS)


def test_growth_tells_quadratic_work_from_linear() -> None:
    def square(data: bytes) -> None:
        for _ in range(len(data) // 64):
            data.count(b"ab")

    target = Target("square", square, (b"ab",))
    assert growth.measure_growth(target, b"ab") > growth.RATIO_MAX


def test_figures_are_read_from_the_log_of_the_fuzzer() -> None:
    log = "#512\tpulse  cov: 88 ft: 300\n#79967\tDONE   cov: 91 ft: 385\nDone 79967 runs in 9 s\n"
    outcome = session.read_outcome(TARGETS["tap"], log, 9, growth=8.0, findings=["x"])
    assert (outcome.executions, outcome.coverage, outcome.findings) == (79967, 91, ("x",))

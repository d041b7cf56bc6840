from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from headgate.kit.failpoint import FailpointError, InvalidFailpointError, arm, failpoint
from headgate.settings import FAILPOINTS

SOURCES = Path(__file__).parents[3] / "src" / "headgate"


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    yield
    arm()


def test_unarmed_failpoints_do_nothing() -> None:
    arm(test_mode=True)
    for name in FAILPOINTS:
        failpoint(name)


def test_failpoint_acts_at_the_nth_time_only() -> None:
    arm("after_hold=raise@2, first_byte=sleep:0.01", test_mode=True)
    failpoint("after_hold")
    with pytest.raises(FailpointError):
        failpoint("after_hold")
    failpoint("after_hold")
    started = time.monotonic()
    failpoint("first_byte")
    assert time.monotonic() - started >= 0.01


def test_kill_ends_the_process() -> None:
    code = (
        "from headgate.kit.failpoint import arm, failpoint\n"
        "arm('before_commit=kill', test_mode=True)\n"
        "failpoint('before_commit')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9


def test_failpoint_outside_of_test_mode_is_refused() -> None:
    with pytest.raises(InvalidFailpointError, match="HEADGATE_TEST_MODE"):
        arm("after_hold=kill")


@pytest.mark.parametrize(
    "text", ["after_hold", "after_hold=kil", "nowhere=kill", "after_hold=kill@0"]
)
def test_invalid_failpoint_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(InvalidFailpointError, match="before_last_frame"):
        arm(text, FAILPOINTS, test_mode=True)


@pytest.mark.parametrize("name", FAILPOINTS)
def test_failpoint_is_at_one_place(name: str) -> None:
    texts = [path.read_text() for path in SOURCES.rglob("*.py")]
    assert sum([text.count(f'failpoint("{name}")') for text in texts]) == 1

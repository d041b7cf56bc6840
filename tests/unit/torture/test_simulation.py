"""K6, the quick form. Repeat a seed: `python -m rigs.torture --only K6 --seed N --seeds 1`."""

from __future__ import annotations

import pytest

from rigs.torture.simulation import Simulator, simulate

SEEDS = 100


@pytest.mark.timeout(240)
def test_ledger_survives_a_crash_at_any_await() -> None:
    tally = simulate(1, SEEDS)
    assert tally.findings == []
    assert tally.crashes > SEEDS
    assert tally.whole > SEEDS


def test_seed_replays_bit_for_bit() -> None:
    simulator = Simulator()
    try:
        traces = [simulator.run(seed).trace.hexdigest() for seed in (7, 8, 7)]
    finally:
        simulator.close()
    assert traces[0] == traces[2] != traces[1]

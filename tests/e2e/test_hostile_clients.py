"""The rig of hostile clients in its short form; `python -m rigs.clients` is the full one.

Times of the healthy client are not checked here, because the test machine is busy.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rigs.clients import QUICK, measure

NOISY = ("p99", "memory for each")


@pytest.mark.prove
def test_hostile_clients_are_cut_and_the_healthy_one_is_served(tmp_path: Path) -> None:
    figures = measure(QUICK, tmp_path)
    judged = [figure for figure in figures if not any(word in figure.name for word in NOISY)]
    assert len(judged) >= 16
    assert [figure.render() for figure in judged if not figure.is_good] == []

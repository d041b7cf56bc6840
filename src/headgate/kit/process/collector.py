"""Tune the garbage collector for a server whose requests leave no cycles behind."""

from __future__ import annotations

import gc

THRESHOLDS = (10_000, 10, 20)
"""When the three generations are collected. The youngest: at so many more objects than after its
last collection, which takes 0.2 ms; the others: after so many collections of the one before.

A call leaves no reference cycle behind, whether it succeeds or fails
(`tests/unit/relay/test_memory_release.py`), so nothing large waits for the collector. It only has
to find rare cycles of libraries. At ten times the default threshold, calls seldom pay for it, and
a cycle that was overlooked is found after thousands of calls, not after millions.
"""


def tune_collector() -> None:
    """Exempt what exists now from garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

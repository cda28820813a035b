"""Interleaved timing: every case runs once a round, so that a noisy machine slows all alike.

A figure in nanoseconds from a shared machine means little; the ratio of two medians from the
same rounds means much. That is the only thing the callers of this module judge by.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time.

    Attributes:
        name: what it is, as the tables print it.
        run: called with a loop count; does the work that many times and returns nothing, or
            returns the seconds it measured itself (for work in another process).
        items: how many items one loop handles; times are given per item.
    """

    name: str
    run: Callable[[int], float | None]
    items: int = 1


def _seconds(case: Case, loops: int) -> float:
    start = time.perf_counter()
    measured = case.run(loops)
    elapsed = time.perf_counter() - start
    return elapsed if measured is None else measured


def _calibrate(case: Case, slice_seconds: float) -> int:
    loops = 1
    while True:
        elapsed = _seconds(case, loops)
        if elapsed >= slice_seconds / 2 or loops >= 1 << 30:
            return max(1, int(loops * slice_seconds / max(elapsed, 1e-9)))
        loops *= 4


def interleave(
    cases: Iterable[Case], *, rounds: int = 25, slice_seconds: float = 0.01
) -> dict[str, list[float]]:
    """Time all cases in interleaved rounds.

    Args:
        cases: what to time; names must differ.
        rounds: how many times each case is timed.
        slice_seconds: about how long one timing of one case lasts.

    Returns:
        For each name the nanoseconds per item of every round, in round order.
    """
    plan = [(case, _calibrate(case, slice_seconds)) for case in cases]
    results: dict[str, list[float]] = {case.name: [] for case, _ in plan}
    assert len(results) == len(plan), "case names must differ"
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for case, loops in plan:
                elapsed = _seconds(case, loops)
                results[case.name].append(elapsed * 1e9 / (loops * case.items))
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return results


def ratio(results: dict[str, list[float]], ours: str, peer: str) -> float:
    """The median of our times over the median of the peer's, below 1 where we are faster."""
    return statistics.median(results[ours]) / statistics.median(results[peer])

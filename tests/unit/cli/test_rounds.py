"""The timing harness times what it is given, in rounds."""

from __future__ import annotations

import time

from nexus.cli.rounds import Case, interleave, ratio


def test_rounds_interleave_and_divide_by_items() -> None:
    order: list[str] = []

    def fixed(name: str, seconds: float):
        def run(loops: int) -> float:
            order.append(name)
            return seconds * loops

        return run

    cases = [Case("one", fixed("one", 1e-3)), Case("two", fixed("two", 1e-3), items=4)]
    results = interleave(cases, rounds=3, slice_seconds=0.01)
    assert order[-6:] == ["one", "two"] * 3
    assert results["one"] == [1e6] * 3
    assert abs(ratio(results, "one", "two") - 4) < 1e-9


def test_a_case_that_returns_nothing_is_timed() -> None:
    def nap(loops: int) -> None:
        end = time.perf_counter() + 1e-4 * loops
        while time.perf_counter() < end:
            pass

    results = interleave([Case("nap", nap)], rounds=9, slice_seconds=0.002)
    assert all(value > 9e4 for value in results["nap"])
    assert min(results["nap"]) < 1e6, "others may have the CPU for a while, not each time"

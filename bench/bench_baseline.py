"""Welford baselines beside pure Python and the PyPI package `welford`."""

from __future__ import annotations

import numpy as np
from harness import Bar, Case, main

from nexus.physics import Baseline

try:
    from welford import Welford
except ImportError:
    Welford = None

SAMPLES = 1000


class PurePython:
    """One metric, as one would write it by hand."""

    __slots__ = ("count", "m2", "mean")

    def __init__(self) -> None:
        self.count, self.mean, self.m2 = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """Take one value into account."""
        self.count += 1
        distance = value - self.mean
        self.mean += distance / self.count
        self.m2 += distance * (value - self.mean)


def cases():
    three = Baseline(3, lock_after=1 << 60)
    four = Baseline(4, lock_after=1 << 60)
    locked = Baseline(4, lock_after=2)
    samples = np.random.default_rng(1).normal(size=(SAMPLES, 4))
    locked.update_many(samples)
    pure = PurePython()
    values = (1.0, 2.0, 3.0)

    def update(loops: int) -> None:
        call = three.update
        for _ in range(loops):
            call(values)

    def pure_add(loops: int) -> None:
        call = pure.add
        for _ in range(loops):
            call(1.0)

    def batch(loops: int) -> None:
        for _ in range(loops):
            four.update_many(samples)

    def batch_locked(loops: int) -> None:
        for _ in range(loops):
            locked.update_many(samples)

    yield Case("update of 3 metrics", update)
    yield Case("pure Python add of 1 metric", pure_add)
    yield Case("update_many, a sample of 4 metrics", batch, items=SAMPLES)
    yield Case("update_many when locked", batch_locked, items=SAMPLES)
    if Welford is not None:
        peer = Welford()

        def add(loops: int) -> None:
            for _ in range(loops):
                peer.add(samples[0])

        yield Case("welford.add of 4 metrics", add)


BARS = [
    Bar("W1", "update of 3 metrics", "pure Python add of 1 metric", 0.5),
    Bar("W1", "update_many, a sample of 4 metrics", "welford.add of 4 metrics", 0.01),
]

if __name__ == "__main__":
    main("baselines", cases, BARS, [] if Welford else ["welford"])

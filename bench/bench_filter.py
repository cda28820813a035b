"""The cell filter against line rate, one-by-one checks, Python sets and NumPy."""

from __future__ import annotations

import json
import random
import subprocess

import numpy as np
from harness import Bar, Case, compiled, main

from nexus.physics import CellFilter

MILLION = 1_000_000


def cases():
    ids = np.random.default_rng(1).integers(1, 1 << 63, (MILLION, 2), dtype=np.uint64)
    allowed = CellFilter(ids)
    row = ids.tobytes()
    members = {row[i : i + 16] for i in range(0, len(row), 16)}
    asked = [row[i : i + 16] for i in range(0, len(row), 16 * 997)]
    random.shuffle(asked)
    low = np.sort(ids[:, 0])
    strangers = np.random.default_rng(2).integers(1, 1 << 63, (4096, 8), dtype=np.uint64)

    def check(loops: int) -> None:
        call = allowed.check
        for _ in range(loops):
            for one in asked:
                call(one)

    def contains(loops: int) -> None:
        for _ in range(loops):
            for one in asked:
                one in members  # noqa: B015 - the membership test is what is timed

    def batch(loops: int) -> None:
        for _ in range(loops):
            allowed.check_many(strangers, 64)

    def search(loops: int) -> None:
        for _ in range(loops):
            np.searchsorted(low, strangers[:, 0])

    # One nanosecond an item, so that a bar in nanoseconds is a ratio like any other.
    def unit(loops: int) -> float:
        return loops * 1e-9

    yield Case("1 ns", unit)
    yield Case("check, 1 M ids", check, items=len(asked))
    yield Case("in a Python set of 1 M", contains, items=len(asked))
    yield Case("check_many of strangers, 1 M ids, from Python", batch, items=len(strangers))
    yield Case("np.searchsorted, 1 M ids", search, items=len(strangers))


def measured(rounds: int) -> dict[str, list[float]]:
    results = {}
    with compiled("filter.c", "nx_filter.c", "nx_base.c") as program:
        for label, count in (("1 M", MILLION), ("8 M", 8 * MILLION)):
            words = [program, str(count), str(rounds)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            results[f"bytes per id, {label} ids"] = [found.pop("bytes_per_id")] * rounds
            for name, values in found.items():
                results[f"{name.replace('_', ' ')}, {label} ids"] = values
    return results


BARS = [
    Bar("L1", "drops, 1 M ids", "1 ns", 6.7),
    Bar("L1", "check_many of strangers, 1 M ids, from Python", "np.searchsorted, 1 M ids", 0.02),
    Bar("L2", "hits, 8 M ids", "naive hits, 8 M ids", 0.6),
    Bar("L3", "check, 1 M ids", "in a Python set of 1 M", 1.3),
    Bar("L3", "bytes per id, 1 M ids", "1 ns", 24),
]

if __name__ == "__main__":
    main("cell filter", cases, BARS, measured=measured)

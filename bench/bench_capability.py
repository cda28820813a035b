"""Capability checks, revocation, audit and triple redundancy beside NumPy and bare calls."""

from __future__ import annotations

import random
import time

import numpy as np
from empty_call import empty_call
from harness import Bar, Case, main

from nexus.physics import CapabilityTable, tmr_differs, tmr_vote

COUNT = 60_000
SIZE = 1 << 20


def filled(shape: str) -> tuple[CapabilityTable, list[int]]:
    """A table with one root and `COUNT` capabilities derived from it."""
    table = CapabilityTable(65536)
    handles = [table.mint(1, 1, 0x1F)]
    for _ in range(COUNT):
        parent = {"fan": handles[0], "chain": handles[-1], "tree": random.choice(handles)}[shape]
        handles.append(table.derive(parent, 0x1F))
    return table, handles


def revoking(shape: str):
    """Times revocation alone; filling the table is not counted."""

    def run(loops: int) -> float:
        seconds = 0.0
        for _ in range(loops):
            table, handles = filled(shape)
            start = time.perf_counter()
            table.revoke(handles[0])
            seconds += time.perf_counter() - start
        return seconds

    return run


def repeated(call):
    """A loop over one call."""

    def run(loops: int) -> None:
        for _ in range(loops):
            call()

    return run


# One nanosecond an item, so that a bar in nanoseconds is a ratio like any other.
def unit(loops: int) -> float:
    return loops * 1e-9


def table_cases():
    table, handles = filled("tree")
    random.shuffle(handles)
    many = np.array(handles, dtype=np.uint64)
    check, empty, one = table.check, empty_call(2), handles[0]
    get = dict.fromkeys(handles, 0x1F).get
    left, right = (np.random.randint(0, 1 << 62, SIZE // 8, dtype=np.uint64) for _ in range(2))

    def checks(loops: int) -> None:
        for _ in range(loops):
            check(one, 1)

    def calls(loops: int) -> None:
        for _ in range(loops):
            empty(one, 1)

    def lookups(loops: int) -> None:
        for _ in range(loops):
            bool(get(one, 0) & 1)

    yield Case("1 ns", unit)
    yield Case("check", checks)
    yield Case("empty call of two arguments", calls)
    yield Case("dict.get and mask", lookups)
    many_checks = repeated(lambda: table.check_many(many, 1))
    yield Case("check_many, 60k random", many_checks, items=COUNT + 1)
    yield Case("revoke 60k, fan", revoking("fan"), items=COUNT + 1)
    yield Case("revoke 60k, chain", revoking("chain"), items=COUNT + 1)
    yield Case("revoke 60k, random tree", revoking("tree"), items=COUNT + 1)
    yield Case("audit 64k", repeated(table.audit))
    numpy_audit = repeated(lambda: int(np.bitwise_count(left & right).sum()))
    yield Case("numpy bitwise_count(a & b).sum(), 1 MiB", numpy_audit)


def tmr_cases():
    start = np.random.randint(0, 1 << 62, SIZE // 8, dtype=np.uint64)
    copies = [bytearray(start.tobytes()) for _ in range(3)]
    a, b, c = arrays = [start.copy() for _ in range(3)]

    def numpy_vote() -> None:
        majority = (a & b) | (a & c) | (b & c)
        for copy in arrays:
            copy[:] = majority

    yield Case("tmr_vote, 3 x 1 MiB", repeated(lambda: tmr_vote(*copies)))
    yield Case("numpy vote, 3 x 1 MiB", repeated(numpy_vote))
    yield Case("tmr_differs, 3 x 1 MiB", repeated(lambda: tmr_differs(*copies)))
    numpy_scan = repeated(lambda: bool((a != b).any() or (a != c).any()))
    yield Case("numpy scan, 3 x 1 MiB", numpy_scan)


def cases():
    yield from table_cases()
    yield from tmr_cases()


BARS = [
    Bar("C1", "check", "empty call of two arguments", 1.3),
    Bar("C2", "check_many, 60k random", "1 ns", 4.0),
    Bar("C2", "revoke 60k, fan", "1 ns", 6.0),
    Bar("C2", "revoke 60k, chain", "1 ns", 6.0),
    Bar("C2", "audit 64k", "numpy bitwise_count(a & b).sum(), 1 MiB", 0.6),
    Bar("C3", "tmr_vote, 3 x 1 MiB", "numpy vote, 3 x 1 MiB", 0.2),
    Bar("C3", "tmr_differs, 3 x 1 MiB", "numpy scan, 3 x 1 MiB", 0.59),
]

if __name__ == "__main__":
    main("capability table and TMR", cases, BARS)

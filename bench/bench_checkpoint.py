"""Checkpoint saves against one PyPI BLAKE3 digest of the same bytes; K5 runs the kill test.

    python bench/bench_checkpoint.py          bars K1, K3, K4
    python tests/fault/checkpoint_kill.py     bar K5, 2,000 kills

A save here has a full stack and blob of 41 KB. "1 dirty KiB" changes one byte of the blob from
save to save; with the KiB of the header that is two dirty leaves of the digest. K1 is about that
save; "all dirty" is in the table for comparison and has no bar.

K6 is the 99th percentile of single calls, of a slot that is full and changes in every leaf: digest
and both copies. Beside it is sandlock's checkpoint() of a sleeping process without any state of its
own, in memory like ours.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import statistics
import threading
import time
from collections.abc import Callable, Iterator

from harness import Bar, Case, main

from nexus.physics import CheckpointSlot, blake3, simd_level

BODY = 41256
MISSING: list[str] = []
BARS = [
    Bar("K1", "save, 1 dirty KiB", "PyPI blake3 of the same bytes", 1.5),
    Bar("K3", "save, 1 dirty KiB", "save, all dirty", 0.5),
    Bar("K3", "save, 16 scattered dirty KiB", "save, all dirty", 0.9),
    Bar("K4", "save p50, a busy thread", "save p50, idle", 2.0),
    Bar("K6", "save p99, all dirty", "100 us", 1.0),
    Bar("K6", "restore p99", "100 us", 1.0),
    Bar("K7", "save, all dirty", "sandlock checkpoint", 1 / 5),
]


def saver(slot: CheckpointSlot, offsets: range) -> Callable[[int], None]:
    """Saves that differ from one to the next by a byte at each offset."""
    blob, stack = bytearray(32768), bytes(8192)

    def run(loops: int) -> None:
        for number in range(loops):
            for offset in offsets:
                blob[offset] = (blob[offset] + 1) & 255
            slot.save(blob, stack=stack)
            del number

    return run


def all_dirty(slot: CheckpointSlot) -> Callable[[int], None]:
    contents = [(bytes([n]) * 32768, bytes([n]) * 8192, bytes([n]) * 272) for n in (1, 2)]

    def run(loops: int) -> None:
        for number in range(loops):
            blob, stack, frame = contents[number & 1]
            slot.save(blob, stack=stack, frame=frame)

    return run


def median_save(slot: CheckpointSlot, busy: bool) -> Callable[[int], float]:
    """Reports the median of single saves as if each had taken it, with a busy thread beside."""
    blob, stack = bytearray(32768), bytes(8192)

    def run(loops: int) -> float:
        stop = False
        values = []

        def spin() -> None:
            while not stop:
                sum(range(100))

        thread = threading.Thread(target=spin)
        if busy:
            thread.start()
        for number in range(min(loops, 400)):
            blob[20000] = number & 255
            start = time.perf_counter()
            slot.save(blob, stack=stack)
            values.append(time.perf_counter() - start)
        stop = True
        if busy:
            thread.join()
        return statistics.median(values) * loops

    return run


def tail(call: Callable[[int], object]) -> Callable[[int], float]:
    """Reports the 99th percentile of single calls as if each had taken it."""

    def run(loops: int) -> float:
        values = []
        for number in range(max(200, min(loops, 1000))):
            start = time.perf_counter()
            call(number)
            values.append(time.perf_counter() - start)
        return statistics.quantiles(values, n=100)[98] * loops

    return run


def sandlock_checkpoint() -> Callable[[int], None]:
    from sandlock import Sandbox

    sandbox = Sandbox(fs_readable=["/"], fs_writable=["/tmp"])
    sandbox.create(["/bin/sleep", "600"])
    sandbox.start()
    atexit.register(sandbox.kill)
    time.sleep(0.3)

    def run(loops: int) -> None:
        for _ in range(loops):
            sandbox.checkpoint()

    return run


def cases() -> Iterator[Case]:
    slot = CheckpointSlot.create()
    body = bytes(BODY)

    def digest(loops: int) -> None:
        for _ in range(loops):
            blake3(body)

    def restore(loops: int) -> None:
        for _ in range(loops):
            slot.restore()

    slot.save(b"")
    yield Case("save, 1 dirty KiB", saver(slot, range(20000, 20001)))
    yield Case("save, 16 scattered dirty KiB", saver(slot, range(1000, 32768, 2048)))
    yield Case("save, all dirty", all_dirty(slot))
    yield Case("restore", restore)
    yield Case("own blake3 of the same bytes", digest)
    try:
        peer = importlib.import_module("blake3").blake3
    except ImportError:
        MISSING.append("blake3")
    else:

        def other(loops: int) -> None:
            for _ in range(loops):
                peer(body).digest()

        yield Case("PyPI blake3 of the same bytes", other)
    full = [(bytes([n]) * 32768, bytes([n]) * 8192, bytes([n]) * 272) for n in (1, 2)]

    def save_full(number: int) -> None:
        blob, stack, frame = full[number & 1]
        slot.save(blob, stack=stack, frame=frame)

    yield Case("save p99, all dirty", tail(save_full))
    yield Case("restore p99", tail(lambda _: slot.restore()))
    yield Case("100 us", lambda loops: loops * 1e-4)
    if importlib.util.find_spec("sandlock") is None:
        MISSING.append("sandlock")
    else:
        yield Case("sandlock checkpoint", sandlock_checkpoint())
    yield Case("save p50, idle", median_save(slot, busy=False))
    yield Case("save p50, a busy thread", median_save(slot, busy=True))


if __name__ == "__main__":
    main(f"checkpoint, SIMD level {simd_level()}", cases, BARS, MISSING)

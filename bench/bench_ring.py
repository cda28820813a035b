"""Rings against the queues of Python, of PyPI, of Boost, and a bare cache line between cores."""

from __future__ import annotations

import importlib.util
import json
import queue
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import Bar, Case, compiled, main
from ring_peers import PEERS, RECORD

from nexus.physics import Ring

BATCH = 64
KERNELS = ["base", "owner", "ring", "ring_map", "ring_mpsc", "ring_role", "wake"]
OURS = "Ring put + get, 64 B"
SIMPLE = "SimpleQueue put + get, 64 B"
WORKER = Path(__file__).with_name("ring_peers.py")


def pairs(put: Callable[[bytes], object], get: Callable[[], object]) -> Callable[[int], None]:
    def run(loops: int) -> None:
        for _ in range(loops):
            put(RECORD)
            get()

    return run


def worker(name: str) -> Callable[[int], float]:
    command = [sys.executable, str(WORKER), name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    asks, answers = process.stdin, process.stdout

    def run(loops: int) -> float:
        asks.write(f"{loops}\n")
        asks.flush()
        return float(answers.readline())

    return run


def cases():
    ring = Ring.create(1 << 16)
    shared = Ring.create(1 << 16, kind="mpsc")
    simple: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    rows = np.frombuffer(RECORD * BATCH, np.uint8).reshape(BATCH, len(RECORD))
    taken = np.empty_like(rows)
    records = [RECORD] * BATCH

    def arrays(loops: int) -> None:
        for _ in range(loops):
            ring.put_array(rows)
            ring.get_into(taken)

    def lists(loops: int) -> None:
        for _ in range(loops):
            ring.put_many(records)
            ring.get_many(BATCH)

    def spans(loops: int) -> None:
        for _ in range(loops):
            ring.put(RECORD)
            with ring.read():
                pass

    # The first put takes the role and touches the pages; neither is what is timed.
    for one in (ring, shared):
        for _ in range(2048):
            one.put(RECORD)
            one.get()
    yield Case(OURS, pairs(ring.put, ring.get))
    yield Case(SIMPLE, pairs(simple.put, simple.get))
    yield Case("Ring put + get, 64 B, mpsc", pairs(shared.put, shared.get))
    yield Case("Ring put + read Span, 64 B", spans)
    yield Case("Ring put_many + get_many of 64", lists, items=BATCH)
    yield Case("Ring put_array + get_into of 64", arrays, items=BATCH)
    for name, (module, _) in PEERS.items():
        if importlib.util.find_spec(module) is not None:
            yield Case(f"{name} put + get, 64 B", worker(name))


def measured(rounds: int) -> dict[str, list[float]]:
    """Two pinned processes: the best of three runs, should a neighbour disturb the bare line."""
    results: dict[str, list[float]] = {}
    kernels = [f"nx_{name}.c" for name in KERNELS]
    with compiled("ring.c", "ring_boost.cc", *kernels) as program:
        for _ in range(3):
            words = [program, str(rounds)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(f"native rings not measured: {done.stderr.strip()}", file=sys.stderr)
                return {}
            results = json.loads(done.stdout)
            raw = sorted(results["raw cache line, one way"])
            if raw[len(raw) // 2] <= 1.5 * raw[0]:
                break
    return results


BARS = [
    Bar("R1", OURS, SIMPLE, 1.25),
    Bar("R2", OURS, "kickmsg put + get, 64 B", 1 / 2),
    Bar("R2", OURS, "zeroq put + get, 64 B", 1 / 2.5),
    Bar("R2", OURS, "cloudtoid-interprocess put + get, 64 B", 1 / 2.5),
    Bar("R2", OURS, "iceoryx2 put + get, 64 B", 1 / 30),
    Bar("R2", OURS, "faster-fifo put + get, 64 B", 1 / 60),
    Bar("R2", OURS, "multiprocessing.Queue put + get, 64 B", 1 / 120),
    Bar("R3", "Ring put_array + get_into of 64", SIMPLE, 0.35),
    Bar("R4", "slot ring 8 B, one way", "raw cache line, one way", 1.3),
    Bar("R5", "bulk ring 8 B, batch of 64", "boost spsc_queue 8 B, single", 0.5),
]

if __name__ == "__main__":
    missing = [name for name, (module, _) in PEERS.items() if not importlib.util.find_spec(module)]
    main("rings", cases, BARS, missing, measured)

"""A fiber's channels between two processes beside iceoryx2, faster-fifo and a pipe.

A round trip of 64 bytes between two processes, each pinned to a CPU of its own; a figure is half of
it. "looking" polls as iceoryx2's Python interface must; "waiting" blocks as faster-fifo does. With
"one CPU" both processes share it, so that nothing is gained by looking once more before sleeping.
Every pair is a process with a child (channel_peers.py), and only one pair runs at a time.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from channel_peers import PAIRS
from harness import Bar, Case, main

WORKER = Path(__file__).with_name("channel_peers.py")
LOOKING = "channel looking, 64 B"
WAITING = "channel waiting, 64 B"
MISSING: list[str] = []
BARS = [
    Bar("C1", LOOKING, "iceoryx2 looking, 64 B", 1 / 5),
    Bar("C2", WAITING, "faster-fifo waiting, 64 B", 0.7),
    Bar("C3", "channel waiting, 64 B, one CPU", "faster-fifo waiting, 64 B, one CPU", 0.7),
]


def worker(name: str, cpus: tuple[int, int]) -> Callable[[int], float]:
    """The pair of that name; reports half a round trip as if each loop had taken it."""
    command = [sys.executable, str(WORKER), name, *map(str, cpus)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    asks, answers = process.stdin, process.stdout

    def run(loops: int) -> float:
        asks.write(f"{loops}\n")
        asks.flush()
        return float(answers.readline()) / 2

    return run


def cases() -> Iterator[Case]:
    first, second, *_ = sorted(os.sched_getaffinity(0)) * 2
    if first == second:
        sys.exit("bench_channel needs two CPUs")
    for name, (module, _) in PAIRS.items():
        if module is not None and importlib.util.find_spec(module) is None:
            MISSING.append(name.split()[0])
            continue
        yield Case(f"{name}, 64 B", worker(name, (first, second)))
        if name.endswith("waiting"):
            yield Case(f"{name}, 64 B, one CPU", worker(name, (first, first)))


if __name__ == "__main__":
    main("channels between two processes", cases, BARS, MISSING)

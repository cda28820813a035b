"""Peers that run in a process of their own and time themselves.

Programs under the LGPL or GPL are compared as processes, never imported. The peer's script calls
`serve` with the work; here `PeerProcess` asks it for a number of loops and gets seconds back. The
times of both sides still come from the same interleaved rounds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["PeerProcess", "serve"]

MISSING = 3


class PeerProcess:
    """A running peer. `available` is False when its packages are not installed."""

    def __init__(self, script: str) -> None:
        path = Path(__file__).parent / "peers" / script
        self._process = subprocess.Popen(
            [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.available = self._process.stdout.readline().strip() == "ready"

    def run(self, loops: int) -> float:
        """Let the peer do its work so many times; the seconds that it measured."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{loops}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def serve(make: Callable[[], Callable[[int], None]]) -> None:
    """The peer's side: make the work, then do and time it as often as asked.

    Args:
        make: imports what it needs and returns a function that does the work `loops` times.
    """
    try:
        work = make()
    except ImportError as error:
        print(f"missing: {error}", flush=True)
        sys.exit(MISSING)
    print("ready", flush=True)
    for line in sys.stdin:
        loops = int(line)
        start = time.perf_counter()
        work(loops)
        print(time.perf_counter() - start, flush=True)

"""Our loop over /dev/fuse beside mfusepy: one file in memory, client and server on one CPU."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import Bar, Case, compiled, main

SIZE = 64 << 20
MISSING: list[str] = []
BARS = [
    Bar("FUSE1", "stat", "stat, mfusepy", 1 / 1.3),
    Bar("FUSE2", "4 KiB read", "4 KiB read, mfusepy", 1 / 1.3),
    Bar("FUSE3", "1 MiB read in order", "1 MiB read in order, mfusepy", 1 / 5),
]


@contextlib.contextmanager
def served(command: list[str | Path]) -> Iterator[Path | None]:
    """The filesystem that a command serves on a directory; None if it cannot."""
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen([*command, place], stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 20
        while not os.path.ismount(place) and process.poll() is None:
            if time.monotonic() > until:
                process.kill()
            time.sleep(0.02)
        try:
            if os.path.ismount(place):
                yield Path(place)
            else:
                assert process.stderr is not None
                print(process.stderr.read(), file=sys.stderr, end="")
                yield None
        finally:
            subprocess.run(["umount", "-l", place], check=process.poll() is None)
            process.terminate()  # a descriptor of ours is still open below the place
            process.wait()


def stats(place: Path) -> Callable[[int], None]:
    """So many stats."""
    path = os.fspath(place / "file")

    def run(loops: int) -> None:
        for _ in range(loops):
            os.stat(path)  # noqa: PTH116 - a Path costs as much as what is measured

    return run


def reads(place: Path, size: int) -> Callable[[int], None]:
    """So many reads, in order or scattered."""
    descriptor = os.open(place / "file", os.O_RDONLY)
    buffer = [bytearray(size)]
    step = size if size > 4096 else 4096 * 7919

    def run(loops: int) -> None:
        at = 0
        for _ in range(loops):
            assert os.preadv(descriptor, buffer, at) == size
            at = (at + step) % SIZE

    return run


def cases(place: Path, suffix: str) -> list[Case]:
    """What is measured of one server."""
    return [
        Case("stat" + suffix, stats(place)),
        Case("4 KiB read" + suffix, reads(place, 4096)),
        Case("1 MiB read in order" + suffix, reads(place, 1 << 20)),
    ]


def all_cases(ours: Path | None, peer: Path | None) -> list[Case]:
    """Of both, as far as they run."""
    found = [] if ours is None else cases(ours, "")
    if peer is None:
        MISSING.append("mfusepy   (and apt-get install fuse3 libfuse3-3)")
        return found
    return found + cases(peer, ", mfusepy")


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    script = Path(__file__).parent / "peers" / "mfusepy_memory.py"
    with (
        compiled("fuse_memory.c", "nx_fuse.c", "nx_base.c") as program,
        served([program]) as ours,
        served([sys.executable, script]) as peer,
    ):
        found = all_cases(ours, peer)
        main("a filesystem of one file in memory", lambda: found, BARS, MISSING)

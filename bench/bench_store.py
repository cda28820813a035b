"""Volumes beside borg, restic and casync: a series of versions in, and one of them out again.

    ./dev bench --corpora && ./dev bench store
    python bench/bench_store.py --corpus numpy --versions 3

Each program runs as its users run it, a process for each version, its start included, on the same
trees in a file system in memory; borg and casync with zstd 3 and without encryption, restic as it
is (it cannot but encrypt). Times are nanoseconds for each byte of the tree, sizes are bytes on the
medium with all metadata, memory is the largest process in KiB: all in the same columns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from corpora import CORPORA, versions
from harness import Bar, main

PEERS = ("borg", "restic", "casync")
# ours / peer at most: first ingest, restore; beside the best of all: stored, moved for an update.
INGEST = {"django": (1 / 4, 1 / 1.5), "numpy": (1 / 3, 1 / 2), "kernel": (1 / 3, 1 / 2)}
RESTORE = {"borg": 1 / 4, "casync": 1 / 2}
STORED = {"django": 0.85, "numpy": 0.75, "kernel": 0.55}
MOVED = {"django": 0.2, "numpy": 0.6, "kernel": 0.4}
MEMORY = 0.6


@dataclass
class Program:
    """One program: how it makes its repository, takes a version in, and gives one out."""

    name: str
    create: Callable[[Path], list[list[str]]]
    take: Callable[[Path, Path, str], list[list[str]]]
    give: Callable[[Path, str, Path], list[list[str]]]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, commands: list[list[str]]) -> tuple[float, int]:
        """Seconds, and the largest process in KiB."""
        start, largest = time.perf_counter(), 0
        for words in commands:
            with subprocess.Popen(
                words, env=os.environ | self.environment, stdout=subprocess.DEVNULL
            ) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise subprocess.CalledProcessError(process.returncode, words)
            largest = max(largest, usage.ru_maxrss)
        return time.perf_counter() - start, largest


def programs(place: Path) -> Iterator[Program]:
    """Ours, and those peers that are installed."""
    nexus = [sys.executable, "-m", "nexus.cli"]
    yield Program(
        "nexus",
        lambda at: [[*nexus, "fs", "create", str(at)]],
        lambda at, tree, name: [
            [*nexus, "fs", "import", str(at), str(tree), "--as", "tree", "--quiet"],
            [*nexus, "snap", "create", str(at), name],
        ],
        lambda at, name, to: [
            [*nexus, "fs", "export", str(at), "tree", str(to), "--snapshot", name, "--quiet"]
        ],
    )
    yield Program(
        "borg",
        lambda at: [["borg", "init", "-e", "none", str(at)]],
        lambda at, tree, name: [
            ["borg", "create", "-C", "zstd,3", "--files-cache=disabled", f"{at}::{name}", str(tree)]
        ],
        lambda at, name, to: [["sh", "-c", f"mkdir {to} && cd {to} && borg extract {at}::{name}"]],
        {"BORG_BASE_DIR": str(place / "borg-home")},
    )
    restic = ["restic", "--no-cache", "-q"]
    yield Program(
        "restic",
        lambda at: [[*restic, "-r", str(at), "init", "--repository-version", "2"]],
        lambda at, tree, name: [
            [*restic, "-r", str(at), "backup", "--force", "--tag", name, str(tree)]
        ],
        lambda at, name, to: [
            [*restic, "-r", str(at), "restore", "latest", "--tag", name, "--target", str(to)]
        ],
        {"RESTIC_PASSWORD": "none"},
    )
    yield Program(
        "casync",
        lambda at: [["mkdir", "-p", str(at)]],
        lambda at, tree, name: [
            [
                *["casync", "make", "--compression=zstd", f"--store={at}/store.castr"],
                *[f"{at}/{name}.caidx", str(tree)],
            ]
        ],
        lambda at, name, to: [
            ["casync", "extract", f"--store={at}/store.castr", f"{at}/{name}.caidx", str(to)]
        ],
    )


def size_of(place: Path) -> int:
    """Bytes of all files below."""
    return sum(p.lstat().st_size for p in place.rglob("*") if p.is_file() and not p.is_symlink())


def tree_bytes(place: Path) -> int:
    """Bytes of what a tree holds."""
    return size_of(place)


def measure(corpus: str, most: int, rounds: int) -> dict[str, list[float]]:
    """Every program over every version; the rounds alternate between the programs."""
    results: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        results.setdefault(f"{corpus}: {name}", []).append(value)

    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="bench-") as folder:
        place = Path(folder)
        trees = [place / "in" / path.name for path in versions(corpus)[-most:]]
        for tree, source in zip(trees, versions(corpus)[-most:], strict=True):
            shutil.copytree(source, tree, symlinks=True)
        bytes_in = [tree_bytes(tree) for tree in trees]
        for _ in range(rounds):
            for program in programs(place):
                if program.name in PEERS and shutil.which(program.name) is None:
                    continue
                _series(program, place, trees, bytes_in, note)
    for kind in ("stored bytes", "bytes moved for an update"):
        found = [results.get(f"{corpus}: {kind}, {peer}") for peer in PEERS]
        best = [min(values) for values in zip(*(one for one in found if one), strict=False)]
        if best:
            results[f"{corpus}: {kind}, best peer"] = best
    return results


def _series(
    program: Program,
    place: Path,
    trees: list[Path],
    bytes_in: list[int],
    note: Callable[[str, float], None],
) -> None:
    at, out = place / program.name, place / "out"
    shutil.rmtree(at, ignore_errors=True)
    program.run(program.create(at))
    sizes, largest = [size_of(at)], 0
    for number, (tree, size) in enumerate(zip(trees, bytes_in, strict=True)):
        seconds, memory = program.run(program.take(at, tree, tree.name))
        largest = max(largest, memory)
        kind = "first ingest" if number == 0 else "update"
        note(f"{kind}, {program.name}", seconds * 1e9 / size)
        sizes.append(size_of(at))
        if number > 0:
            note(f"bytes moved for an update, {program.name}", sizes[-1] - sizes[-2])
    note(f"stored bytes, {program.name}", sizes[-1])
    note(f"memory of ingest, {program.name}", largest)
    for which, number in (("first", 0), ("last", -1)):
        shutil.rmtree(out, ignore_errors=True)
        seconds, _ = program.run(program.give(at, trees[number].name, out))
        note(f"restore of the {which}, {program.name}", seconds * 1e9 / bytes_in[number])
    shutil.rmtree(out, ignore_errors=True)


def bars(corpora: list[str]) -> Iterator[Bar]:
    """What is promised, for the corpora that are there."""
    for corpus in corpora:
        borg, casync = INGEST[corpus]
        first, memory = f"{corpus}: first ingest", f"{corpus}: memory of ingest"
        yield Bar("S-in", f"{first}, nexus", f"{first}, borg", borg)
        yield Bar("S-in", f"{first}, nexus", f"{first}, casync", casync)
        for which in ("first", "last"):
            out = f"{corpus}: restore of the {which}"
            for peer, most in RESTORE.items():
                yield Bar("S-out", f"{out}, nexus", f"{out}, {peer}", most)
        for name, kind, most in (
            ("S-size", "stored bytes", STORED[corpus]),
            ("S-move", "bytes moved for an update", MOVED[corpus]),
        ):
            yield Bar(name, f"{corpus}: {kind}, nexus", f"{corpus}: {kind}, best peer", most)
        yield Bar("S-mem", f"{memory}, nexus", f"{memory}, borg", MEMORY)


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--corpus", choices=sorted(CORPORA), help="only this one")
    own.add_argument("--versions", type=int, default=8, help="the last so many (8)")
    own.add_argument("--series", type=int, default=3, help="times each program does a series (3)")
    chosen, sys.argv[1:] = own.parse_known_args()
    present = [
        name for name in CORPORA if chosen.corpus in (None, name) and len(versions(name)) > 1
    ]

    def run(_: int) -> dict[str, list[float]]:
        results: dict[str, list[float]] = {}
        for corpus in present:
            results |= measure(corpus, chosen.versions, chosen.series)
        return results

    missing = [f"{name} (./dev bench)" for name in PEERS if shutil.which(name) is None]
    missing += [f"corpus {name} (./dev bench --corpora)" for name in CORPORA if name not in present]
    main("volumes", lambda: (), bars(present or list(CORPORA)), missing, run)

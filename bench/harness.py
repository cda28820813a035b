"""What the benchmark scripts share: bars, the verdict table, and the pyperf result file.

A script lists its cases and its bars and calls `main`. Peers that are not installed are named
in the output with the command that gets them; their bars count as not measured, never as met.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nexus.cli.rounds import Case, interleave, ratio

__all__ = ["ROOT", "Bar", "Case", "compiled", "hogs", "main"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise about speed: ours / peer <= most, both medians from the same rounds."""

    id: str
    ours: str
    peer: str
    most: float


@contextmanager
def hogs(command: Sequence[str | Path], count: int, *, apart: bool = False) -> Iterator[None]:
    """Busy loops beside what is measured; `apart` in sessions of their own, as other users' are."""
    running = [subprocess.Popen(command, start_new_session=apart) for _ in range(count)]
    try:
        yield
    finally:
        for hog in running:
            hog.kill()
            hog.wait()


@contextmanager
def compiled(source: str, *kernels: str) -> Iterator[Path]:
    """A native benchmark program, compiled like the release and gone afterwards.

    Args:
        source: the C program, relative to bench/native.
        kernels: the C files of nexus/_core/csrc, and the C++ files of bench/native, it needs.
    """
    core = ROOT / "nexus" / "_core"
    native = ROOT / "bench" / "native"
    options = ["-O2", "-D_GNU_SOURCE", "-fno-strict-aliasing", "-I", core / "include"]
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, "program")
        objects = []
        for name in (source, *kernels):
            foreign = name.endswith(".cc")
            path = native / name if foreign or name == source else core / "csrc" / name
            language = ["g++", "-std=c++17"] if foreign else ["cc", "-std=c17"]
            objects.append(Path(place, name + ".o"))
            subprocess.run([*language, *options, "-c", path, "-o", objects[-1]], check=True)
        linker = "g++" if any(name.endswith(".cc") for name in kernels) else "cc"
        command = [linker, *objects, "-pthread", "-lm", "-o", program]
        subprocess.run(command, check=True)
        yield program


def _save(path: str, results: dict[str, list[float]]) -> None:
    import pyperf

    benchmarks = []
    for name, values in results.items():
        seconds = [value * 1e-9 for value in values]
        run = pyperf.Run(seconds, metadata={"name": name}, collect_metadata=False)
        benchmarks.append(pyperf.Benchmark([run]))
    pyperf.BenchmarkSuite(benchmarks).dump(path, replace=True)


def main(
    subject: str,
    cases: Callable[[], Iterable[Case]],
    bars: Iterable[Bar],
    missing: Iterable[str] = (),
    measured: Callable[[int], dict[str, list[float]]] | None = None,
) -> None:
    """Run one benchmark script and exit 0 when all its bars were measured and met.

    Args:
        subject: title of the table.
        cases: makes the cases; called once.
        bars: what the ratios must reach.
        missing: pip names of peers that could not be imported.
        measured: programs that interleave and time themselves: called with the number of
            rounds, returns the nanoseconds per item of every round for each of its cases.
    """
    parser = argparse.ArgumentParser(description=f"benchmark: {subject}")
    parser.add_argument("--rounds", type=int, default=25, help="interleaved rounds (25)")
    parser.add_argument("--slice", type=float, default=0.01, help="seconds per timing (0.01)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("-o", "--output", help="also write a pyperf result file")
    arguments = parser.parse_args()

    results = interleave(cases(), rounds=arguments.rounds, slice_seconds=arguments.slice)
    if measured is not None:
        results |= measured(arguments.rounds)
    verdicts = []
    for bar in bars:
        measured = bar.ours in results and bar.peer in results
        value = ratio(results, bar.ours, bar.peer) if measured else None
        state = "not measured" if value is None else "met" if value <= bar.most else "missed"
        verdicts.append(
            {"id": bar.id, "ours": bar.ours, "peer": bar.peer, "most": bar.most}
            | {"ratio": value, "state": state}
        )
    if arguments.output:
        _save(arguments.output, results)
    if arguments.json:
        table = {
            name: {"median_ns": statistics.median(v), "min_ns": min(v)}
            for name, v in results.items()
        }
        record = {"schema": 1, "subject": subject, "cases": table, "bars": verdicts}
        print(json.dumps(record | {"missing": list(missing)}))
    else:
        print(f"{subject}: nanoseconds per item, {arguments.rounds} interleaved rounds")
        for name, values in results.items():
            print(f"  {statistics.median(values):12.1f} median {min(values):12.1f} min  {name}")
        for v in verdicts:
            shown = "-" if v["ratio"] is None else f"{v['ratio']:.3f}"
            line = f"{v['ours']} / {v['peer']} = {shown} (bar {v['most']})"
            print(f"  {v['state']:12} {v['id']:4} {line}")
        for name in missing:
            print(f"  peer not installed: pip install {name}")
    sys.exit(0 if all(v["state"] == "met" for v in verdicts) else 1)

"""Run the fuzz harnesses for a while: a table of what they did, failure on any finding.

Each harness keeps its corpus in build/fuzz/corpus, so a later run goes on where this one ended.
The canary has a planted overflow; a run that does not find it proves nothing and fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from seeds import write_seeds

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "fuzz"
CANARY = "canary"
NAMES = sorted(
    name for p in HERE.glob("fuzz_*.c") if (name := p.stem.removeprefix("fuzz_")) != CANARY
)
CANARY_SECONDS_MIN = 30  # it takes one or two; a busy machine may need more
EXECUTIONS_MIN = 32  # twice the seeds: a harness that ran less has looked at nothing


class Outcome(NamedTuple):
    """What one harness did."""

    name: str
    code: int
    executions: int
    per_second: int
    reached: int
    edges: int
    log: str


def number(pattern: str, text: str) -> int:
    """The last number that the pattern finds, or 0."""
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def fuzz(name: str, seconds: int) -> Outcome:
    """Run one harness; what it finds lands in build/fuzz/findings."""
    corpus, findings = BUILD / "corpus" / name, BUILD / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    write_seeds(name, corpus)
    command = [
        str(BUILD / "fuzz" / f"fuzz_{name}"),
        f"-max_total_time={seconds}",
        f"-artifact_prefix={findings}/{name}-",
        *["-max_len=1024", "-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1"],
        str(corpus),
        *[str(p) for p in [HERE / "regress" / name] if p.is_dir()],
    ]
    if name == CANARY:
        command.remove(str(corpus))  # it starts from nothing each time
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    log = done.stdout.decode(errors="replace")
    return Outcome(
        name,
        done.returncode,
        number(r"number_of_executed_units: (\d+)", log),
        number(r"average_exec_per_sec: +(\d+)", log),
        number(r"\bcov: (\d+)", log),
        number(r"\((\d+) inline 8-bit counters\)", log),
        log,
    )


def report(outcome: Outcome) -> bool:
    """Print one line, and the whole story of a finding; whether all is well.

    Edges are those of the harness and the kernels it links, their sanitizer checks included; the
    failing side of a check is an edge that no input should reach.
    """
    print(
        f"{outcome.name:12} {outcome.executions:9,} inputs {outcome.per_second:7,}/s "
        f"{outcome.reached:5} of {outcome.edges:5} edges",
        flush=True,
    )
    if outcome.code != 0:
        print("\n".join(outcome.log.splitlines()[-60:]))
        for path in re.findall(r"Test unit written to (\S+)", outcome.log):
            print(f"finding: {path}\n repeat: {BUILD / 'fuzz' / f'fuzz_{outcome.name}'} {path}")
            print(f"   keep: cp {path} fuzz/regress/{outcome.name}/ once it is fixed")
        return False
    if outcome.executions < EXECUTIONS_MIN:
        print(f"{outcome.name}: fewer than {EXECUTIONS_MIN} inputs were run; use more seconds")
        return False
    return True


def canary(seconds: int) -> bool:
    """Whether the planted overflow is found."""
    outcome = fuzz(CANARY, max(seconds, CANARY_SECONDS_MIN))
    found = outcome.code != 0 and "heap-buffer-overflow" in outcome.log
    print(f"{CANARY:12} {'found, as it must be' if found else 'NOT FOUND: this rig is blind'}")
    for path in (BUILD / "findings").glob(f"{CANARY}-*"):
        path.unlink()
    return found


def main() -> int:
    """Read the command line; 1 when something was found, or the canary was not."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {' '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each harness (default: 60)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no such harness: {' '.join(sorted(unknown))}; there are {' '.join(NAMES)}")
    well = canary(arguments.seconds)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(lambda name: fuzz(name, arguments.seconds), arguments.names or NAMES)
        for outcome in work:
            well &= report(outcome)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

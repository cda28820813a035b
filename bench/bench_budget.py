"""Error of a 2 ms budget beside two CPU hogs: nexus-l0, and a POSIX timer on the child's CPU clock.

The spinner that is held to the budget tells the error itself, from its own CPU clock, when it sees
its scheduling policy changed: the supervisor's word is not asked. The ratchet acts at the third
overrun, so its error is that of three budgets in a row. All are pinned to one processor, and both
supervisors have a real-time priority, which takes root.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import ROOT, Bar, hogs, main

from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import HostLayers, confine
from nexus.logic.manifest import Draft, Program, complete
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_plan, supervisor_path

HOGS = 2
SAMPLES_PER_ROUND = 8
TRIES = 50  # starts for one sample


def compile_program(place: Path) -> Path:
    program = place / "budget"
    source = ROOT / "bench" / "native" / "budget.c"
    options = ["-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-static"]
    subprocess.run(["cc", *options, source, "-o", program], check=True)
    return program


def supervised(program: Path) -> list[str]:
    """The command line of nexus-l0 for the spinner as a photon."""
    words = (str(program), "spin")
    draft = Draft(tier="photon")
    spec = complete(
        draft, Program(words[0], words, None, dynamic=False), environment={}, directory="/var"
    )
    confined = confine(spec, HostLayers(**host_facts()), HostFiles())
    plan = seal_plan(encode_plan(confined.manifest, image=-1, digest=None))
    os.set_inheritable(plan, True)
    return [supervisor_path(), "run", str(plan)]


def error_ns(command: list[str]) -> tuple[float, int]:
    """How late somebody acted, as the spinner told it, and how often it fell before it had run."""
    for fallen in range(TRIES):
        done = subprocess.run(
            command, close_fds=False, capture_output=True, text=True, check=False
        )  # fmt: skip
        if done.stdout == "early\n":
            continue
        try:
            return float(done.stdout), fallen
        except ValueError:
            sys.exit(f"{command[0]}: no error was told: {done.stdout!r} {done.stderr!r}")
    sys.exit(f"{command[0]}: the spinner fell {TRIES} times before it had run")


def percentile(values: list[float], part: float) -> float:
    """The smallest value that is not exceeded by this part of them."""
    ordered = sorted(values)
    return ordered[math.ceil(part * len(ordered)) - 1]


def measured(rounds: int) -> dict[str, list[float]]:
    if os.geteuid() != 0:
        sys.exit("root is needed: real-time priorities are what is compared")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        program = compile_program(Path(folder))
        commands = {"nexus-l0": supervised(program), "CPU clock timer": [str(program), "peer"]}
        errors: dict[str, list[float]] = {name: [] for name in commands}
        early = dict.fromkeys(commands, 0)
        with hogs([program, "hog"], HOGS):
            for _ in range(rounds * SAMPLES_PER_ROUND):
                for name, command in commands.items():
                    error, fallen = error_ns(command)
                    errors[name].append(error)
                    early[name] += fallen
    results = {"the bar of 100 us": [100_000.0]}
    for name, values in errors.items():
        print(
            f"  {len(values)} samples from {min(values):.0f} to {max(values):.0f} ns, "
            f"{early[name]} other starts fell before they had run, {name}",
            file=sys.stderr,
        )
        results[f"{name}, p99"] = [percentile(values, 0.99)]
        results[f"{name}, median"] = [percentile(values, 0.5)]
        results[f"{name}, most early"] = [-min(values)]
    return results


BARS = [
    Bar("budget", "nexus-l0, p99", "the bar of 100 us", 1.0),
    Bar("budget", "nexus-l0, p99", "CPU clock timer, p99", 1 / 20),
]

if __name__ == "__main__":
    main("budgets", lambda: iter(()), BARS, measured=measured)

"""Error of a 2 ms budget beside two CPU hogs: nexus-l0, and a POSIX timer on the child's CPU clock.

The spinner that is held to the budget tells the error itself, from its own CPU clock, when it sees
its scheduling policy changed: the supervisor's word is not asked. The ratchet acts at the third
overrun, so its error is that of three budgets in a row. All are pinned to one processor, and both
supervisors have a real-time priority, which takes root.

How long a demotion takes, once it is decided: from the entry of the function that demotes to the
return of the one that has scheduled whoever of the fiber wants to run, and of the one that has
found the rest; by uprobes on nexus-l0, whose own cost is in it and told beside it. A virtual
machine is paused by what is below it, and no priority prevents that: computations no longer than a
median demotion, at a real-time priority, tell how often, as "computing that long".
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import ROOT, Bar, hogs, main
from uprobes import spans

from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import HostLayers, confine
from nexus.logic.manifest import Draft, Program, complete
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_plan, supervisor_path

HOGS = 2
SAMPLES_PER_ROUND = 8
TRIES = 50  # starts for one sample
DECIDED = "nx_l0_life_demote"
DEMOTION_NS = 50_000.0
# What begins and ends each span; the last one is asked in each wake-up, and only computes.
ENDS = {
    "demotion": (DECIDED, "nx_l0_budget_schedule"),
    "demotion of all": (DECIDED, "nx_l0_budget_schedule_rest"),
    "the probes themselves": ("nx_l0_budget_next", "nx_l0_budget_next"),
}


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


def tell(name: str, values: list[float]) -> None:
    """Print how many of these durations are above the bar of a demotion."""
    above = sum(value > DEMOTION_NS for value in values)
    print(
        f"  {len(values)} samples from {min(values):.0f} to {max(values):.0f} ns, "
        f"{above / len(values):.1%} above {DEMOTION_NS:.0f}, {name}",
        file=sys.stderr,
    )


def computations(program: Path, window_ns: float) -> dict[str, list[float]]:
    """Nanoseconds of computations that take this long where nothing holds them up."""
    words = [str(program), "compute", str(int(window_ns))]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    values = [float(line) for line in text.split()]
    name = "computing that long"
    tell(name, values)
    return {f"{name}, {part:.1%}": [percentile(values, part)] for part in (0.98, 0.99, 0.995)}


def demotions(command: list[str], count: int) -> dict[str, list[float]]:
    """Nanoseconds of each span of a demotion; empty where the kernel has no uprobes for us."""
    results = {"the bar of 50 us": [DEMOTION_NS]}
    for name, (begin, end) in ENDS.items():
        with spans(Path(supervisor_path()), begin, end) as found:
            if isinstance(found, str):
                print(f"  demotion not measured: {found}", file=sys.stderr)
                return {}
            values = []
            while len(values) < count:
                error_ns(command)
                values += found.nanoseconds()
        tell(name, values)
        results[f"{name}, p99"] = [percentile(values, 0.99)]
        results[f"{name}, median"] = [percentile(values, 0.5)]
    return results


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
            found = demotions(commands["nexus-l0"], rounds * SAMPLES_PER_ROUND)
            if found:
                found |= computations(program, found["demotion, median"][0])
    results = found | {"the bar of 100 us": [100_000.0]}
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
    Bar("budget", "demotion, p99", "the bar of 50 us", 1.0),
]

if __name__ == "__main__":
    main("budgets", lambda: iter(()), BARS, measured=measured)

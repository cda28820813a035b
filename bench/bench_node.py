"""A node as a whole: how fast it is up, what it costs idle, how soon a hung L1 is found, Phoenix.

python bench/bench_node.py                 start, idle, 20 hangs, 60 s beside four busy loops
python bench/bench_node.py --hangs 200     as the bar has it, in about ten minutes

Everything is measured from outside: by the clock of this process, by /proc, and by events that say
when the supervisor acted. A hang is SIGSTOP. Nothing here is a ratio: the bars are deadlines.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import hogs

from nexus.logic.control import Control
from nexus.physics.control import connect_node
from nexus.seams.events import EventKind
from nexus.seams.supervisor import L1_SLOT, FiberState, SystemTable

COMMAND = [sys.executable, "-m", "nexus.cli", "boot"]
DEADLINE_S = 1.6  # four missed beats of 400 ms
POLL_S = 0.4
REST_S = 2.6  # between hangs, so that L1's breaker stays closed
START_MS_MAX = 100.0
IDLE_MAX = 0.001
HANGS_LATE_MAX = 0.01
EMPTY = 'survivability "radiation"\n'
SLEEPERS = "".join(f'fiber "s{i}" {{ program "/bin/sleep" "1000" }}\n' for i in range(16))
PHOENIX_MAX = 3  # in a minute


@contextmanager
def controlled(description: str | None) -> Iterator[tuple[Control, dict[str, float]]]:
    """A node of its own, and what it said about its start."""
    with tempfile.TemporaryDirectory() as place:
        words = [*COMMAND, "--json", "--node", f"{place}/node"]
        if description is not None:
            Path(place, "node.kdl").write_text(description)
            words.append(f"{place}/node.kdl")
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            up: dict[str, float] = {}
            for line in child.stdout:
                up = json.loads(line)
                if "up_ms" in up:
                    break
            control = Control(connect_node(Path(place, "node", "run", "control")))
            yield control, up
            control.close()
        finally:
            child.terminate()
            child.communicate()


@contextmanager
def node(description: str | None = None) -> Iterator[tuple[SystemTable, dict[str, float]]]:
    """A node of its own, its table, and what it said about its start."""
    with controlled(description) as (control, up):
        yield control.hello(), up


def l1(table: SystemTable) -> int:
    """The pid of L1 when it is there."""
    while True:
        for entry in table.fibers():
            if entry.slot == L1_SLOT and entry.state == FiberState.ALIVE and entry.pid > 0:
                return entry.pid
        time.sleep(0.01)


def starts(rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        with node() as (_, up):
            found.append(up["up_ms"])
    return found


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def below(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def idle(seconds: float) -> tuple[float, float]:
    """The part of one core that a node without fibers uses, and wake-ups of its supervisor."""
    with node(EMPTY) as (table, _):
        time.sleep(1)
        pids = below(table.head().pid)
        before, woken, began = sum(map(cpu_ns, pids)), table.head().wakes, time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        used = (sum(map(cpu_ns, pids)) - before) * 1e-9
        return used / took, (table.head().wakes - woken) / took


def losses(table: SystemTable, after: int) -> list[int]:
    """When heartbeats were called lost, monotonic nanoseconds."""
    events = table.events(after).events
    return [event.time_ns for event in events if event.kind == EventKind.HEARTBEAT_LOST]


def hangs(count: int) -> list[float]:
    """Seconds from SIGSTOP to the verdict, for each."""
    found = []
    with node(EMPTY) as (table, _):
        for _ in range(count):
            time.sleep(REST_S)
            pid, after = l1(table), table.head().newest
            began = time.monotonic_ns()
            os.kill(pid, signal.SIGSTOP)
            while not losses(table, after) and time.monotonic_ns() - began < 10e9:
                table.wait(table.head().newest, 0.1)
            when = losses(table, after)
            found.append((when[0] - began) / 1e9 if when else float("inf"))
    return found


def false_verdicts(seconds: float) -> int:
    """Heartbeats called lost beside four busy loops, with nobody hung."""
    loop = [sys.executable, "-S", "-c", "while True: pass"]
    with node(EMPTY) as (table, _):
        l1(table)
        with hogs(loop, 4):
            after = table.head().newest
            time.sleep(seconds)
            return len(losses(table, after))


def phoenixes(rounds: int) -> list[float]:
    """Milliseconds from the request until sixteen fibers and L1 live again, by their events."""
    found: list[float] = []
    while len(found) < rounds:
        with controlled(SLEEPERS) as (control, _):
            table = control.hello()
            for _ in range(PHOENIX_MAX):
                l1(table)
                after, began = table.head().newest, time.monotonic_ns()
                control.shutdown(phoenix=True)
                spawned: list[int] = []
                while len(spawned) < 17:
                    table.wait(table.head().newest, 0.1)
                    events = table.events(after).events
                    spawned = [e.time_ns for e in events if e.kind == EventKind.FIBER_SPAWN]
                    if time.monotonic_ns() - began > 10e9:
                        return [float("inf")]
                found.append((max(spawned) - began) / 1e6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="benchmark: a node")
    parser.add_argument("--rounds", type=int, default=9, help="starts (9)")
    parser.add_argument("--hangs", type=int, default=20, help="hangs of L1 (20)")
    parser.add_argument("--seconds", type=float, default=60, help="beside busy loops (60)")
    parser.add_argument("--idle", type=float, default=20, help="seconds of idling (20)")
    parser.add_argument("--slice", type=float, help="not used here")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()

    own = statistics.median(starts(arguments.rounds))
    part, wakeups = idle(arguments.idle)
    anew = phoenixes(arguments.rounds)
    late = hangs(arguments.hangs)
    in_time = sum(one <= DEADLINE_S + POLL_S for one in late) / len(late)
    wrong = false_verdicts(arguments.seconds)
    rows = [
        ("boot to node up, own time, ms", own, START_MS_MAX, own <= START_MS_MAX),
        ("idle, part of one core", part, IDLE_MAX, part <= IDLE_MAX),
        ("idle, wake-ups of the supervisor a second", wakeups, None, True),
        (f"{len(anew)} times Phoenix, until 17 fibers live, median ms", statistics.median(anew),
         None, True),
        (f"{len(late)} hangs of L1, slowest found after, s", max(late), None, True),
        (f"of {len(late)} hangs, found later than after {DEADLINE_S + POLL_S} s", 1 - in_time,
         HANGS_LATE_MAX, 1 - in_time <= HANGS_LATE_MAX),
        (f"false verdicts in {arguments.seconds:.0f} s beside four busy loops", wrong, 0,
         wrong == 0),
    ]  # fmt: skip
    if arguments.json:
        verdicts = [
            {"id": "node", "ours": f"{name}: {value:.4g}", "peer": f"the bar of {bar:g}"}
            | {"most": 1, "ratio": value / bar if bar else value}
            | {"state": "met" if met else "missed"}
            for name, value, bar, met in rows
            if bar is not None
        ]
        record = {"schema": 1, "subject": "a node", "cases": {}, "missing": []}
        print(json.dumps(record | {"bars": verdicts}))
    else:
        for name, value, bar, met in rows:
            shown = "" if bar is None else f"(bar {bar:g})"
            print(f"  {'met' if met else 'missed':8} {name}: {value:.4g} {shown}")
    sys.exit(0 if all(met for *_, met in rows) else 1)


if __name__ == "__main__":
    main()

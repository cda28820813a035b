"""A node while somebody sets the clock: forward, back, to and fro. Nothing of it may be felt.

The clock of the machine is set, so that this runs in a guest alone; its kernel lacks the newer
layers of Landlock, which the node goes without.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus.cli import main
from nexus.logic.control import Control
from nexus.membrane.directory import NodeDirectory
from nexus.physics.control import connect_node
from nexus.seams.events import EventKind
from nexus.seams.supervisor import FiberEntry

pytestmark = pytest.mark.guest("edu")

WAIT_S = 120  # everything takes ten to twenty times as long here
DAY_S = 86_400
STEPS_S = (DAY_S, -2 * DAY_S, 3600, -3600, 0.5, -0.5, 10_000 * DAY_S, -10_000 * DAY_S)
WAIVED = ("--waive", "landlock-network", "--waive", "landlock-scopes")
NODE = """
survivability "radiation"
fiber "ticker" {
    program "/bin/sh" "-c" "while :; do echo x; sleep 0.2; done"
    pledge "stdio" "rpath" "proc" "exec"
    restart "always"
}
"""


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, f"{what}: not in {WAIT_S} s"
        time.sleep(0.1)


class Node:
    """A node in the foreground of this guest, whose L1 has beaten."""

    def __init__(self, folder: Path) -> None:
        self.directory = NodeDirectory(folder)
        folder.mkdir(mode=0o700)
        (folder / "node.kdl").write_text(NODE)
        words = ("boot", "--quiet", "--node", str(folder), *WAIVED)
        self.process = subprocess.Popen([sys.executable, "-m", "nexus.cli", *words])
        until(self.directory.control.exists, "the node's socket")
        self.control = Control(connect_node(self.directory.control))
        self.table = self.control.hello()
        until(self.beat, "the first beat of L1")

    def beat(self) -> int:
        return self.table.head().beat_ns

    def fiber(self, name: str) -> FiberEntry:
        (found,) = [one for one in self.table.fibers() if one.name == name]
        return found

    def kinds(self) -> set[int]:
        return {event.kind for event in self.table.events(0).events}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    ahead = time.time() - time.monotonic()
    made = Node(tmp_path_factory.mktemp("clock") / "node")
    try:
        yield made
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + ahead)
        made.table.close()
        made.control.close()
        made.process.kill()
        made.process.wait()


def test_steps_of_the_clock_are_not_felt_and_a_hang_still_is(node: Node) -> None:
    log = node.directory.log("ticker")
    for step in STEPS_S:
        beat, size = node.beat(), log.stat().st_size
        wanted = max(time.time() + step, 1.0)
        time.clock_settime(time.CLOCK_REALTIME, wanted)
        until(lambda b=beat: node.beat() > b, "a beat of L1")
        until(lambda s=size: log.stat().st_size > s, "the fiber's next line")
        assert abs(time.time() - wanted) < 60, "the canary: the clock was not set"
    assert (node.fiber("ticker").lives, node.fiber("L1").lives) == (1, 1)
    told = [event.time_ns for event in node.table.events(0).events]
    assert told == sorted(told)
    felt = {EventKind.HEARTBEAT_LOST, EventKind.RESTART_TRAP, EventKind.PHOENIX}
    assert not felt & node.kinds()
    os.kill(node.fiber("L1").pid, signal.SIGSTOP)
    time.clock_settime(time.CLOCK_REALTIME, time.time() - DAY_S)
    until(lambda: EventKind.HEARTBEAT_LOST in node.kinds(), "the hang")
    until(lambda: node.fiber("L1").lives == 2, "the next L1")
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait(WAIT_S) == 0
    assert main(["verify", "--node", str(node.directory.path)]) == 0

"""In a guest: a supervisor with L1 and a watchdog, and what is done to it; the word says what."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import time

from nexus.logic.bkdl import Manifest, Policy, encode_plan
from nexus.logic.control import Control
from nexus.logic.guard import Guard
from nexus.physics.control import ControlLink, control_pair
from nexus.physics.supervisor import seal_plan, spawn_supervisor
from nexus.seams.supervisor import L1_SLOT, FiberState, NodeState

DEVICE = "/dev/watchdog"
SETTIMEOUT = 0xC0045706  # WDIOC_SETTIMEOUT
TIMEOUT_S = 4
LONG_S = 2 * TIMEOUT_S


class Node:
    """A supervisor whose L1 sleeps: alive, which is all that is asked without its heartbeat."""

    def __init__(self, guard: Guard) -> None:
        ours, theirs = control_pair()
        with theirs:
            self.pid = spawn_supervisor((theirs.fileno(),), kept=(), session=True, stderr=2)
        self.control = Control(ControlLink(ours))
        self.table = self.control.hello()
        manifest = Manifest(
            name="L1",
            program="/bin/sh",
            arguments=("sh", "-c", "exec sleep 1000"),
            policy=Policy(pledge=2 << 62, tier=2),
            environment=("PATH=/usr/bin:/bin",),
        )
        null = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        plan = seal_plan(encode_plan(manifest, image=-1, digest=None))
        self.control.start([plan, *null], observer=True)
        device = None if guard.watchdog is None else os.open(guard.watchdog, os.O_WRONLY)
        took = self.control.guard(guard.words, device)
        if device is not None:
            os.close(device)
        say(f"guarded {took}")

    def l1(self) -> int:
        """The pid of L1, once it is alive."""
        while True:
            for entry in self.table.fibers():
                if entry.slot == L1_SLOT and entry.state == FiberState.ALIVE:
                    return entry.pid
            time.sleep(0.01)

    def phoenix(self, count: int) -> None:
        self.control.shutdown(phoenix=True)
        while self.table.head().phoenix < count:
            time.sleep(0.01)
        self.l1()


def say(what: str) -> None:
    print(what, flush=True)


def main(word: str) -> None:
    """What the word says; whatever resets the guest never comes back."""
    guard = Guard(limit=1, period_ms=600_000, then="reset", watchdog=DEVICE, timeout_s=TIMEOUT_S)
    if word == "nobody":
        device = os.open(DEVICE, os.O_WRONLY)
        (took,) = struct.unpack("i", fcntl.ioctl(device, SETTIMEOUT, struct.pack("i", TIMEOUT_S)))
        say(f"opened {took}")
    elif word == "reboot":
        node = Node(Guard(limit=1, period_ms=600_000, then="reboot"))
        node.phoenix(1)
        say("once")
        node.control.shutdown(phoenix=True)
    else:
        node = Node(guard)
        time.sleep(LONG_S)
        assert node.table.head().state == NodeState.UP
        say("petted")
        do_to(node, word)
    time.sleep(LONG_S)
    say("alive")


def do_to(node: Node, word: str) -> None:
    """What a watchdog is for, or what it must not take for that."""
    if word == "stopped":
        os.kill(node.pid, signal.SIGSTOP)
    elif word == "killed":
        os.kill(node.pid, signal.SIGKILL)
    elif word == "unwatched":
        os.kill(node.l1(), signal.SIGKILL)
    elif word == "often":
        node.phoenix(1)
        time.sleep(LONG_S)
        say("once")
        node.control.shutdown(phoenix=True)
    else:
        assert word == "ended"
        node.control.shutdown()
        assert os.waitstatus_to_exitcode(os.waitpid(node.pid, 0)[1]) == 0


if __name__ == "__main__":
    main(sys.argv[1])

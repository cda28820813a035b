"""Nodes of the contract suite: the simulated supervisor, and nexus-l0 where it can serve."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from nexus.errors import AbsentError, NexusError
from nexus.logic.bkdl import Descriptor, Manifest, Policy, encode_plan
from nexus.logic.control import Control
from nexus.physics.control import ControlLink, control_pair
from nexus.physics.supervisor import seal_plan, supervisor_path
from nexus.seams.supervisor import Supervisor
from nexus.sim.clock import SetClock
from nexus.sim.supervisor import SimSupervisor

# What the fibers of the suite do, by name: for the simulated node, and as a script of the shell.
STATUS = {"ends": 0, "fails": 7}
SCRIPTS = {"ends": "exit 0", "fails": "exit 7", "stays": "exec sleep 1000"}
# A descriptor that a fiber gets as a handle, and the type of its capability.
Extra = tuple[int, int]


@dataclass
class Node:
    """A node under test.

    Attributes:
        link: the connection.
        control: its verbs.
        gone: waits until the supervisor has ended; its exit status.
    """

    link: Supervisor
    control: Control
    gone: Callable[[], int]

    def plan(self, name: str, *, extra: Sequence[Extra] = (), **policy: int) -> list[int]:
        """The descriptors of a START; `close` them. Those of `extra` are handles 3 and so on."""
        manifest = Manifest(
            name=name,
            program="/bin/sh",
            arguments=("sh", "-c", SCRIPTS[name]),
            policy=Policy(pledge=2 << 62, tier=2, **policy),
            environment=("PATH=/usr/bin:/bin",),
            capabilities=tuple(
                Descriptor(kind, 1, number) for number, (kind, _) in enumerate(extra, 3)
            ),
        )
        handles = [(4 + i, 3 + i) for i in range(len(extra))]
        plan = seal_plan(encode_plan(manifest, image=-1, digest=None, handles=handles))
        null = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        return [plan, *null, *(os.dup(one) for _, one in extra)]

    def start(self, name: str, *, hold: bool = False, extra: Sequence[Extra] = (), **policy: int):
        """Start one of the fibers of the suite."""
        descriptors = self.plan(name, extra=extra, **policy)
        try:
            return self.control.start(descriptors, hold=hold)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def simulated() -> Iterator[Node]:
    link = SimSupervisor(SetClock(), ends=STATUS)
    yield Node(link, Control(link), lambda: 0)


@functools.cache
def cannot_serve() -> str | None:
    """Why nexus-l0 is not tested here, or None."""
    try:
        path = supervisor_path()
    except AbsentError as error:
        return str(error)
    ours, theirs = control_pair()
    with theirs:
        words = [path, "serve", str(theirs.fileno()), "-", "-"]
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    control = Control(ControlLink(ours))
    try:
        control.hello().close()
    except NexusError as error:
        return f"nexus-l0 serve does not answer: {error}"
    finally:
        control.close()
        process.kill()
        process.communicate()
    return None


def real() -> Iterator[Node]:
    reason = cannot_serve()
    if reason is not None:
        pytest.skip(f"the contract of the real supervisor is not checked: {reason}")
    ours, theirs = control_pair()
    with theirs:
        words = [supervisor_path(), "serve", str(theirs.fileno()), "-", "-"]
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()], env={})
    link = ControlLink(ours)
    try:
        yield Node(link, Control(link), lambda: process.wait(20))
    finally:
        link.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise AssertionError("the node did not end with its connection") from None


@pytest.fixture(params=[simulated, real], ids=["sim", "nexus-l0"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """Each implementation in turn."""
    yield from request.param()

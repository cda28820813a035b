"""A node from nothing to up: its directory, its supervisor, its observer, its fibers.

Whoever boots a node holds one end of the supervisor's control connection: when that process is
gone, however it ended, the supervisor ends the fibers and itself. So nothing is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nexus.errors import NexusError, NodeError, RefusedError, StartError
from nexus.logic.control import ANSWER_S, Control, FiberPlace
from nexus.logic.guard import Guard
from nexus.logic.node import NodeDescription, NodeFiber, parse_node
from nexus.membrane.assembly import Assembly
from nexus.membrane.directory import NodeDirectory
from nexus.physics.cgroups import CONTROLLERS, NodeCgroups
from nexus.physics.control import ControlLink, control_pair, listen_node
from nexus.physics.supervisor import spawn_supervisor
from nexus.seams.supervisor import SystemTable

__all__ = ["RunningNode", "arm", "boot", "boot_alone", "read_description", "start_late"]


def read_description(path: Path, directory: NodeDirectory) -> NodeDescription:
    """The node that a file describes.

    Raises:
        NodeError: it cannot be read, or says what a node cannot be.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise NodeError(f"{path} is not UTF-8: {error.reason}") from None
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from None
    return parse_node(text, str(directory.path))


@dataclass
class RunningNode:
    """A node that this process holds up.

    Attributes:
        control: its supervisor's verbs.
        table: its table.
        pid: of the supervisor, a child of this process.
        fibers: by name.
        waived: layers that were waived, and the fibers that go without.
        unwatched: channels of whose traffic L1 learns nothing, for want of handles.
        per_process: fibers whose limits hold for each process alone, and why.
        cgroups: what is undone when the node is over.
        guarded: whether a watchdog would answer a supervisor that is killed with a reset.
    """

    control: Control
    table: SystemTable
    pid: int
    fibers: dict[str, FiberPlace]
    waived: dict[str, list[str]] = field(default_factory=dict)
    unwatched: Sequence[str] = ()
    per_process: Mapping[str, str] = field(default_factory=dict)
    cgroups: NodeCgroups | None = None
    guarded: bool = False
    _status: int | None = None

    def status(self, *, wait: bool = False) -> int | None:
        """How the supervisor ended, as a shell would say; None while it has not."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
        return self._status

    def shutdown(self) -> int:
        """End all fibers and the supervisor, in order; how it ended."""
        if self.status() is None:
            with contextlib.suppress(ConnectionError):
                self.control.shutdown()
        self.control.close()
        status = self.status(wait=True)
        assert status is not None, "waitpid came back"
        self._leave_cgroups()
        return status

    def _leave_cgroups(self) -> None:
        if self.cgroups is not None:
            self.cgroups.leave()

    def kill(self) -> None:
        """End everything at once: fibers die with their supervisor. In order, if it is guarded."""
        if self.guarded:
            self.shutdown()
        if self.status() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.status(wait=True)
        self._leave_cgroups()


def _spawn(directory: NodeDirectory, lock: int) -> tuple[int, ControlLink]:
    """The supervisor as a child in a session of its own, so that Ctrl-C reaches us alone."""
    ours, theirs = control_pair()
    with theirs, listen_node(directory.control) as listener:
        beb = os.open(directory.beb, os.O_RDWR | os.O_CLOEXEC)
        words = (theirs.fileno(), listener.fileno(), beb)
        try:
            # The lock goes along: the node is taken until its supervisor is gone, too.
            pid = spawn_supervisor(words, kept=(lock,), session=True, stderr=2)
        except NexusError:
            ours.close()
            raise
        finally:
            os.close(beb)
    return pid, ControlLink(ours)


def arm(running: RunningNode, guard: Guard) -> None:
    """Hand the supervisor its watchdog; last, so that no failed boot resets the machine.

    Raises:
        NodeError: the device is none, or a privilege is missing.
    """
    device = None
    if guard.watchdog is not None:
        try:
            device = os.open(guard.watchdog, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NodeError(
                f"the watchdog {guard.watchdog} cannot be opened: {error.strerror}",
                hint="it takes root, and no other program that has it",
            ) from error
    try:
        running.control.guard(guard.words, device)
        running.guarded = device is not None
    except RefusedError as error:
        if device is not None:
            os.write(device, b"V")  # opening it has started it
        if error.errno == errno.EPERM:
            raise NodeError(
                'phoenix: then="reboot" was refused: CAP_SYS_BOOT is missing',
                hint='boot as root, or then="reset" with a watchdog',
            ) from error
        raise NodeError(
            f"{guard.watchdog} is no watchdog that takes a timeout of {guard.timeout_s} s: "
            f"{os.strerror(error.errno or 0)}"
        ) from error
    finally:
        if device is not None:
            os.close(device)


def boot(
    directory: NodeDirectory, node: NodeDescription, lock: int, *, learning: Sequence[str] = ()
) -> RunningNode:
    """Start a node whose directory is prepared and locked.

    Args:
        directory: of the node.
        node: what it consists of.
        lock: goes along with the supervisor.
        learning: words more for L1, as `--samples 20`.

    Raises:
        NexusError: the supervisor, L1 or a fiber cannot start; nothing is left running.
    """
    limited = any(CONTROLLERS.keys() & one.draft.limits.keys() for one in node.fibers)
    # Before the supervisor is there: it is to be where this process goes.
    cgroups = NodeCgroups.enter() if limited else NodeCgroups(None, "")
    try:
        return _boot(directory, node, lock, learning, cgroups)
    except BaseException:  # whatever it was, nothing may be left behind
        cgroups.leave()
        raise


def _boot(
    directory: NodeDirectory,
    node: NodeDescription,
    lock: int,
    learning: Sequence[str],
    cgroups: NodeCgroups,
) -> RunningNode:
    with Assembly(directory, node, cgroups) as assembly:
        # First, because what the host lacks for it no fiber's own waiver helps.
        observer = assembly.observer(("--ledger", str(directory.ledger), *learning))
        starts = [(fiber, assembly.fiber(fiber)) for fiber in node.fibers]
        pid, link = _spawn(directory, lock)
        facts = (assembly.waived, assembly.unwatched, assembly.per_process, cgroups)
        running = RunningNode(Control(link), None, pid, {}, *facts)  # type: ignore[arg-type]
        try:
            running.table = running.control.hello()
            # All are asked for at once, so that one's start does not wait for another's.
            posted = {"L1": running.control.post_start(observer.descriptors, observer=True)}
            for fiber, start in starts:
                posted[fiber.name] = running.control.post_start(
                    start.descriptors, hold=fiber.held, durable=start.durable, cgroup=start.cgroup
                )
            for name, one in posted.items():
                try:
                    answer = running.control.finish(one, ANSWER_S)
                except StartError as error:
                    raise StartError(error.errno or 0, f"fiber {name}: {error.args[1]}") from error
                running.fibers[name] = FiberPlace(answer.slot, answer.generation)
            if node.guard is not None:
                arm(running, node.guard)
        except BaseException:  # whatever it was, nothing may be left running
            running.kill()
            running.control.close()
            raise
        return running


def boot_alone(name: str, descriptors: Sequence[int], *, stderr: int) -> RunningNode:
    """One fiber under a supervisor that nobody else can reach, in our own session and group.

    Args:
        name: of the fiber.
        descriptors: those of its START.
        stderr: where the supervisor writes what it has to say.

    Raises:
        NexusError: the supervisor or the fiber cannot start; nothing is left running.
    """
    ours, theirs = control_pair()
    with theirs:
        try:
            pid = spawn_supervisor((theirs.fileno(),), kept=(), session=False, stderr=stderr)
        except NexusError:
            ours.close()
            raise
    running = RunningNode(Control(ControlLink(ours)), None, pid, {})  # type: ignore[arg-type]
    try:
        running.table = running.control.hello()
        running.fibers[name] = running.control.start(descriptors)
    except BaseException:  # whatever it was, nothing may be left running
        running.kill()
        running.control.close()
        raise
    return running


def start_late(
    directory: NodeDirectory,
    node: NodeDescription,
    fiber: NodeFiber,
    control: Control,
    *,
    pid: int,
) -> Mapping[str, str]:
    """Start a fiber that a node's description has and the running node has not.

    Args:
        directory: of the node.
        node: its description.
        fiber: of it.
        control: of the supervisor.
        pid: of the supervisor.

    Returns:
        the fiber, if its limits hold for each process alone, and why.

    Raises:
        NodeOwnerError: the directory is another user's: what it describes is not opened for them.
        NexusError: what the fiber shares with others is made when the node boots, or it cannot
            start.
    """
    directory.check_owner()
    channels = [one for one in node.channels if fiber.name in (one.source, one.target)]
    shared = [f"channel {one.name}" for one in channels]
    if fiber.company != 0:
        shared.append("its group")
    if shared:
        what = ", ".join(shared)
        raise NodeError(
            f"fiber {fiber.name} cannot join a node that is up; made at the boot: {what}",
            hint="end the node, and nexus boot",
        )
    cgroups = NodeCgroups.beside(pid)
    with Assembly(directory, replace(node, fibers=(fiber,), channels=()), cgroups) as assembly:
        start = assembly.fiber(fiber)
        posted = control.post_start(start.descriptors, durable=start.durable, cgroup=start.cgroup)
        control.finish(posted)
        return assembly.per_process

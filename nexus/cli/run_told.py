"""`nexus run --json`: the program as with `nexus run`, and on stderr what happens, line by line.

This process stays as the parent of a supervisor that nobody else can reach. Three threads, since
three things come by themselves: this one waits for signals, one for the fiber's end, one for
events. Signals have one owner, the supervisor, which is in our process group: what the terminal
makes reaches it and the program without us, what a process sends to us goes on to it.

Not handled: the program's own stderr is the caller's, so its lines stand between ours.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress

from nexus.cli.events import event_record
from nexus.cli.output import Output
from nexus.errors import NodeDownError, StartError
from nexus.logic.bkdl import Manifest, encode_plan
from nexus.logic.control import FiberEnd, FiberPlace
from nexus.membrane.boot import RunningNode, boot_alone
from nexus.physics.supervisor import seal_plan
from nexus.seams.events import EventKind
from nexus.seams.supervisor import FiberEntry, FiberState, NodeState

__all__ = ["run_told"]

# The table wakes us for every event; a supervisor that was killed tells none.
LOOK_S = 1.0
_NOTICES_BYTES = 1 << 16
_ENDING = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_FORWARD_LIMIT = 31  # as the supervisor has it
_SENT = {0, -1}  # SI_USER, SI_QUEUE
_IMAGE = 4  # START begins with plan, stdin, stdout, stderr
_BREAKER_OPEN = 1


class _Teller:
    """Prints the events of a node and what its supervisor says, each once.

    Attributes:
        over: the number of the newest life that has ended.
        done: set when there is nothing more to come.
    """

    def __init__(self, node: RunningNode, output: Output, notices: int) -> None:
        self._table = node.table
        self._output = output
        self._notices = notices
        self._rest = b""
        self._newest = 0
        self._mute = False
        self.over = 0
        self.done = threading.Event()

    def say(self, kind: str, body: Mapping[str, object]) -> None:
        """Print one document; a reader that left is no reason to end the program."""
        if not self._mute:
            try:
                self._output.aside(kind, body)
            except OSError:
                self._mute = True

    def tell(self) -> None:
        """Print what is new."""
        events = self._table.events(self._newest)
        self._newest = events.newest
        names = {fiber.id: fiber.name for fiber in self._table.fibers()}
        if events.lost:
            self.say("lost", {"title": EventKind.EVENTS_LOST.title, "count": events.lost})
        for event in events.events:
            if event.kind == EventKind.FIBER_TERMINATE:
                self.over = event.data[0]
            self.say("event", event_record(event, names))
        with suppress(BlockingIOError):
            self._rest += os.read(self._notices, _NOTICES_BYTES)
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self.say("notice", {"message": line.decode("utf-8", "replace")})

    def follow(self) -> None:
        """Print until the supervisor is over."""
        while not self.done.is_set() and self._table.head().state != NodeState.OVER:
            self.tell()
            self._table.wait(self._newest, LOOK_S)


def _first_pid(node: RunningNode) -> int | None:
    for event in node.table.events(0).events:
        if event.kind == EventKind.FIBER_SPAWN:
            return event.data[2] or None
    return None


def _start(
    name: str, manifest: Manifest, image: tuple[int, bytes | None], notices: int
) -> RunningNode:
    """The supervisor and the fiber, which has our own stdin, stdout and stderr."""
    descriptor, digest = image
    sealed = digest is not None
    plan = seal_plan(encode_plan(manifest, image=_IMAGE if sealed else -1, digest=digest))
    try:
        given = (plan, 0, 1, 2, descriptor) if sealed else (plan, 0, 1, 2)
        return boot_alone(name, given, stderr=notices)
    finally:
        os.close(plan)


def _hear(node: RunningNode) -> bool:
    """Wait for signals until the supervisor has ended; whether one of them asked for the end."""
    asked = False
    while True:
        info = signal.sigwaitinfo(signal.valid_signals())
        number = info.si_signo
        if number == signal.SIGCHLD:
            if node.status() is not None:
                return asked
        elif number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            asked |= number in _ENDING
            sent = info.si_code in _SENT and info.si_pid != os.getpid()
            if sent and number <= _FORWARD_LIMIT:
                os.kill(node.pid, number)


def _why(entry: FiberEntry, over: int, *, asked: bool) -> str:
    """Why no further life follows."""
    if entry.state == FiberState.QUARANTINED:
        return "quarantined"
    if asked:
        return "asked"
    if over < entry.lives:
        return "start failed"
    return "breaker" if entry.breaker == _BREAKER_OPEN else "policy"


def _follow(node: RunningNode, place: FiberPlace, teller: _Teller) -> int:
    ends: list[FiberEnd] = []

    def wait() -> None:
        # Without an answer the supervisor is gone, and its end is what is reported.
        with suppress(NodeDownError):
            ends.append(node.control.wait(place))
            node.control.shutdown()

    threads = [threading.Thread(target=one, daemon=True) for one in (wait, teller.follow)]
    for thread in threads:
        thread.start()
    asked = _hear(node)
    teller.done.set()
    for thread in threads:
        thread.join()
    teller.tell()
    if not ends:
        raise StartError(errno.ECHILD, f"the supervisor ended by itself, status {node.status()}")
    (entry,) = [one for one in node.table.fibers() if one.slot == place.slot]
    (end,) = ends
    teller.say(
        "over",
        {
            "name": entry.name,
            "status": end.status,
            "lives": end.lives,
            "restarts": entry.restarts,
            "why": _why(entry, teller.over, asked=asked),
        },
    )
    return end.status


def run_told(
    name: str,
    manifest: Manifest,
    image: tuple[int, bytes | None],
    policy: Mapping[str, object],
    output: Output,
) -> int:
    """Run a program and tell what happens; its exit status.

    Args:
        name: of the fiber.
        manifest: what the fiber is.
        image: the descriptor of the sealed program and its digest, if it is sealed.
        policy: what `--explain` shows.
        output: where to tell it.

    Raises:
        NexusError: it did not start, or the supervisor did not live as long as it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            raise StartError(
                errno.EBADF, f"descriptor {number} is closed", hint="redirect it to /dev/null"
            ) from None
    # Our only child's end must come as a signal, whatever we were started with.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    notices, say = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        node = _start(name, manifest, image, say)
    finally:
        os.close(say)
    teller = _Teller(node, output, notices)
    teller.say("run", {**policy, "pid": _first_pid(node)})
    return _follow(node, node.fibers[name], teller)

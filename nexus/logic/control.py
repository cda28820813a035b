"""The verbs of a node's supervisor: requests put together, answers taken apart, errors named.

Works over anything that implements `nexus.seams.supervisor.Supervisor`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from nexus.errors import (
    NexusError,
    NodeDownError,
    RefusedError,
    StaleError,
    StartError,
    UnknownFiberError,
)
from nexus.seams.supervisor import (
    ANY_SLOT,
    Answer,
    FiberEntry,
    Operation,
    Request,
    Supervisor,
    SystemTable,
    Taken,
)

__all__ = ["STAGES", "Control", "FiberEnd", "FiberPlace"]

ANSWER_S = 30.0  # an answer that takes longer never comes
_HOLD, _IS_L1, _DURABLE, _CGROUP, _AT_ONCE, _PHOENIX = 1, 2, 4, 8, 1, 1

# In the order of nx_l0_stage of nx_l0.h.
STAGES = (
    "none", "image", "clone", "lifeline", "identity", "mount source", "mount root",
    "mount target", "network", "fiber clone", "session", "directory", "privileges", "landlock",
    "handles", "limits", "filter", "execute", "running",
)  # fmt: skip

_REASONS = {
    errno.EINVAL: "a value is out of range",
    errno.EBADMSG: "the plan is not sound",
    errno.EBUSY: "the fiber is alive, or somebody waits for it already",
    errno.ENOSPC: "there is no free place",
    errno.EPERM: "that is more than its parent has, or for L1 alone",
    errno.ECANCELED: "the life ended before it began, or the node is shutting down",
}


@dataclass(frozen=True, slots=True)
class FiberPlace:
    """A fiber by slot and generation; a late request never meets a successor."""

    slot: int
    generation: int

    @classmethod
    def of(cls, entry: FiberEntry) -> FiberPlace:
        """The place of an entry of the table."""
        return cls(entry.slot, entry.generation)


@dataclass(frozen=True, slots=True)
class FiberEnd:
    """How a fiber ended: exit status, 128 + N after signal N, and how many lives it had."""

    status: int
    lives: int


def _failure(request: Request, answer: Answer) -> NexusError:
    number = -answer.result
    name = request.operation.name
    stage = answer.words[0]
    if request.operation in (Operation.START, Operation.BEGIN) and stage:
        what = STAGES[stage] if stage < len(STAGES) else str(stage)
        text = errno.errorcode.get(number, str(number))
        return StartError(number, f"start failed at {what}, item {answer.words[1]}, errno {text}")
    if number == errno.ENOENT:
        return UnknownFiberError(
            f"{name}: nothing is at {request.slot}", hint="see nexus fiber list"
        )
    if number == errno.ESTALE:
        return StaleError(f"{name}: generation {request.generation} of its slot has passed")
    why = _REASONS.get(number, "see the errno")
    return RefusedError(number, f"{name} was refused, {errno.errorcode.get(number, number)}: {why}")


class Control:
    """What can be asked of a supervisor.

    Args:
        link: the connection; closed with this object.
    """

    def __init__(self, link: Supervisor) -> None:
        self._link = link

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def post(self, request: Request) -> tuple[Request, int]:
        """Send a request whose answer is collected later."""
        return request, self._link.post(request)

    def finish(self, posted: tuple[Request, int], timeout_s: float | None = ANSWER_S) -> Answer:
        """The answer to what was posted.

        Raises:
            NexusError: it was refused.
        """
        request, ticket = posted
        answer = self._link.collect(ticket, timeout_s)
        if answer.result:
            raise _failure(request, answer)
        return answer

    def _ask(self, operation: Operation, place: FiberPlace | None = None, **rest: int) -> Answer:
        flags = rest.pop("flags", 0)
        slot, generation = (place.slot, place.generation) if place else (ANY_SLOT, 0)
        words = tuple(rest.values())
        return self.finish(self.post(Request(operation, flags, slot, generation, words)))

    def hello(self) -> SystemTable:
        """The table of the node."""
        answer = self._ask(Operation.HELLO)
        if answer.descriptor is None:
            raise NodeDownError("the supervisor gave no table")
        return self._link.open_table(answer.descriptor)

    def post_start(
        self,
        descriptors: Sequence[int],
        *,
        hold: bool = False,
        observer: bool = False,
        durable: int | None = None,
        cgroup: int | None = None,
    ) -> tuple[Request, int]:
        """Ask for a new fiber: plan, stdin, stdout, stderr, and what the plan names by index.

        Args:
            descriptors: these.
            hold: begin no life yet.
            observer: it is L1.
            durable: the file in which its checkpoints are kept.
            cgroup: the directory of the cgroup that it is to be in.
        """
        flags = (_HOLD if hold else 0) | (_IS_L1 if observer else 0)
        flags |= (0 if durable is None else _DURABLE) | (0 if cgroup is None else _CGROUP)
        last = (one for one in (durable, cgroup) if one is not None)
        return self.post(Request(Operation.START, flags, descriptors=(*descriptors, *last)))

    def start(
        self, descriptors: Sequence[int], *, hold: bool = False, observer: bool = False
    ) -> FiberPlace:
        """Start a fiber, and wait until its first life runs."""
        answer = self.finish(self.post_start(descriptors, hold=hold, observer=observer))
        return FiberPlace(answer.slot, answer.generation)

    def begin(self, place: FiberPlace, descriptors: Sequence[int] = ()) -> None:
        """Begin a life of a fiber that is held, over or quarantined."""
        request = Request(
            Operation.BEGIN, 0, place.slot, place.generation, descriptors=tuple(descriptors)
        )
        self.finish(self.post(request))

    def stop(self, place: FiberPlace, *, at_once: bool = False) -> None:
        """Ask a fiber to end, and its restarts with it."""
        self._ask(Operation.STOP, place, flags=_AT_ONCE if at_once else 0)

    def signal(self, place: FiberPlace, number: int) -> None:
        """Send a signal."""
        self._ask(Operation.SIGNAL, place, number=number)

    def restart(self, place: FiberPlace) -> None:
        """End the life at once and begin another."""
        self._ask(Operation.RESTART, place)

    def forget(self, place: FiberPlace) -> None:
        """Free the slot of a fiber that is not alive."""
        self._ask(Operation.FORGET, place)

    def wait(self, place: FiberPlace, timeout_s: float | None = None) -> FiberEnd:
        """Wait until a fiber is over or quarantined."""
        posted = self.post(Request(Operation.WAIT, 0, place.slot, place.generation))
        answer = self.finish(posted, timeout_s)
        return FiberEnd(answer.words[0], answer.words[1])

    def feature(self, mask: int) -> int:
        """Features to be on from now on; the effective mask."""
        return self._ask(Operation.FEATURE, mask=mask).words[0]

    def grant(
        self,
        place: FiberPlace,
        *,
        type: int,
        rights: int,
        object: int,
        start: int = 0,
        end: int = 0,
        parent: int | None = None,
    ) -> int:
        """Give a capability; its index."""
        answer = self._ask(
            Operation.GRANT,
            place,
            head=type | rights << 8,
            object=object,
            start=start,
            end=end,
            parent=0 if parent is None else parent + 1,
        )
        return answer.words[0]

    def revoke(self, place: FiberPlace, index: int) -> tuple[int, Taken]:
        """Take a capability and all that was derived from it; how many, and what went with it.

        The last one that names a handle closes a channel at both ends, or ends the life that has
        the file open.
        """
        words = self._ask(Operation.REVOKE, place, index=index).words
        return words[0], Taken(words[1])

    def guard(self, words: Sequence[int], device: int | None) -> int:
        """Say how far Phoenix may go; the timeout that the watchdog took, 0 without one."""
        given = () if device is None else (device,)
        request = Request(Operation.GUARD, words=tuple(words), descriptors=given)
        return self.finish(self.post(request)).words[0]

    def look(self) -> None:
        """Say that there are new verdicts."""
        self._ask(Operation.LOOK)

    def shutdown(self, *, phoenix: bool = False) -> None:
        """End all fibers, then the supervisor; with Phoenix, begin anew."""
        self._ask(Operation.SHUTDOWN, flags=_PHOENIX if phoenix else 0)

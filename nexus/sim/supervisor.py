"""A supervisor in memory: what `nexus-l0 serve` answers and tells, without a process.

Fibers are names with a given end. A fiber whose name is not in `ends` lives until it is told to
stop; one that is ends with that status as soon as its life begins, or when `end` is called. Time
is that of a `SetClock`, and waiting lets it pass.

Not handled: budgets, checkpoints, templates, standby, the heartbeat of L1, what follows too many
Phoenix, and life pages: what is revoked is told, and closed nowhere.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from nexus.errors import DeadlineError, NodeDownError
from nexus.seams.events import Event, EventKind
from nexus.seams.supervisor import (
    ANY_SLOT,
    FIBERS_MAX,
    L1_SLOT,
    NEVER_ENDED,
    Answer,
    CapabilityWord,
    Events,
    FiberEntry,
    FiberFlag,
    FiberState,
    Head,
    NodeState,
    Operation,
    Request,
)
from nexus.sim.clock import SetClock

__all__ = ["SimSupervisor"]

_EVENTS_MAX = 1024
_SPACE = 64
_WAITERS_MAX = 4
_PLAN_MAX = 1 << 21
_HOLD, _IS_L1, _PHOENIX = 1, 2, 1
_DELEGATE = 16
_CHANNEL, _MEMORY, _INDEX_MAX = 2, 3, 63
_DEPTH = 3  # the last derivation may not delegate
_BEGUN = (FiberState.ALIVE, FiberState.PAUSE, FiberState.STARTING)


class _Refused(Exception):
    """A request is answered with an errno."""


def _sections(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 8 <= len(data):
        kind, _, size = struct.unpack_from("<HHI", data, at)
        found[kind] = data[at + 8 : at + 8 + size]
        at += 8 + size + -size % 8
    return found


class _Plan(NamedTuple):
    name: str
    policy: bytes
    capabilities: list[tuple[int, int, int]]
    handles: dict[int, int]


def _read_plan(descriptor: int) -> _Plan:
    """Name, policy, capabilities, and index by number of a plan; docs/spec/bkdl.md."""
    whole = _sections(os.pread(descriptor, _PLAN_MAX, 0))
    manifest = whole.get(256, b"")
    if len(manifest) < 118:
        raise _Refused(errno.EBADMSG)
    descriptors = int.from_bytes(manifest[104:106], "little")
    start = 118 + descriptors * 12
    inner = _sections(manifest[start + -start % 8 :])
    if 1 not in inner or len(inner.get(6, b"")) != 96:
        raise _Refused(errno.EBADMSG)
    given = struct.iter_unpack("<BBxxQ", manifest[118:start])
    handles = {number: what for what, number in struct.iter_unpack("<II", whole.get(258, b""))}
    name = inner[1].rstrip(b"\0").decode()
    return _Plan(name, inner[6], [one for one in given if one[0]], handles)


class SimSupervisor:
    """Implements `nexus.seams.supervisor.Supervisor` and, for readers, `SystemTable`.

    Args:
        clock: the time of the node.
        ends: name of a fiber to the status that each of its lives ends with at once.
        boot_mask: features that are on from the start.
    """

    def __init__(
        self, clock: SetClock, *, ends: Mapping[str, int] | None = None, boot_mask: int = 7
    ) -> None:
        self.clock = clock
        self._ends = dict(ends or {})
        self._start_ns = clock.monotonic_ns()
        self._masks = [boot_mask, 0]
        self._fibers: dict[int, FiberEntry] = {}
        self._restart: dict[int, tuple[int, int]] = {}
        self._plans: dict[int, _Plan] = {}
        self._revoked: dict[int, set[tuple[int, int]]] = {}
        self._spaces: dict[int, dict[int, CapabilityWord]] = {}
        self._generations: dict[int, int] = {}
        self._told: list[Event] = []
        self._answers: dict[int, Answer] = {}
        self._waiting: dict[int, list[int]] = {}
        self._ticket = 0
        self._state = NodeState.UP
        self._phoenix = 0
        self.tell(EventKind.SYSTEM_BOOT)

    # What a test does to the node.

    def tell(
        self, kind: EventKind, *, fiber: int = 0, entity: int = 0, data: tuple[int, ...] = ()
    ) -> int:
        """Add an event; its id."""
        numbers = (*data, 0, 0, 0)[:3]
        id = len(self._told) + 1
        now_ns = self.clock.monotonic_ns()
        event = Event(id, kind, now_ns, fiber, entity, 0, (numbers[0], numbers[1], numbers[2]))
        self._told.append(event)
        return id

    def change(self, slot: int, **fields: object) -> None:
        """Set fields of a fiber's entry."""
        self._fibers[slot] = replace(self._fibers[slot], **fields)  # type: ignore[arg-type]

    def end(self, slot: int, status: int) -> None:
        """The life of a fiber ends by itself."""
        entry = self._fibers[slot]
        policy, intensity = self._restart[slot]
        self._terminate(slot, status)
        wanted = policy == 2 or (policy == 1 and status != 0)
        if not wanted:
            self._settle(slot, FiberState.OVER)
        elif entry.restarts >= intensity:
            self.tell(EventKind.BREAKER_OPEN, fiber=entry.id, entity=entry.restarts)
            self._settle(slot, FiberState.OVER)
        else:
            self.change(slot, restarts=entry.restarts + 1)
            self._begin(slot)

    # Supervisor.

    def post(self, request: Request) -> int:
        """Handle a request; the answer waits to be collected."""
        if self._state == NodeState.OVER:
            raise NodeDownError("the supervisor of this node is gone")
        self._ticket += 1
        try:
            answer = self._handle(request, self._ticket)
        except _Refused as refused:
            answer = Answer(request.slot, request.generation, -refused.args[0], (0,) * 5)
        if answer is not None:
            self._answers[self._ticket] = answer
        return self._ticket

    def collect(self, ticket: int, timeout_s: float | None) -> Answer:
        """The answer to a request; time passes when there is none."""
        if ticket in self._answers:
            return self._answers.pop(ticket)
        if timeout_s is None:
            raise AssertionError("this would wait for ever: nothing happens by itself here")
        self.clock.advance(int(timeout_s * 1e9))
        raise DeadlineError(f"the supervisor did not answer in {timeout_s:.3g} s")

    def open_table(self, descriptor: int) -> SimSupervisor:
        """The table is the supervisor itself; its descriptor says nothing."""
        return self

    def close(self) -> None:
        """Nothing to release."""

    # SystemTable.

    def head(self) -> Head:
        """The head."""
        newest = len(self._told)
        start = self._start_ns
        wall = self.clock.wall_ns() - (self.clock.monotonic_ns() - start)
        return Head(os.getpid(), 0, start, wall, self._state, self._phoenix, 0, newest, 0, 0, 0)

    def features(self) -> tuple[int, int]:
        """The boot and the runtime mask."""
        return self._masks[0], self._masks[1]

    def fibers(self) -> list[FiberEntry]:
        """All slots that are not free."""
        return [self._fibers[slot] for slot in sorted(self._fibers)]

    def capabilities(self, slot: int) -> list[CapabilityWord]:
        """The capabilities of a slot."""
        return list(self._spaces.get(slot, {}).values())

    def events(self, after: int) -> Events:
        """All events after one that the ring still has."""
        newest = len(self._told)
        first = max(after, newest - _EVENTS_MAX + 1 if newest > _EVENTS_MAX else 0)
        found = tuple(self._told[first:])
        return Events(found, max(0, newest - after) - len(found), max(newest, after))

    def wait(self, after: int, timeout_s: float | None) -> bool:
        """Whether there is an event after one; if not, the time has passed."""
        if len(self._told) > after:
            return True
        self.clock.advance(int((timeout_s or 0) * 1e9))
        return False

    # Requests.

    def _entry(self, request: Request) -> FiberEntry:
        entry = self._fibers.get(request.slot)
        if entry is None:
            raise _Refused(errno.ENOENT)
        if request.generation not in (0, entry.generation):
            raise _Refused(errno.ESTALE)
        return entry

    def _handle(self, request: Request, ticket: int) -> Answer | None:
        words = (*request.words, 0, 0, 0, 0, 0, 0)[:6]
        if request.operation == Operation.HELLO:
            return Answer(0, 0, 0, (1, 0, 0, 0, 0), descriptor=-1)
        if request.operation == Operation.START:
            return self._start(request)
        if request.operation == Operation.FEATURE:
            return self._feature(words[0])
        if request.operation == Operation.LOOK:
            return Answer(0, 0, 0, (0,) * 5)
        if request.operation == Operation.GUARD:
            return Answer(0, 0, 0, (words[3], 0, 0, 0, 0))
        if request.operation == Operation.SHUTDOWN:
            return self._rise() if request.flags & _PHOENIX else self._shutdown()
        entry = self._entry(request)
        if request.operation == Operation.WAIT:
            return self._wait(entry, ticket)
        word = taken = 0
        if request.operation == Operation.REVOKE:
            word, taken = self._revoke(entry, words[0])
        else:
            word = self._change(request, entry, words)
        return Answer(entry.slot, entry.generation, 0, (word, taken, 0, 0, 0))

    def _change(self, request: Request, entry: FiberEntry, words: tuple[int, ...]) -> int:
        slot = entry.slot
        if request.operation == Operation.GRANT:
            return self._grant(entry, words)
        if request.operation == Operation.BEGIN:
            if entry.state in _BEGUN:
                raise _Refused(errno.EBUSY)
            self._begin(slot)
        elif request.operation == Operation.FORGET:
            if entry.state in _BEGUN:
                raise _Refused(errno.EBUSY)
            del self._fibers[slot]
        elif request.operation == Operation.RESTART:
            if entry.state in _BEGUN:
                self._terminate(slot, 128 + 9)
            self._begin(slot)
        elif request.operation == Operation.STOP:
            self._stop(entry, 128 + (9 if request.flags & 1 else 15))
        elif request.operation == Operation.SIGNAL and not 1 <= words[0] <= 64:
            raise _Refused(errno.EINVAL)
        return 0

    def _start(self, request: Request) -> Answer:
        if self._state != NodeState.UP:
            raise _Refused(errno.ECANCELED)
        if len(request.descriptors) < 4:
            raise _Refused(errno.EINVAL)
        plan = _read_plan(request.descriptors[0])
        name, policy = plan.name, plan.policy
        slot = L1_SLOT if request.flags & _IS_L1 else request.slot
        if slot == ANY_SLOT:
            free = [one for one in range(FIBERS_MAX) if one not in self._fibers]
            if not free:
                raise _Refused(errno.ENOSPC)
            slot = free[0]
        if slot in self._fibers:
            raise _Refused(errno.EBUSY)
        generation = self._generations[slot] = self._generations.get(slot, 0) + 1
        pledge, promises, budget = struct.unpack_from("<QQQ", policy)
        (tier,) = struct.unpack_from("<I", policy, 60)
        strategy, company = struct.unpack_from("<II", policy, 84)
        self._restart[slot] = struct.unpack_from("<II", policy, 40)
        numbers = (0, 0, NEVER_ENDED, tier, tier, 0, 0, 0, 0, 0, 0, 1, 0)
        self._fibers[slot] = FiberEntry(
            slot, generation, FiberState.HELD, *numbers, pledge, promises, budget, 0, 0, 0, 0, 0, 0,
            FiberFlag.L1 if slot == L1_SLOT else FiberFlag(0), company, strategy, 0, 0, 0, name,
        )  # fmt: skip
        self._plans[slot] = plan
        self._revoked[slot] = set()
        self._spaces[slot] = {}
        (level,) = struct.unpack_from("<I", policy, 64)
        if slot == L1_SLOT and level:  # L1's is the floor, any other adds to it
            self._masks[0], level = level, 0
        self._feature(level & ~(self._masks[0] | self._masks[1]))
        if not request.flags & _HOLD:
            self._begin(slot)
        return Answer(slot, generation, 0, (0,) * 5)

    def _begin(self, slot: int) -> None:
        entry = self._fibers[slot]
        now_ns = self.clock.monotonic_ns()
        given = [
            one for one in self._plans[slot].capabilities if one[::2] not in self._revoked[slot]
        ]
        epoch = entry.epoch + 1
        self._spaces[slot] = {
            index: CapabilityWord(index, kind, rights, 0, 0, epoch, object, 0, 0xFFFFFFFFFFFFFFFF)
            for index, (kind, rights, object) in enumerate(given)
        }
        spawned = self.tell(EventKind.FIBER_SPAWN, fiber=entry.id, data=(entry.lives + 1,))
        self.change(
            slot,
            state=FiberState.ALIVE,
            lives=entry.lives + 1,
            epoch=epoch,
            pid=100_000 + spawned,
            begin_ns=now_ns,
            last_event=spawned,
        )
        if entry.name in self._ends:
            self.end(slot, self._ends[entry.name])

    def _terminate(self, slot: int, status: int) -> None:
        entry = self._fibers[slot]
        id = self.tell(EventKind.FIBER_TERMINATE, fiber=entry.id, data=(status, entry.lives))
        now_ns = self.clock.monotonic_ns()
        self.change(slot, status=status, pid=0, end_ns=now_ns, last_event=id)

    def _settle(self, slot: int, state: FiberState) -> None:
        self.change(slot, state=state)
        entry = self._fibers[slot]
        for ticket in self._waiting.pop(slot, ()):
            self._answers[ticket] = _ended(entry)

    def _stop(self, entry: FiberEntry, status: int) -> None:
        if entry.state in _BEGUN:
            self._terminate(entry.slot, status)
        self._settle(entry.slot, FiberState.OVER)

    def _wait(self, entry: FiberEntry, ticket: int) -> Answer | None:
        if entry.state in (FiberState.OVER, FiberState.QUARANTINED):
            return _ended(entry)
        waiting = self._waiting.setdefault(entry.slot, [])
        if len(waiting) == _WAITERS_MAX:
            raise _Refused(errno.EBUSY)
        waiting.append(ticket)
        return None

    def _feature(self, mask: int) -> Answer:
        if mask > 0xFF:
            raise _Refused(errno.EINVAL)
        before = self._masks[0] | self._masks[1]
        self._masks[1] |= mask
        effective = self._masks[0] | self._masks[1]
        if effective != before:
            self.tell(EventKind.FEATURE_CHANGE, entity=effective, data=(before, self._masks[0]))
        return Answer(0, 0, 0, (effective, 0, 0, 0, 0))

    def _grant(self, entry: FiberEntry, words: tuple[int, ...]) -> int:
        kind, rights = words[0] & 0xFF, words[0] >> 8 & 0xFF
        space = self._spaces[entry.slot]
        if not 1 <= kind <= 6 or words[2] > words[3]:
            raise _Refused(errno.EINVAL)
        depth = 0
        if words[4]:
            parent = space.get(words[4] - 1)
            if parent is None:
                raise _Refused(errno.ESTALE)
            depth = parent.depth + 1
            decayed = depth >= _DEPTH and rights & _DELEGATE
            if rights & ~parent.rights or not parent.rights & _DELEGATE or decayed:
                raise _Refused(errno.EPERM)
        free = [index for index in range(_SPACE) if index not in space]
        if not free:
            raise _Refused(errno.ENOSPC)
        space[free[0]] = CapabilityWord(
            free[0], kind, rights, words[4], depth, entry.epoch, words[1], words[2], words[3]
        )
        self._revoked[entry.slot].discard((kind, words[1]))
        self.tell(EventKind.CAPABILITY_GRANT, fiber=entry.id, entity=words[1])
        return free[0]

    def _revoke(self, entry: FiberEntry, index: int) -> tuple[int, int]:
        space = self._spaces[entry.slot]
        if index not in space:
            raise _Refused(errno.ESTALE)
        named = space[index]
        gone = {index}
        for one in sorted(space):  # a child comes after its parent, or is found the next time round
            gone |= {child for child, word in space.items() if word.parent - 1 in gone}
            assert one in space
        for one in gone:
            del space[one]
        self.tell(EventKind.CAPABILITY_REVOKE, fiber=entry.id, entity=index, data=(len(gone),))
        return len(gone), self._take(entry, named)

    def _take(self, entry: FiberEntry, gone: CapabilityWord) -> int:
        """Take the handle that a word named, if no other does; 1 for a channel, 2 for a file."""
        handle = (gone.type, gone.object)
        left = [(one.type, one.object) for one in self._spaces[entry.slot].values()]
        index = self._plans[entry.slot].handles.get(gone.object, ANY_SLOT)
        if handle in left or gone.type not in (_CHANNEL, _MEMORY) or index > _INDEX_MAX:
            return 0
        self._revoked[entry.slot].add(handle)
        if gone.type == _MEMORY and entry.state in _BEGUN:
            self._terminate(entry.slot, 128 + 9)
            self._begin(entry.slot)
        return 1 if gone.type == _CHANNEL else 2

    def _rise(self) -> Answer:
        """Phoenix: what lived or was quarantined begins anew, all else stays as it is."""
        self._phoenix += 1
        self.tell(EventKind.PHOENIX, entity=self._phoenix)
        for entry in self.fibers():
            if entry.state == FiberState.ALIVE:
                self._terminate(entry.slot, 128 + 9)
            if entry.state in (*_BEGUN, FiberState.QUARANTINED):
                self._begin(entry.slot)
        return Answer(0, 0, 0, (0,) * 5)

    def _shutdown(self) -> Answer:
        for entry in self.fibers():
            self._stop(entry, 128 + 15)
        self.tell(EventKind.SYSTEM_SHUTDOWN)
        self._state = NodeState.OVER
        return Answer(0, 0, 0, (0,) * 5)


def _ended(entry: FiberEntry) -> Answer:
    return Answer(entry.slot, entry.generation, 0, (entry.status, entry.lives, 0, 0, 0))

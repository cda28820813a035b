"""The table of a node and the observer's page as mapped memory: docs/spec/node.md.

A reader asks nobody: entries are copied between two equal values of their lock, what stands in
three copies is voted on, and of events only those count that were not overwritten meanwhile.
After Phoenix the supervisor writes another table, in which events go on: it is asked for that.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

from nexus._core import words
from nexus._core.capability import tmr_vote
from nexus.errors import CorruptError
from nexus.physics.stl import EVENT_BYTES, decode_event
from nexus.seams.clock import Clock
from nexus.seams.supervisor import (
    FIBERS_MAX,
    CapabilityWord,
    Events,
    FiberEntry,
    FiberFlag,
    FiberState,
    Head,
    NodeState,
    VerdictCode,
)

__all__ = ["MappedTable", "ObserverPage"]

TABLE_BYTES = 200_704
_MAGIC = b"NXSYS\0\r\n"
_VERSION = 1
_HEAD = struct.Struct("<8sIIIIQQIIQQQQQ")
_STATE, _NEWEST = 40, 56
_FEATURES = (4096, 8192, 12288)
_FIBERS, _FIBER_BYTES = 16384, 256
_FIBER = struct.Struct("<4x7I2Q6I9Q3I4x3Q8x64s")
_CAPABILITIES, _CAPABILITY = (24576, 61440, 98304), struct.Struct("<BBBBIQQQ")
_SPACE = 64
_EVENTS, _EVENTS_MAX = 135_168, 1024

_PAGE_BYTES = 4096
_VERDICTS, _VERDICTS_MAX = 64, 64
_VERDICT = struct.Struct("<QQQBBHHH")
_PRODUCER_L1 = 1


class MappedTable:
    """A mapped SysTable; implements `nexus.seams.supervisor.SystemTable`.

    Args:
        descriptor: of the memfd; taken over.
        renew: asks for the table that goes on, a descriptor to take over; None: this one stays.

    Raises:
        CorruptError: it is no table of version 1.
    """

    def __init__(self, descriptor: int, renew: Callable[[], int] | None = None) -> None:
        self._renew = renew
        self._map(descriptor)

    def _map(self, descriptor: int) -> None:
        try:
            size = os.fstat(descriptor).st_size
            if size < TABLE_BYTES:
                raise CorruptError(f"a SysTable has {TABLE_BYTES} bytes, this one {size}")
            memory = mmap.mmap(descriptor, TABLE_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(descriptor)
        magic, version = struct.unpack_from("<8sI", memory)
        if magic != _MAGIC or version != _VERSION:
            memory.close()
            raise CorruptError(f"this is no SysTable of version {_VERSION}: {magic!r}, {version}")
        self._memory = memory

    def _follow(self) -> None:
        """Map the table that goes on, if there is another one by now."""
        moved = struct.unpack_from("<I", self._memory, _STATE)[0] == NodeState.MOVED
        if moved and self._renew is not None:
            old = self._memory
            self._map(self._renew())
            old.close()

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()

    def head(self) -> Head:
        """The head; each field is whole, but not all are of one moment."""
        self._follow()
        values = _HEAD.unpack_from(self._memory)[3:]
        pid, generation, start, wall, state, phoenix, wakes, newest, repairs, audits, beat = values
        return Head(
            pid=pid,
            generation=generation,
            start_ns=start,
            start_wall_ns=wall,
            state=NodeState(state),
            phoenix=phoenix,
            wakes=wakes,
            newest=newest,
            repairs=repairs,
            audits=audits,
            beat_ns=beat,
        )

    def _vote(self, places: tuple[int, ...], size: int) -> bytes:
        copies = [bytearray(self._memory[place : place + size]) for place in places]
        if copies[0] != copies[1] or copies[1] != copies[2]:
            tmr_vote(*copies)
        return bytes(copies[0])

    def features(self) -> tuple[int, int]:
        """The boot and the runtime mask."""
        self._follow()
        voted = self._vote(_FEATURES, 8)
        return voted[0], voted[1]

    def fibers(self) -> list[FiberEntry]:
        """All slots that are not free."""
        self._follow()
        found = []
        for slot in range(FIBERS_MAX + 1):
            place = _FIBERS + slot * _FIBER_BYTES
            values = _FIBER.unpack(words.read_entry(self._memory, place, _FIBER_BYTES))
            if values[1] != FiberState.FREE:
                found.append(_entry(slot, values))
        return found

    def capabilities(self, slot: int) -> list[CapabilityWord]:
        """The capabilities of a slot."""
        self._follow()
        size = _SPACE * _CAPABILITY.size
        space = self._vote(tuple(base + slot * size for base in _CAPABILITIES), size)
        return [
            CapabilityWord(index, *values)
            for index, values in enumerate(_CAPABILITY.iter_unpack(space))
            if values[0]
        ]

    def _newest(self) -> int:
        return words.load(self._memory, _NEWEST)

    def _copies(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        for id in range(first, last + 1):
            place = _EVENTS + (id - 1) % _EVENTS_MAX * EVENT_BYTES
            yield id, self._memory[place : place + EVENT_BYTES]

    def events(self, after: int) -> Events:
        """All events after one that can still be had."""
        self._follow()
        newest = self._newest()
        first = max(after, newest - _EVENTS_MAX) + 1
        copies = list(self._copies(first, newest))
        # What came over while it was copied may be torn: it is lost, and counted as such.
        oldest = self._newest() - _EVENTS_MAX + 1
        found = []
        for id, raw in copies:
            if id <= oldest:
                continue
            try:
                found.append(decode_event(raw, id))
            except CorruptError:
                continue
        return Events(tuple(found), max(0, newest - after) - len(found), max(newest, after))

    def wait(self, after: int, timeout_s: float | None) -> bool:
        """Sleep until there is an event after one."""
        self._follow()
        if self._newest() > after:
            return True
        timeout_ns = None if timeout_s is None else int(timeout_s * 1e9)
        words.sleep_on(self._memory, _NEWEST, after & 0xFFFFFFFF, timeout_ns)
        return self._newest() > after


def _entry(slot: int, values: tuple[Any, ...]) -> FiberEntry:
    generation, state, *numbers, flags, company, strategy, reads, writes, counted, name = values
    text = name.split(b"\0")[0].decode("utf-8", "replace")
    fields: list[Any] = [slot, generation, FiberState(state), *numbers]
    fields += [FiberFlag(flags), company, strategy, reads, writes, counted, text]
    return FiberEntry(*fields)


class ObserverPage:
    """The page that L1 writes; implements `nexus.seams.supervisor.Observer`.

    Args:
        descriptor: of the memfd; taken over.
        clock: whose time verdicts carry.
    """

    def __init__(self, descriptor: int, clock: Clock) -> None:
        self._clock = clock
        try:
            self._memory = mmap.mmap(descriptor, _PAGE_BYTES, mmap.MAP_SHARED)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()

    def beat(self) -> None:
        """Count one beat."""
        words.store(self._memory, 0, words.load(self._memory, 0) + 1 & 0xFFFFFFFFFFFFFFFF)

    def issue(self, fiber: int, code: VerdictCode, confidence: int, reason: int) -> int:
        """Write a verdict; its sequence, which goes on from that of an earlier life."""
        sequence = words.load(self._memory, 8) + 1
        place = _VERDICTS + (sequence - 1) % _VERDICTS_MAX * _VERDICT.size
        now_ns = self._clock.monotonic_ns()
        verdict = (fiber, sequence, now_ns, code, _PRODUCER_L1, confidence, reason, 0)
        self._memory[place : place + _VERDICT.size] = _VERDICT.pack(*verdict)
        words.store(self._memory, 8, sequence)
        return sequence

"""A mapped table: foreign memory refused, copies voted on, torn and overwritten events counted."""

from __future__ import annotations

import os
import struct

import pytest

from nexus.errors import CorruptError
from nexus.physics.clock import HostClock
from nexus.physics.stl import encode_event
from nexus.physics.systable import TABLE_BYTES, MappedTable, ObserverPage
from nexus.seams.events import EventKind
from nexus.seams.supervisor import VerdictCode


class Memory:
    """A table that the test writes."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("table")
        os.ftruncate(self.fd, TABLE_BYTES)
        self.write(0, struct.pack("<8sII", b"NXSYS\0\r\n", 1, TABLE_BYTES))

    def write(self, place: int, data: bytes) -> None:
        os.pwrite(self.fd, data, place)

    def event(self, id: int, raw: bytes | None = None) -> None:
        made = encode_event(
            EventKind.FIBER_SPAWN, time_ns=id, fiber=1, entity=id, cause=0, data=(0, 0, 0)
        )
        self.write(135_168 + (id - 1) % 1024 * 64, made if raw is None else raw)
        self.write(56, id.to_bytes(8, "little"))

    def table(self) -> MappedTable:
        return MappedTable(os.dup(self.fd))


@pytest.fixture
def memory():
    memory = Memory()
    yield memory
    os.close(memory.fd)


def test_what_is_no_table_is_refused(memory: Memory) -> None:
    memory.write(8, struct.pack("<I", 2))
    with pytest.raises(CorruptError, match="version 1"):
        memory.table()
    small = os.memfd_create("small")
    os.ftruncate(small, 4096)
    with pytest.raises(CorruptError, match="this one 4096"):
        MappedTable(small)


def test_the_majority_of_the_feature_masks_counts(memory: Memory) -> None:
    for place, mask in ((4096, 0x0307), (8192, 0x0307), (12288, 0xFFFF)):
        memory.write(place, mask.to_bytes(8, "little"))
    assert memory.table().features() == (0x07, 0x03)


def test_a_damaged_event_is_lost_and_the_others_are_not(memory: Memory) -> None:
    for id in (1, 2, 3):
        memory.event(id)
    memory.event(4, bytes(64))
    memory.event(5)
    events = memory.table().events(1)
    assert [event.id for event in events.events] == [2, 3, 5]
    assert (events.lost, events.newest) == (1, 5)


def test_who_asks_from_the_future_gets_nothing(memory: Memory) -> None:
    memory.event(1)
    events = memory.table().events(9)
    assert (events.events, events.lost, events.newest) == ((), 0, 9)


def test_overwritten_events_are_counted(memory: Memory) -> None:
    for id in range(1, 1200):
        memory.event(id)
    events = memory.table().events(0)
    assert [event.id for event in events.events] == list(range(177, 1200))
    assert events.lost == 176


def test_an_entry_that_stays_locked_is_said(memory: Memory) -> None:
    memory.write(16384, struct.pack("<3I", 1, 1, 1))
    with pytest.raises(CorruptError, match="stays locked"):
        memory.table().fibers()


def test_verdicts_go_on_where_an_earlier_life_ended() -> None:
    page = os.memfd_create("page")
    os.ftruncate(page, 4096)
    for life in range(2):
        observer = ObserverPage(os.dup(page), HostClock())
        for _ in range(40):
            observer.beat()
            observer.issue(1 << 32 | 3, VerdictCode.DEMOTE, 7000, EventKind.ANOMALY_DETECTED)
        observer.close()
        assert os.pread(page, 16, 0) == struct.pack("<QQ", 40 * (life + 1), 40 * (life + 1))
    newest = struct.unpack("<QQQBBHHH", os.pread(page, 32, 64 + 79 % 64 * 32))
    assert (newest[0], newest[1], newest[3:]) == (1 << 32 | 3, 80, (3, 1, 7000, 62, 0))
    os.close(page)

"""Every parameter of every public call of the physics, as rows for the bad-input suite."""

from __future__ import annotations

import array
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from nexus.physics import (
    Baseline,
    BlockSpec,
    CapabilityTable,
    CellFilter,
    FieldSpec,
    Mmio,
    Register,
    RegisterMap,
    RegisterSpec,
    tmr_differs,
    tmr_vote,
)


@dataclass(frozen=True)
class Entry:
    """One parameter of one call.

    Attributes:
        name: the call, as in `Class.method`.
        parameter: which argument is spoiled.
        kind: `integer`, `number`, `labelled` (an integer or a
            name), `buffer`, `writable` (a buffer) or `doubles` (a buffer of).
        make: makes the object under test, closed again when the test ends.
        call: calls with a value for the parameter and good ones for the others.
        good: a right value.
        state: what must not change.
        special: values that are wrong for this call alone, with what they raise.
        close: closes the object, where it can be closed.
    """

    name: str
    parameter: str
    kind: str
    make: Callable[[], AbstractContextManager[Any]]
    call: Callable[[Any, Any], object]
    good: Any
    state: Callable[[Any], Any] = lambda target: None
    special: tuple[tuple[Any, type[Exception]], ...] = ()
    close: Callable[[Any], object] | None = None


def table() -> AbstractContextManager[Any]:
    made = CapabilityTable(8)
    made.mint(1, 2, 0x1F)
    return nullcontext(made)


def cells() -> AbstractContextManager[Any]:
    return nullcontext(CellFilter([b"a" * 16]))


def baseline() -> AbstractContextManager[Any]:
    return nullcontext(Baseline(2, lock_after=100))


def nothing() -> AbstractContextManager[Any]:
    return nullcontext(None)


ROOT_HANDLE = 1 << 32
ID = b"b" * 16

TABLES = [
    Entry("CapabilityTable", "capacity", "integer", nothing,
          lambda _, v: CapabilityTable(v), 4,
          special=((0, ValueError), (2**24 + 1, OverflowError))),
    Entry("CapabilityTable.mint", "type", "integer", table,
          lambda t, v: t.mint(v, 1, 1), 3, lambda t: t.audit(), ((256, OverflowError),)),
    Entry("CapabilityTable.mint", "object", "integer", table,
          lambda t, v: t.mint(1, v, 1), 3, lambda t: t.audit()),
    Entry("CapabilityTable.mint", "rights", "integer", table,
          lambda t, v: t.mint(1, 1, v), 3, lambda t: t.audit(), ((1 << 16, OverflowError),)),
    Entry("CapabilityTable.mint", "domain", "integer", table,
          lambda t, v: t.mint(1, 1, 1, domain=v), 3, lambda t: t.audit(), ((256, OverflowError),)),
    Entry("CapabilityTable.derive", "parent", "integer", table,
          lambda t, v: t.derive(v, 1), ROOT_HANDLE, lambda t: t.audit(),
          ((0, LookupError), (1, LookupError))),
    Entry("CapabilityTable.derive", "rights", "integer", table,
          lambda t, v: t.derive(ROOT_HANDLE, v), 1, lambda t: t.audit(),
          ((0x20, PermissionError), (1 << 16, OverflowError))),
    Entry("CapabilityTable.check", "handle", "integer", table,
          lambda t, v: t.check(v, 1), ROOT_HANDLE, lambda t: t.audit()),
    Entry("CapabilityTable.check", "rights", "integer", table,
          lambda t, v: t.check(ROOT_HANDLE, v), 1, lambda t: t.audit()),
    Entry("CapabilityTable.__contains__", "handle", "integer", table,
          lambda t, v: v in t, ROOT_HANDLE, lambda t: t.audit()),
    Entry("CapabilityTable.check_many", "handles[0]", "integer", table,
          lambda t, v: t.check_many([v], 1), ROOT_HANDLE, lambda t: t.audit()),
    Entry("CapabilityTable.check_many", "handles", "buffer", table,
          lambda t, v: t.check_many(v, 1), bytes(8), lambda t: t.audit()),
    Entry("CapabilityTable.check_many", "rights", "integer", table,
          lambda t, v: t.check_many([1], v), 1, lambda t: t.audit()),
    Entry("CapabilityTable.lookup", "handle", "integer", table,
          lambda t, v: t.lookup(v), ROOT_HANDLE, lambda t: t.audit(), ((0, LookupError),)),
    Entry("CapabilityTable.revoke", "handle", "integer", table,
          lambda t, v: t.revoke(v), 0, lambda t: t.audit()),
    Entry("tmr_differs", "a", "buffer", nothing,
          lambda _, v: tmr_differs(v, bytes(8), bytes(8)), bytes(8),
          special=((bytes(7), ValueError),)),
    Entry("tmr_vote", "a", "writable", nothing,
          lambda _, v: tmr_vote(v, bytearray(8), bytearray(8)), bytearray(8),
          special=((bytearray(7), ValueError),)),
    Entry("CellFilter", "ids", "buffer", nothing, lambda _, v: CellFilter(v), ID,
          special=((ID[1:], ValueError), (bytes(16), ValueError), ([ID, 1], TypeError))),
    Entry("CellFilter.check", "cell_id", "buffer", cells, lambda f, v: f.check(v), ID,
          lambda f: f.members(), ((ID[1:], ValueError), (ID * 2, ValueError))),
    Entry("CellFilter.check_many", "frames", "buffer", cells, lambda f, v: f.check_many(v), ID * 3,
          lambda f: f.members(), ((ID[1:], ValueError),)),
    Entry("CellFilter.check_many", "stride", "integer", cells,
          lambda f, v: f.check_many(ID * 4, v), 32, lambda f: f.members(),
          ((0, ValueError), (15, ValueError), (2**63 - 1, ValueError))),
    Entry("CellFilter.check_many", "offset", "integer", cells,
          lambda f, v: f.check_many(ID * 4, 32, v), 8, lambda f: f.members(),
          ((17, ValueError), (2**63 - 1, ValueError))),
    Entry("CellFilter.replace", "ids", "buffer", cells, lambda f, v: f.replace(v), ID,
          lambda f: f.members(), ((ID[1:], ValueError),)),
    Entry("CellFilter.add", "ids", "buffer", cells, lambda f, v: f.add(v), ID,
          lambda f: f.members(), ((bytes(16), ValueError),)),
    Entry("CellFilter.discard", "ids", "buffer", cells, lambda f, v: f.discard(v), ID,
          lambda f: f.members(), ((ID[1:], ValueError),)),
    Entry("Baseline", "metrics", "integer", nothing, lambda _, v: Baseline(v), 3,
          special=((0, ValueError), (65, ValueError))),
    Entry("Baseline", "lock_after", "integer", nothing,
          lambda _, v: Baseline(1, lock_after=v), 3, special=((1, ValueError),)),
    Entry("Baseline", "sigma", "number", nothing, lambda _, v: Baseline(1, sigma=v), 2.0,
          special=((0.0, ValueError), (-1, ValueError))),
    Entry("Baseline.update", "values[1]", "number", baseline, lambda b, v: b.update((1.0, v)), 2.0,
          lambda b: (b.samples, b.mean)),
    Entry("Baseline.check", "values[1]", "number", baseline, lambda b, v: b.check([1.0, v]), 2.0,
          lambda b: (b.samples, b.mean)),
    Entry("Baseline.update_many", "samples", "doubles", baseline,
          lambda b, v: b.update_many(v), array.array("d", [1.0, 2.0]),
          lambda b: (b.samples, b.mean)),
]  # fmt: skip

SIZE = 64


@contextmanager
def window() -> Iterator[Mmio]:
    """64 bytes of a memory file, through the path every backing takes."""
    fd = os.memfd_create("registers")
    try:
        os.ftruncate(fd, 4096)
        with Mmio.attach(fd, 0, SIZE) as made:
            yield made
    finally:
        os.close(fd)


def registers(made: Mmio) -> list[int] | None:
    return None if made.closed else made.read_block(0, SIZE, width=8)


FD = 200


@contextmanager
def memory_fd() -> Iterator[int]:
    """A memory file under a number known beforehand."""
    fd = os.memfd_create("registers")
    os.ftruncate(fd, 4096)
    os.dup2(fd, FD)
    os.close(fd)
    try:
        yield FD
    finally:
        os.close(FD)


OUTSIDE: tuple[tuple[Any, type[Exception]], ...] = ((SIZE, IndexError), (2**63 - 1, IndexError))


def accessors() -> Iterator[Entry]:
    """Offset and value of every fixed-width accessor."""
    for suffix in ("8", "16", "32", "64", "16be", "32be", "64be", "32_relaxed"):
        width = int("".join(c for c in suffix if c.isdigit()))
        step = width // 8
        wrong = (*OUTSIDE, *([(step // 2, ValueError)] if step > 1 else []))
        too_wide = ((1 << width, OverflowError),) if width < 64 else ()
        read, write = f"read{suffix}", f"write{suffix}"
        yield Entry(
            f"Mmio.{read}",
            "offset",
            "integer",
            window,
            lambda w, v, name=read: getattr(w, name)(v),
            8,
            registers,
            wrong,
            lambda w: w.close(),
        )
        yield Entry(
            f"Mmio.{write}",
            "offset",
            "integer",
            window,
            lambda w, v, name=write: getattr(w, name)(v, 1),
            8,
            registers,
            wrong,
            lambda w: w.close(),
        )
        yield Entry(f"Mmio.{write}", "value", "integer", window,
                    lambda w, v, name=write: getattr(w, name)(8, v), 1, registers, too_wide,
                    lambda w: w.close())  # fmt: skip


def window_call(
    name: str, parameter: str, call: Callable[[Any, Any], object], good: Any, *special: Any,
    kind: str = "integer",
) -> Entry:  # fmt: skip
    """A row of a call on a window."""
    return Entry(f"Mmio.{name}", parameter, kind, window, call, good, registers, special,
                 lambda w: w.close())  # fmt: skip


WIDTHS = ((0, ValueError), (7, ValueError), (128, ValueError))
TOO_WIDE = (1 << 32, OverflowError)
NO_MASK = (1 << 32, ValueError)  # a mask or value that does not fit the register
MISPLACED = (*OUTSIDE, (2, ValueError))

WINDOWS = [
    *accessors(),
    Entry("Mmio.attach", "fd", "integer", memory_fd,
          lambda _, v: Mmio.attach(v, 0, SIZE).close(), FD, special=((FD + 1, OSError),)),
    Entry("Mmio.attach", "offset", "integer", memory_fd,
          lambda _, v: Mmio.attach(FD, v, SIZE).close(), 4),
    Entry("Mmio.attach", "size", "integer", memory_fd,
          lambda _, v: Mmio.attach(FD, 0, v).close(), 4, special=((0, ValueError),)),
    Entry("Mmio.dry_run", "size", "integer", nothing,
          lambda _, v: Mmio.dry_run(v).close(), 4, special=((0, ValueError),)),
    window_call("update", "offset", lambda w, v: w.update(v, 1, 1), 4, *MISPLACED),
    window_call("update", "mask", lambda w, v: w.update(4, v, 0), 4, NO_MASK),
    window_call("update", "value", lambda w, v: w.update(4, 0xFF, v), 4, NO_MASK),
    window_call("update", "width", lambda w, v: w.update(4, 1, 1, width=v), 32, *WIDTHS),
    window_call("set_bits", "offset", lambda w, v: w.set_bits(v, 1), 4, *MISPLACED),
    window_call("set_bits", "mask", lambda w, v: w.set_bits(4, v), 4, NO_MASK),
    window_call("clear_bits", "offset", lambda w, v: w.clear_bits(v, 1), 4, *MISPLACED),
    window_call("clear_bits", "mask", lambda w, v: w.clear_bits(4, v), 4, NO_MASK),
    window_call("read_block", "offset", lambda w, v: w.read_block(v, 2), 4, *MISPLACED),
    window_call("read_block", "count", lambda w, v: w.read_block(0, v), 4, (17, IndexError),
                (2**61 + 1, OverflowError)),
    window_call("read_block", "width", lambda w, v: w.read_block(0, 2, width=v), 16, *WIDTHS),
    window_call("read_fifo", "offset", lambda w, v: w.read_fifo(v, 2), 4, *MISPLACED),
    window_call("write_block", "offset", lambda w, v: w.write_block(v, [1, 2]), 4, *MISPLACED),
    window_call("write_block", "values[1]", lambda w, v: w.write_block(0, [1, v]), 4, TOO_WIDE),
    window_call("write_fifo", "offset", lambda w, v: w.write_fifo(v, [1, 2]), 4, *MISPLACED),
    window_call("write_fifo", "values[1]", lambda w, v: w.write_fifo(0, [1, v]), 4, TOO_WIDE),
    window_call("read_block_into", "buffer", lambda w, v: w.read_block_into(0, v), bytearray(8),
                (bytearray(7), ValueError), kind="writable"),
    window_call("read_fifo_into", "buffer", lambda w, v: w.read_fifo_into(0, v), bytearray(8),
                (bytearray(7), ValueError), kind="writable"),
    window_call("poll", "offset", lambda w, v: w.poll(v, 0, 0, 0), 4, *MISPLACED),
    window_call("poll", "mask", lambda w, v: w.poll(4, v, 0, 0), 0, NO_MASK),
    window_call("poll", "value", lambda w, v: w.poll(4, 0, v, 0), 0, NO_MASK),
    window_call("poll", "timeout", lambda w, v: w.poll(4, 0, 0, v), 0.5, (-1, ValueError),
                kind="number"),
    Entry("Register", "offset", "integer", window, lambda w, v: Register(w, v), 4, registers,
          MISPLACED),
    Entry("Register", "width", "integer", window, lambda w, v: Register(w, 0, v), 32, registers,
          WIDTHS),
    Entry("Register.value", "value", "integer", window,
          lambda w, v: setattr(Register(w, 4), "value", v), 5, registers, (TOO_WIDE,)),
    Entry("Field.value", "value", "labelled", window,
          lambda w, v: setattr(Register(w, 4, fields=[FieldSpec(name="F", lsb=1, width=3)])["F"],
                               "value", v), 5, registers, ((8, OverflowError),)),
]  # fmt: skip

ENTRIES = TABLES + WINDOWS

# Results and descriptions: made by calls, not by users.
WITHOUT_ARGUMENTS = {"Access", "Audit", "BoundMap", "Capability"}
# Descriptions check themselves when they are made: tests/unit/physics/test_registers.py.
WITHOUT_ARGUMENTS |= {kind.__name__ for kind in (BlockSpec, FieldSpec, RegisterMap, RegisterSpec)}

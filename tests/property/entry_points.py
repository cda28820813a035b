"""Every parameter of every public call of the physics, as rows for the bad-input suite."""

from __future__ import annotations

import array
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from nexus.physics import Baseline, CapabilityTable, CellFilter, Ring, tmr_differs, tmr_vote


@dataclass(frozen=True)
class Entry:
    """One parameter of one call.

    Attributes:
        name: the call, as in `Class.method`.
        parameter: which argument is spoiled.
        kind: `integer`, `number`, `buffer`, `writable` (a buffer) or `doubles` (a buffer of).
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


def ring() -> AbstractContextManager[Any]:
    made = Ring.create(4096)
    made.put_many([bytes(8)] * 20)
    return made


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

SHARED = Ring.create(4096)

RINGS = [
    Entry("Ring.create", "capacity", "integer", nothing, lambda _, v: Ring.create(v), 4096,
          special=((0, ValueError), (2**30 + 1, ValueError))),
    Entry("Ring.attach", "fd", "integer", nothing, lambda _, v: Ring.attach(v), SHARED.fd,
          special=((2**31 - 1, OSError), (2**31, OverflowError))),
    Entry("Ring.put", "data", "buffer", ring, lambda r, v: r.put(v), b"12345678",
          lambda r: r.stats(), ((bytes(4096), ValueError),), lambda r: r.close()),
    Entry("Ring.put_many", "records", "buffer", ring, lambda r, v: r.put_many([b"1", v]), b"2",
          lambda r: r.stats(), ((bytes(4096), ValueError),), lambda r: r.close()),
    Entry("Ring.put_array", "rows", "buffer", ring, lambda r, v: r.put_array(v, 8), bytes(16),
          lambda r: r.stats(), ((bytes(15), ValueError),), lambda r: r.close()),
    Entry("Ring.get_many", "limit", "integer", ring, lambda r, v: r.get_many(v), 2,
          lambda r: r.stats(), (), lambda r: r.close()),
    Entry("Ring.get_into", "rows", "writable", ring, lambda r, v: r.get_into(v, 8), bytearray(8),
          lambda r: r.stats(), ((bytearray(9), ValueError),), lambda r: r.close()),
    Entry("Ring.reserve", "size", "integer", ring, lambda r, v: r.reserve(v).cancel(), 8,
          lambda r: r.stats(), ((4096, ValueError),), lambda r: r.close()),
]  # fmt: skip

ENTRIES = TABLES + RINGS

# Results and descriptions: made by calls, not by users.
WITHOUT_ARGUMENTS = {"Audit", "Capability", "RingStats", "Span"}

"""Every parameter of every public call of the physics, as rows for the bad-input suite."""

from __future__ import annotations

import array
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from entry import Entry, nothing
from entry_data import HASHES, RINGS, SLOTS, STREAMS
from entry_fibers import FIBERS
from entry_registers import REGISTERS
from entry_seccomp import FILTERS

from nexus.physics import Baseline, CapabilityTable, CellFilter, tmr_differs, tmr_vote


def table() -> AbstractContextManager[Any]:
    made = CapabilityTable(8)
    made.mint(1, 2, 0x1F)
    return nullcontext(made)


def cells() -> AbstractContextManager[Any]:
    return nullcontext(CellFilter([b"a" * 16]))


def baseline() -> AbstractContextManager[Any]:
    return nullcontext(Baseline(2, lock_after=100))


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

ENTRIES = [*TABLES, *REGISTERS, *FILTERS, *RINGS, *HASHES, *STREAMS, *SLOTS, *FIBERS]

# Results and descriptions: made by calls, not by users.
WITHOUT_ARGUMENTS = {
    *("Access", "Audit", "BoundMap", "Capability", "SeccompCapabilities", "SeccompRule"),
    *("Checkpoint", "RingStats", "Span", "simd_level"),
    *("seccomp_capabilities", "syscalls"),
    *("FiberHandles", "NativeRuntime", "fiber_handles", "fiber_name", "give_up_cpu"),
    "native_runtime",
}

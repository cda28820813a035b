"""Host mechanisms over the C core: rings, registers, capabilities, filters, chunking.

A name is loaded when it is first asked for: a command that looks at a table needs no chunker.
"""

import importlib
from typing import TYPE_CHECKING

# A function and a module of one name: the function has it, so the module comes first.
from nexus.physics.syscalls import syscall_mask, syscall_name, syscalls

if TYPE_CHECKING:
    from nexus._core._ring_handle import RingStats
    from nexus._core._window import Access
    from nexus._core.baseline import Baseline
    from nexus._core.capability import Audit, Capability, CapabilityTable, tmr_differs, tmr_vote
    from nexus._core.checkpoint import Checkpoint, CheckpointSlot
    from nexus._core.chunker import Chunker, ChunkStream
    from nexus._core.filter import CellFilter
    from nexus._core.hash import (
        Blake3,
        blake3,
        blake3_derive_key,
        blake3_keyed,
        blake3_many,
        crc32c,
        simd_level,
        siphash24,
        siphash24_128,
        xxh3_64,
        xxh64,
    )
    from nexus._core.life import FiberHandles, LifePage, parse_handles
    from nexus._core.mmio import Mmio
    from nexus._core.register import Field, Register
    from nexus._core.ring import Ring
    from nexus._core.span import Span
    from nexus.physics.fibers import fiber_handles, fiber_name, give_up_cpu
    from nexus.physics.registers import BlockSpec, BoundMap, FieldSpec, RegisterMap, RegisterSpec
    from nexus.physics.runtime import NativeRuntime, native_runtime
    from nexus.physics.seccomp import (
        Action,
        ArgumentTest,
        SeccompCapabilities,
        SeccompFilter,
        SeccompRule,
        seccomp_capabilities,
    )
else:

    def __getattr__(name: str) -> object:
        place = _PLACES.get(name)
        if place is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(place), name)
        globals()[name] = value
        return value


__all__ = [
    "Access",
    "Action",
    "ArgumentTest",
    "Audit",
    "Baseline",
    "Blake3",
    "BlockSpec",
    "BoundMap",
    "Capability",
    "CapabilityTable",
    "CellFilter",
    "Checkpoint",
    "CheckpointSlot",
    "ChunkStream",
    "Chunker",
    "FiberHandles",
    "Field",
    "FieldSpec",
    "LifePage",
    "Mmio",
    "NativeRuntime",
    "Register",
    "RegisterMap",
    "RegisterSpec",
    "Ring",
    "RingStats",
    "SeccompCapabilities",
    "SeccompFilter",
    "SeccompRule",
    "Span",
    "blake3",
    "blake3_derive_key",
    "blake3_keyed",
    "blake3_many",
    "crc32c",
    "fiber_handles",
    "fiber_name",
    "give_up_cpu",
    "native_runtime",
    "parse_handles",
    "seccomp_capabilities",
    "simd_level",
    "siphash24",
    "siphash24_128",
    "syscall_mask",
    "syscall_name",
    "syscalls",
    "tmr_differs",
    "tmr_vote",
    "xxh3_64",
    "xxh64",
]

# Where each name is: the same as above, which a test compares.
_NAMES = {
    "nexus._core._ring_handle": ("RingStats",),
    "nexus._core._window": ("Access",),
    "nexus._core.baseline": ("Baseline",),
    "nexus._core.capability": (
        "Audit",
        "Capability",
        "CapabilityTable",
        "tmr_differs",
        "tmr_vote",
    ),
    "nexus._core.checkpoint": (
        "Checkpoint",
        "CheckpointSlot",
    ),
    "nexus._core.chunker": (
        "Chunker",
        "ChunkStream",
    ),
    "nexus._core.filter": ("CellFilter",),
    "nexus._core.hash": (
        "Blake3",
        "blake3",
        "blake3_derive_key",
        "blake3_keyed",
        "blake3_many",
        "crc32c",
        "simd_level",
        "siphash24",
        "siphash24_128",
        "xxh3_64",
        "xxh64",
    ),
    "nexus._core.life": (
        "FiberHandles",
        "LifePage",
        "parse_handles",
    ),
    "nexus._core.mmio": ("Mmio",),
    "nexus._core.register": (
        "Field",
        "Register",
    ),
    "nexus._core.ring": ("Ring",),
    "nexus._core.span": ("Span",),
    "nexus.physics.fibers": (
        "fiber_handles",
        "fiber_name",
        "give_up_cpu",
    ),
    "nexus.physics.registers": (
        "BlockSpec",
        "BoundMap",
        "FieldSpec",
        "RegisterMap",
        "RegisterSpec",
    ),
    "nexus.physics.runtime": (
        "NativeRuntime",
        "native_runtime",
    ),
    "nexus.physics.seccomp": (
        "Action",
        "ArgumentTest",
        "SeccompCapabilities",
        "SeccompFilter",
        "SeccompRule",
        "seccomp_capabilities",
    ),
}
_PLACES = {name: place for place, names in _NAMES.items() for name in names}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

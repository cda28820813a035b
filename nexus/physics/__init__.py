"""Host mechanisms over the C core: rings, registers, capabilities, filters, chunking."""

from nexus._core._ring_handle import RingStats
from nexus._core._window import Access
from nexus._core.baseline import Baseline
from nexus._core.capability import Audit, Capability, CapabilityTable, tmr_differs, tmr_vote
from nexus._core.filter import CellFilter
from nexus._core.mmio import Mmio
from nexus._core.register import Field, Register
from nexus._core.ring import Ring
from nexus._core.span import Span
from nexus.physics.registers import BlockSpec, BoundMap, FieldSpec, RegisterMap, RegisterSpec

__all__ = [
    "Access",
    "Audit",
    "Baseline",
    "BlockSpec",
    "BoundMap",
    "Capability",
    "CapabilityTable",
    "CellFilter",
    "Field",
    "FieldSpec",
    "Mmio",
    "Register",
    "RegisterMap",
    "RegisterSpec",
    "Ring",
    "RingStats",
    "Span",
    "tmr_differs",
    "tmr_vote",
]

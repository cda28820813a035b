"""Host mechanisms over the C core: rings, registers, capabilities, filters, chunking."""

from nexus._core.baseline import Baseline
from nexus._core.capability import Audit, Capability, CapabilityTable, tmr_differs, tmr_vote
from nexus._core.filter import CellFilter

__all__ = [
    "Audit",
    "Baseline",
    "Capability",
    "CapabilityTable",
    "CellFilter",
    "tmr_differs",
    "tmr_vote",
]

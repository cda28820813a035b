"""Host mechanisms over the C core: rings, registers, capabilities, filters, chunking."""

from nexus._core._window import Access as Access
from nexus._core.mmio import Mmio as Mmio

__all__ = ["Access", "Mmio"]

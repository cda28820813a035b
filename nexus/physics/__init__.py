"""Host mechanisms over the C core: rings, registers, capabilities, filters, chunking."""

from nexus._core._window import Access as Access
from nexus._core.mmio import Mmio as Mmio
from nexus._core.register import Field as Field
from nexus._core.register import Register as Register
from nexus.physics.registers import BlockSpec as BlockSpec
from nexus.physics.registers import BoundMap as BoundMap
from nexus.physics.registers import FieldSpec as FieldSpec
from nexus.physics.registers import RegisterMap as RegisterMap
from nexus.physics.registers import RegisterSpec as RegisterSpec

__all__ = [
    "Access",
    "BlockSpec",
    "BoundMap",
    "Field",
    "FieldSpec",
    "Mmio",
    "Register",
    "RegisterMap",
    "RegisterSpec",
]

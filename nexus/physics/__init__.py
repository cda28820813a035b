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
from nexus.physics.seccomp import Action as Action
from nexus.physics.seccomp import ArgumentTest as ArgumentTest
from nexus.physics.seccomp import SeccompCapabilities as SeccompCapabilities
from nexus.physics.seccomp import SeccompFilter as SeccompFilter
from nexus.physics.seccomp import SeccompRule as SeccompRule
from nexus.physics.seccomp import seccomp_capabilities as seccomp_capabilities
from nexus.physics.syscalls import syscall_mask as syscall_mask
from nexus.physics.syscalls import syscall_name as syscall_name
from nexus.physics.syscalls import syscalls as syscalls

__all__ = [
    "Access",
    "Action",
    "ArgumentTest",
    "BlockSpec",
    "BoundMap",
    "Field",
    "FieldSpec",
    "Mmio",
    "Register",
    "RegisterMap",
    "RegisterSpec",
    "SeccompCapabilities",
    "SeccompFilter",
    "SeccompRule",
    "seccomp_capabilities",
    "syscall_mask",
    "syscall_name",
    "syscalls",
]

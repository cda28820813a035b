"""Names and numbers of the system calls of x86-64, aarch64 and riscv64.

The table is `syscalls.tsv`, written by `tools/generate_syscalls.py` from kernel headers. A call
that a newer kernel adds is unknown here: give its number instead.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, SupportsIndex, cast

from nexus.physics._integers import as_integer

__all__ = [
    "MASK_BITS",
    "Machine",
    "native_machine",
    "syscall_mask",
    "syscall_name",
    "syscall_numbers",
    "syscalls",
]

Machine = Literal["x86_64", "aarch64", "riscv64"]

# A mask has a bit for each number below this; kernels use 0 to 471.
MASK_BITS = 512
NUMBER_MAX = 0xFFFFFFFF


@functools.cache
def _tables() -> dict[str, dict[str, int]]:
    lines = Path(__file__).with_name("syscalls.tsv").read_text("ascii").splitlines()
    _, *machines = lines[1].split("\t")
    tables: dict[str, dict[str, int]] = {machine: {} for machine in machines}
    for line in lines[2:]:
        name, *numbers = line.split("\t")
        for machine, number in zip(machines, numbers, strict=True):
            if number != "-":
                tables[machine][name] = int(number)
    return tables


def native_machine() -> Machine:
    """The machine that this process runs on.

    Raises:
        ValueError: it is none of the three.
    """
    machine = os.uname().machine
    if machine not in _tables():
        raise ValueError(f"{machine} is no known machine: {', '.join(_tables())}")
    return cast(Machine, machine)


def syscalls(machine: Machine | None = None) -> Mapping[str, int]:
    """Numbers by name; None is the machine of this process."""
    chosen = native_machine() if machine is None else machine
    if chosen not in _tables():
        raise ValueError(f"{chosen!r} is no known machine: {', '.join(_tables())}")
    return MappingProxyType(_tables()[chosen])


@functools.cache
def _names(machine: Machine) -> dict[int, str]:
    return {number: name for name, number in _tables()[machine].items()}


def syscall_name(number: SupportsIndex, machine: Machine | None = None) -> str | None:
    """The name of a number, or None."""
    chosen = native_machine() if machine is None else machine
    return _names(chosen).get(as_integer(number, NUMBER_MAX))


def syscall_numbers(
    names: Iterable[str | SupportsIndex],
    machine: Machine | None = None,
    *,
    skip_absent: bool = False,
) -> list[int]:
    """Numbers of calls that are given by name or number.

    Args:
        names: what to look up.
        machine: None is that of this process.
        skip_absent: leave out what another machine has and this one has not (`open` on aarch64).

    Raises:
        ValueError: a name that this machine does not have, or that no machine has.
    """
    table = syscalls(machine)
    found = []
    for name in names:
        if not isinstance(name, str):
            found.append(as_integer(name, NUMBER_MAX))
        elif name in table:
            found.append(table[name])
        elif not skip_absent or not any(name in other for other in _tables().values()):
            raise ValueError(f"{name!r} is no syscall of {machine or native_machine()}")
    return found


def syscall_mask(
    names: Iterable[str | SupportsIndex],
    machine: Machine | None = None,
    *,
    skip_absent: bool = False,
) -> bytes:
    """The mask of 64 bytes that has the bits of these calls set."""
    mask = 0
    for number in syscall_numbers(names, machine, skip_absent=skip_absent):
        if number >= MASK_BITS:
            raise ValueError(f"syscall {number} has no bit in a mask of {MASK_BITS}")
        mask |= 1 << number
    return mask.to_bytes(MASK_BITS // 8, "little")

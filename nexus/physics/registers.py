"""Descriptions of register maps, and their binding to a window.

A `RegisterMap` says which registers a device has, as frozen values that are checked when they are
made; `bind` gives live objects over an `Mmio`: `registers.CTRL.ENABLE.value = 1`. Loaders for
SystemRDL and CMSIS-SVD are in `registers_rdl` and `registers_svd`.

Access words: `rw`, `ro`, `wo`; `w1c` `w1s` `w1t` (writing one clears, sets, toggles), `w0c` `w0s`
`w0t` (writing zero does); `wo1` `wo0` (write-only, and a one or a zero acts: a command bit); `rclr`
`rset` `roa` (read-only, and a read clears, sets or does something else); `rwa` (read and write, and
a read acts: a data port); `wa` (any write acts).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

from nexus._core.mmio import Mmio
from nexus._core.register import Field as Field
from nexus._core.register import Register as Register
from nexus.errors import OutOfRangeError
from nexus.physics._integers import as_integer

__all__ = [
    "BlockSpec",
    "BoundMap",
    "Field",
    "FieldSpec",
    "Register",
    "RegisterMap",
    "RegisterSpec",
]

AccessWord = Literal[
    "rw", "ro", "wo", "w1c", "w1s", "w1t", "w0c", "w0s", "w0t", "wo1", "wo0", "rclr", "rset",
    "roa", "rwa", "wa",
]  # fmt: skip
ByteOrder = Literal["little", "big"]

# An array larger than this is a table in memory, for which block access is the way.
COUNT_MAX = 65536
ADDRESS_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """Some bits of a register.

    Attributes:
        name: as the map's author wrote it.
        lsb: lowest bit.
        width: in bits.
        access: None is that of the register.
        labels: named values, as pairs (number, name).
        description: free text.
    """

    name: str
    lsb: int
    width: int = 1
    access: AccessWord | None = None
    labels: tuple[tuple[int, str], ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        _check_integers(self, "lsb", "width")
        if self.width < 1 or self.lsb + self.width > 64:
            raise ValueError(f"field {self.name}: bits {self.lsb}+{self.width} are no field")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterSpec:
    """One register, or an array of them.

    Attributes:
        name: as the map's author wrote it.
        offset: of the first, in bytes from the start of its map.
        width: in bits.
        access: of the bits that no field describes.
        reset: value after reset.
        fields: in any order, not overlapping.
        count: None is a single register; a number makes an array.
        stride: bytes from one element to the next; 0 is the width.
        description: free text.
    """

    name: str
    offset: int
    width: int = 32
    access: AccessWord = "rw"
    reset: int = 0
    fields: tuple[FieldSpec, ...] = ()
    count: int | None = None
    stride: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        _check_integers(self, "offset", "width", "reset", "stride")
        if self.width not in (8, 16, 32, 64):
            raise ValueError(f"register {self.name}: {self.width} bits; 8, 16, 32 or 64 can be")
        if self.reset >= 1 << self.width:
            raise ValueError(f"register {self.name}: reset {self.reset:#x} is wider than it")
        taken = 0
        for field in self.fields:
            mask = ((1 << field.width) - 1) << field.lsb
            if mask >> self.width:
                raise ValueError(f"field {self.name}.{field.name} leaves the register")
            if mask & taken:
                raise ValueError(f"field {self.name}.{field.name} overlaps another")
            taken |= mask
        _check_names(f"register {self.name}", [field.name for field in self.fields])
        _check_array(self, self.width // 8)

    @property
    def step(self) -> int:
        """Bytes from one element of the array to the next."""
        return self.stride or self.width // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """A map inside a map, or an array of them (a register file, a cluster, a channel)."""

    name: str
    offset: int
    map: RegisterMap
    count: int | None = None
    stride: int = 0

    def __post_init__(self) -> None:
        _check_integers(self, "offset", "stride")
        _check_array(self, self.map.size)

    @property
    def step(self) -> int:
        """Bytes from one element of the array to the next."""
        return self.stride or self.map.size


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterMap:
    """The registers of a device.

    Registers may overlap, as a data-in and a data-out register at one offset do.

    Attributes:
        name: of the device or block.
        size: bytes that the map covers.
        registers: in any order.
        blocks: maps inside it.
        byte_order: of the registers; blocks have their own.
        description: free text.
    """

    name: str
    size: int
    registers: tuple[RegisterSpec, ...] = ()
    blocks: tuple[BlockSpec, ...] = ()
    byte_order: ByteOrder = "little"
    description: str = ""

    def __post_init__(self) -> None:
        _check_integers(self, "size")
        if self.size < 1:
            raise ValueError(f"map {self.name}: {self.size} bytes are no map")
        if self.byte_order not in ("little", "big"):
            raise ValueError(f"map {self.name}: {self.byte_order!r} is no byte order")
        names = [spec.name for spec in self.registers] + [block.name for block in self.blocks]
        _check_names(f"map {self.name}", names)
        for spec in self.registers:
            last = spec.offset + ((spec.count or 1) - 1) * spec.step
            self._check_end(spec.name, last + spec.width // 8)
        for block in self.blocks:
            last = block.offset + ((block.count or 1) - 1) * block.step
            self._check_end(block.name, last + block.map.size)

    def _check_end(self, name: str, end: int) -> None:
        if end > self.size:
            raise ValueError(f"map {self.name}: {name} ends at {end:#x}, after {self.size:#x}")

    def bind(self, window: Mmio, offset: SupportsIndex = 0) -> BoundMap:
        """Live registers over a window in which the map starts at `offset`.

        No access is made.

        Raises:
            OutOfRangeError: the map does not fit the window.
            MisalignedError: a register's address is not a multiple of its width.
        """
        start = as_integer(offset, ADDRESS_MAX)
        if start + self.size > window.size:
            raise OutOfRangeError(
                f"map {self.name} of {self.size:#x} bytes at {start:#x} is outside "
                f"{window.name} of {window.size:#x}"
            )
        return BoundMap(self, window, start, self.name)


class BoundMap:
    """The live registers of a map, by attribute or by item.

    An array is a tuple. Attributes cannot be set: `registers.CTRL = 1` is an error, and
    `registers.CTRL.value = 1` writes.
    """

    def __init__(self, spec: RegisterMap, window: Mmio, offset: int, path: str) -> None:
        members: dict[str, Register | BoundMap | tuple[Register, ...] | tuple[BoundMap, ...]] = {}
        for register in spec.registers:
            made = tuple(
                Register(
                    window,
                    offset + register.offset + i * register.step,
                    register.width,
                    access=register.access,
                    reset=register.reset,
                    fields=register.fields,
                    name=_element(f"{path}.{register.name}", register.count, i),
                    byte_order=spec.byte_order,
                )
                for i in range(register.count or 1)
            )
            members[register.name] = made[0] if register.count is None else made
        for block in spec.blocks:
            inner = tuple(
                BoundMap(
                    block.map,
                    window,
                    offset + block.offset + i * block.step,
                    _element(f"{path}.{block.name}", block.count, i),
                )
                for i in range(block.count or 1)
            )
            members[block.name] = inner[0] if block.count is None else inner
        self.__dict__.update(members)
        self.__dict__["_members"] = members
        self.__dict__["_spec"] = spec

    def __getitem__(self, name: str) -> Register | BoundMap | tuple[object, ...]:
        found: Register | BoundMap | tuple[object, ...] = self.__dict__["_members"][name]
        return found

    def __getattr__(self, name: str) -> Any:
        # Reached only when there is no such member.
        raise AttributeError(f"map {self.__dict__['_spec'].name} has no register {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} cannot be set; the value of a register can be")

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__["_members"])

    def registers(self) -> Iterator[Register]:
        """All registers, also those of arrays and blocks, in the order of the map."""
        for member in self.__dict__["_members"].values():
            for item in member if isinstance(member, tuple) else (member,):
                if isinstance(item, BoundMap):
                    yield from BoundMap.registers(item)
                else:
                    yield item

    def __repr__(self) -> str:
        spec: RegisterMap = self.__dict__["_spec"]
        return f"<BoundMap {spec.name}, {spec.size:#x} bytes>"


def _element(name: str, count: int | None, index: int) -> str:
    return name if count is None else f"{name}[{index}]"


def _check_names(owner: str, names: list[str]) -> None:
    for name in names:
        if not name:
            raise ValueError(f"{owner}: a member has no name")
        if names.count(name) > 1:
            raise ValueError(f"{owner}: two members are called {name!r}")


def _check_integers(spec: object, *names: str) -> None:
    for name in names:
        object.__setattr__(spec, name, as_integer(getattr(spec, name), ADDRESS_MAX))


def _check_array(spec: RegisterSpec | BlockSpec, size: int) -> None:
    if spec.count is not None:
        object.__setattr__(spec, "count", as_integer(spec.count, COUNT_MAX))
    if spec.count == 0:
        raise ValueError(f"{spec.name}: an array of no elements")
    if 0 < spec.stride < size:
        raise ValueError(f"{spec.name}: {size} bytes do not fit a stride of {spec.stride}")

"""Register maps from CMSIS-SVD device files, through the `cmsis-svd` package (extra `svd`).

What carries over: peripherals with their base addresses, clusters, arrays (`NAME[%s]` becomes an
array, `NAME%s` becomes one register a name), fields with access, side effects, reset values and
named values, derived elements and byte order. What has no counterpart is refused by name: side
effects of both reads and writes on one field, and registers that are not 8 to 64 bits wide.
Named values that the parser cannot read as numbers (`0b10`) and default ones are left out.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from nexus.errors import AbsentError
from nexus.physics.registers import (
    AccessWord,
    BlockSpec,
    ByteOrder,
    FieldSpec,
    RegisterMap,
    RegisterSpec,
)

__all__ = ["Peripheral", "load_svd"]

_ACCESS: dict[str, AccessWord] = {
    "read-only": "ro",
    "write-only": "wo",
    "read-write": "rw",
    "writeOnce": "wo",
    "read-writeOnce": "rw",
}
_ON_WRITE: dict[str, AccessWord] = {
    "oneToClear": "w1c",
    "oneToSet": "w1s",
    "oneToToggle": "w1t",
    "zeroToClear": "w0c",
    "zeroToSet": "w0s",
    "zeroToToggle": "w0t",
    "clear": "wa",
    "set": "wa",
}
_ON_READ: dict[str, AccessWord] = {"clear": "rclr", "set": "rset"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peripheral:
    """A peripheral of a device file: where it is, and what is in it."""

    base_address: int
    map: RegisterMap


def load_svd(path: str | os.PathLike[str]) -> dict[str, Peripheral]:
    """Describe every peripheral of a device file.

    Raises:
        AbsentError: the extra is not installed.
        OSError: the file cannot be read.
        ValueError: it is no SVD, or says something that has no counterpart here.
    """
    try:
        parser = importlib.import_module("cmsis_svd.parser")
        etree = importlib.import_module("lxml.etree")
    except ImportError:
        raise AbsentError(
            "cmsis-svd is not installed", hint="pip install nexus-node[svd]"
        ) from None
    with open(path, "rb"):  # noqa: PTH123  the parser hides the reason of a failed open
        pass
    try:
        device = parser.SVDParser.for_xml_file(os.fspath(path)).get_device()
    except etree.XMLSyntaxError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    endian = device.cpu.endian.value if device.cpu is not None and device.cpu.endian else "little"
    order: ByteOrder = "big" if endian == "big" else "little"
    found = {}
    for peripheral in _flat(device.peripherals or (), "peripherals"):
        found[str(peripheral.name)] = Peripheral(
            base_address=int(peripheral.base_address),
            map=_map(peripheral, peripheral.registers or (), order, _block_size(peripheral)),
        )
    if not found:
        raise ValueError(f"{os.fspath(path)}: no peripheral in it")
    return found


def _flat(items: Any, attribute: str) -> Iterator[Any]:
    for item in items:
        yield from getattr(item, attribute, (item,))


def _block_size(peripheral: Any) -> int:
    return max((int(b.offset) + int(b.size) for b in peripheral.address_blocks or ()), default=1)


def _map(owner: Any, items: Any, order: ByteOrder, size: int) -> RegisterMap:
    registers: list[RegisterSpec] = []
    blocks: list[BlockSpec] = []
    for node, count, stride in _members(items):
        name = str(node.name).removesuffix("[%s]")
        if hasattr(node, "fields"):
            spec = _register(node, str(owner.name))
            registers.append(replace(spec, name=name, count=count, stride=stride))
        else:
            inner = [*(node.registers or ()), *(node.clusters or ())]
            blocks.append(
                BlockSpec(
                    name=name,
                    offset=int(node.address_offset),
                    map=_map(node, inner, order, 1),
                    count=count,
                    stride=stride,
                )
            )
    ends = [r.offset + ((r.count or 1) - 1) * r.step + r.width // 8 for r in registers]
    ends += [b.offset + ((b.count or 1) - 1) * b.step + b.map.size for b in blocks]
    return RegisterMap(
        name=str(owner.name).removesuffix("[%s]"),
        size=max([size, *ends]),
        registers=tuple(registers),
        blocks=tuple(blocks),
        byte_order=order,
        description=" ".join((owner.description or "").split()),
    )


def _members(items: Any) -> Iterator[tuple[Any, int | None, int]]:
    """Registers and clusters with their count and stride; a list of names is several nodes."""
    for item in items:
        meta = getattr(item, "meta_register", getattr(item, "meta_cluster", None))
        if meta is None:
            yield item, None, 0
        elif str(meta.name).endswith("[%s]"):
            yield meta, int(meta.dim), int(meta.dim_increment)
        else:
            for node in item.registers if hasattr(item, "meta_register") else item.clusters:
                yield node, None, 0


def _register(node: Any, owner: str) -> RegisterSpec:
    path = f"{owner}.{node.name}"
    base = _ACCESS[node.access.value] if node.access is not None else "rw"
    return RegisterSpec(
        name=str(node.name),
        offset=int(node.address_offset),
        width=int(node.size if node.size is not None else 32),
        access=_with_effects(path, base, node.modified_write_values, node.read_action),
        reset=int(node.reset_value or 0),
        fields=tuple(_field(f, node, base, path) for f in _flat(node.fields or (), "fields")),
        description=" ".join((node.description or "").split()),
    )


def _field(node: Any, register: Any, base: AccessWord, owner: str) -> FieldSpec:
    path = f"{owner}.{node.name}"
    labels: dict[int, str] = {}
    for group in node.enumerated_values or ():
        for item in group.enumerated_values:
            if item.value is not None and item.name and item.name not in labels.values():
                labels.setdefault(int(item.value), str(item.name))
    return FieldSpec(
        name=str(node.name),
        lsb=int(node.bit_offset),
        width=int(node.bit_width if node.bit_width is not None else 1),
        access=_with_effects(
            path,
            _ACCESS[node.access.value] if node.access is not None else base,
            node.modified_write_values or register.modified_write_values,
            node.read_action or register.read_action,
        ),
        labels=tuple(sorted(labels.items())),
        description=" ".join((node.description or "").split()),
    )


def _with_effects(path: str, access: AccessWord, on_write: Any, on_read: Any) -> AccessWord:
    writes = _ON_WRITE.get(on_write.value) if on_write is not None and access != "ro" else None
    reads = on_read.value if on_read is not None and access != "wo" else None
    if writes is not None and reads is not None:
        raise ValueError(f"{path}: {writes} on write together with {reads} on read")
    if writes is not None:
        if access == "rw" or writes == "wa":
            return writes
        return "wo1" if writes.startswith("w1") else "wo0"
    if reads is not None:
        return "rwa" if access == "rw" else _ON_READ.get(reads, "roa")
    return access

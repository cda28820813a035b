"""Register maps from SystemRDL 2.0, through the `systemrdl-compiler` package (extra `rdl`).

What carries over: registers of 8 to 64 bits, register files, nested address maps, arrays (several
dimensions become one), fields with software access, reset values, encodings, byte order. What has
no counterpart is refused by name: side effects of both reads and writes on one field, and a
register whose bus accesses are narrower than itself. Memories and signals are left out.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from nexus.errors import AbsentError
from nexus.physics.registers import AccessWord, BlockSpec, FieldSpec, RegisterMap, RegisterSpec

__all__ = ["load_rdl"]

# For fields that can also be read; of write-only ones it matters which value does nothing.
_ON_WRITE: dict[str, AccessWord] = {
    "woclr": "w1c",
    "woset": "w1s",
    "wot": "w1t",
    "wzc": "w0c",
    "wzs": "w0s",
    "wzt": "w0t",
    "wclr": "wa",
    "wset": "wa",
    "wuser": "wa",
}
_ON_READ: dict[str, AccessWord] = {"rclr": "rclr", "rset": "rset", "ruser": "roa"}
# rw1 and w1 may be written once after reset, which no access can tell apart.
_SOFTWARE: dict[str, AccessWord] = {
    "rw": "rw",
    "rw1": "rw",
    "r": "ro",
    "w": "wo",
    "w1": "wo",
}


def load_rdl(*paths: str | os.PathLike[str], top: str | None = None) -> RegisterMap:
    """Compile SystemRDL files and describe one address map of them.

    Args:
        paths: files, in the order in which they build on each other.
        top: name of the address map; None is the last one that is defined.

    Raises:
        AbsentError: the extra is not installed.
        ValueError: the text does not compile, or says something that has no counterpart here.
    """
    try:
        rdl = importlib.import_module("systemrdl")
        output = importlib.import_module("systemrdl.messages")
    except ImportError:
        raise AbsentError(
            "systemrdl-compiler is not installed", hint="pip install nexus-node[rdl]"
        ) from None

    messages: list[str] = []

    class Collector(output.MessagePrinter):  # type: ignore[misc, name-defined]
        def print_message(self, severity: Any, text: str, src_ref: Any) -> None:
            if severity.name in ("ERROR", "FATAL"):
                messages.append(text)

    compiler = rdl.RDLCompiler(message_printer=Collector())
    try:
        for path in paths:
            compiler.compile_file(os.fspath(path))
        root = compiler.elaborate(top_def_name=top)
    except rdl.RDLCompileError as error:
        raise ValueError("; ".join(messages) or str(error)) from None
    return _map(root.top)


def _map(node: Any) -> RegisterMap:
    registers, blocks = [], []
    for child in node.children(unroll=False):
        kind = child.component_type_name
        if kind == "reg":
            registers.append(_register(child))
        elif kind in ("regfile", "addrmap"):
            blocks.append(
                BlockSpec(
                    name=child.inst_name,
                    offset=child.raw_address_offset,
                    map=_map(child),
                    count=_count(child),
                    stride=child.array_stride or 0 if child.is_array else 0,
                )
            )
    owner = node.owning_addrmap
    big = owner is not None and bool(owner.get_property("bigendian", default=False))
    return RegisterMap(
        name=node.inst_name,
        size=node.size,
        registers=tuple(registers),
        blocks=tuple(blocks),
        byte_order="big" if big else "little",
        description=node.get_property("desc") or "",
    )


def _count(node: Any) -> int | None:
    count: int | None = node.n_elements if node.is_array else None
    return count


def _register(node: Any) -> RegisterSpec:
    width = node.get_property("regwidth")
    if node.get_property("accesswidth") != width:
        raise ValueError(f"{node.get_path()}: accesswidth differs from regwidth {width}")
    fields, reset = [], 0
    for field in node.fields():
        value = field.get_property("reset")
        if isinstance(value, int):
            reset |= value << field.low
        fields.append(_field(field))
    readable, writable = bool(node.has_sw_readable), bool(node.has_sw_writable)
    return RegisterSpec(
        name=node.inst_name,
        offset=node.raw_address_offset,
        width=width,
        access="ro" if not writable else "rw" if readable else "wo",
        reset=reset,
        fields=tuple(fields),
        count=_count(node),
        stride=node.array_stride or 0 if node.is_array else 0,
        description=node.get_property("desc") or "",
    )


def _field(node: Any) -> FieldSpec:
    access = _SOFTWARE[node.get_property("sw").name]
    access = _with_effects(
        node.get_path(), access, node.get_property("onwrite"), node.get_property("onread")
    )
    encoding = node.get_property("encode")
    labels = tuple((int(m.value), str(m.name)) for m in encoding) if encoding is not None else ()
    return FieldSpec(
        name=node.inst_name,
        lsb=node.low,
        width=node.width,
        access=access,
        labels=labels,
        description=node.get_property("desc") or "",
    )


def _with_effects(path: str, access: AccessWord, on_write: Any, on_read: Any) -> AccessWord:
    if on_write is not None and on_read is not None:
        raise ValueError(f"{path}: onwrite={on_write.name} together with onread={on_read.name}")
    if on_write is not None and access != "ro":
        word = _ON_WRITE[on_write.name]
        if access == "rw" or word == "wa":
            return word
        return "wo1" if word.startswith("w1") else "wo0"
    if on_read is not None and access != "wo":
        return "rwa" if access == "rw" else _ON_READ[on_read.name]
    return access

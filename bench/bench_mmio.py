"""Register access from Python beside python-periphery, the standard library and peakrdl-python."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from empty_call import empty_call
from harness import Bar, Case, main
from peer import PeerProcess

from nexus.physics import FieldSpec, Mmio, Register

SIZE = 4096
MISSING = []


def one(function):
    def run(loops: int) -> None:
        for _ in range(loops):
            function(8)

    return run


def two(function):
    def run(loops: int) -> None:
        for _ in range(loops):
            function(8, 5)

    return run


def value_of(target):
    def run(loops: int) -> None:
        for _ in range(loops):
            _ = target.value

    return run


def assign(target):
    def run(loops: int) -> None:
        for _ in range(loops):
            target.value = 1

    return run


def standard_library(area):
    """What programs do without a package; each is wrong in some way but the cast."""
    word = struct.Struct("<I")
    view = memoryview(area).cast("I")
    register = ctypes.c_uint32.from_buffer(area, 8)

    def cast_read(loops: int) -> None:
        for _ in range(loops):
            _ = view[2]

    def cast_write(loops: int) -> None:
        for _ in range(loops):
            view[2] = 5

    def struct_read(loops: int) -> None:
        for _ in range(loops):
            word.unpack_from(area, 8)

    def struct_write(loops: int) -> None:
        for _ in range(loops):
            word.pack_into(area, 8, 5)

    yield Case("memoryview cast read", cast_read)
    yield Case("memoryview cast write", cast_write)
    yield Case("struct read", struct_read)
    yield Case("struct write (2 stores)", struct_write)
    yield Case("ctypes read", value_of(register))
    yield Case("ctypes write (reads first)", assign(register))


def cases():
    fd = os.memfd_create("bench", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    window = Mmio.attach(fd, 0, SIZE)
    guarded = Mmio.attach(fd, 0, SIZE, guard=True)
    fields = (FieldSpec(name="EN", lsb=0), FieldSpec(name="MODE", lsb=2, width=2))
    register = Register(window, 0, fields=fields)
    block = bytearray(1024)

    def copy_in(loops: int) -> None:
        for _ in range(loops):
            window.read_block_into(0, block)

    def read_list(loops: int) -> None:
        for _ in range(loops):
            window.read_block(0, 256)

    yield Case("empty call", one(empty_call()))
    yield Case("read32", one(window.read32))
    yield Case("write32", two(window.write32))
    yield Case("read32 guarded", one(guarded.read32))
    yield Case("register get", value_of(register))
    yield Case("register set", assign(register))
    yield Case("field get", value_of(register.EN))
    yield Case("field set", assign(register.EN))
    yield Case("read_block_into, per register", copy_in, 256)
    yield Case("read_block list, per register", read_list, 256)
    yield from standard_library(mmap.mmap(fd, SIZE))

    try:
        from periphery import MMIO
    except ImportError:
        MISSING.append("python-periphery")
    else:
        periphery = MMIO(0, SIZE, path=f"/proc/self/fd/{fd}")
        yield Case("periphery read32", one(periphery.read32))
        yield Case("periphery write32", two(periphery.write32))

    peer = PeerProcess("peakrdl_field.py")
    if peer.available:
        yield Case("peakrdl-python field write", peer.run)
    else:
        MISSING.append("peakrdl-python")


main(
    "registers over a memfd",
    cases,
    [
        Bar("M2", "read32", "periphery read32", 0.15),
        Bar("M2", "write32", "periphery write32", 0.12),
        Bar("M2", "field set", "peakrdl-python field write", 0.02),
        Bar("M3", "read32", "empty call", 1.5),
    ],
    MISSING,
)

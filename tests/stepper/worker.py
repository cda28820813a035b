"""Runs one call under the fault stepper after another and prints what each touched, as JSON.

A process of its own: it replaces the handlers of SIGSEGV and SIGTRAP. Usage:
worker.py <stepper library>. Each result is {"name": [[offset, kind, width, code], ...]}, with
kind 1 a load, 2 a store, 3 both in one instruction, and width in bytes.
"""

import contextlib
import ctypes
import faulthandler
import json
import mmap
import os
import struct
import sys
from pathlib import Path

from nexus import errors
from nexus.physics import FieldSpec, Mmio, Register

PAGE = mmap.PAGESIZE
SIZE = 2 * PAGE
WIDTHS = (8, 16, 32, 64)


class Entry(ctypes.Structure):
    _fields_ = [
        ("offset", ctypes.c_uint64),
        ("width", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("code", ctypes.c_uint8 * 16),
    ]


class Stepper:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.stepper_watch.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.library.stepper_log.restype = ctypes.POINTER(Entry)

    def accesses(self, address, call):
        """What `call` does to the two pages at `address`."""
        with contextlib.suppress(errors.DeadlineError):
            call()
        if self.library.stepper_watch(address, SIZE) != 0:
            raise OSError("the pages cannot be watched")
        with contextlib.suppress(errors.DeadlineError):
            call()
        count = self.library.stepper_stop()
        if self.library.stepper_strays() != 0:
            raise RuntimeError("a fault outside the watched pages")
        log = self.library.stepper_log()
        return [
            [log[i].offset, log[i].kind, log[i].width, bytes(log[i].code).hex()]
            for i in range(count)
        ]


def mappings(name):
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {int(line.split("-")[0], 16) for line in lines if f"memfd:{name}" in line}


def mapped(make, name="stepped"):
    """Make something that maps the memfd; returns it and where."""
    before = mappings(name)
    made = make()
    (address,) = mappings(name) - before
    return made, address


def window_calls(window):
    """Each verb at the end of the first page and at the start of the second."""
    for width in WIDTHS:
        size = width // 8
        value = int.from_bytes(b"\x81" * size, "little")
        for offset in (PAGE - size, PAGE):
            for suffix in ("", "be") if width > 8 else ("",):
                name = f"{width}{suffix}"
                read, write = (getattr(window, f"{verb}{name}") for verb in ("read", "write"))
                yield f"read{name}@{offset}", lambda r=read, o=offset: r(o)
                yield f"write{name}@{offset}", lambda w=write, o=offset, v=value: w(o, v)
            yield (
                f"update{width}@{offset}",
                lambda o=offset, w=width: window.update(o, 3, 1, width=w),
            )
            yield (
                f"poll{width}@{offset}",
                lambda o=offset, w=width: window.poll(o, 4, 4, 10, width=w, spin_max=3),
            )
            yield (
                f"read_fifo{width}@{offset}",
                lambda o=offset, w=width: window.read_fifo(o, 5, width=w),
            )
            yield (
                f"write_fifo{width}@{offset}",
                lambda o=offset, w=width: window.write_fifo(o, [1] * 5, width=w),
            )
        start = PAGE - 4 * size
        yield (
            f"read_block{width}@{start}",
            lambda s=start, w=width: window.read_block(s, 8, width=w),
        )
        yield (
            f"write_block{width}@{start}",
            lambda s=start, w=width: window.write_block(s, [1] * 8, width=w),
        )
        data = bytearray(8 * size)
        yield (
            f"read_block_into{width}@{start}",
            lambda s=start, w=width, d=data: window.read_block_into(s, d, width=w),
        )
        yield (
            f"write_block_from{width}@{start}",
            lambda s=start, w=width, d=data: window.write_block(s, d, width=w),
        )
    yield f"read32_relaxed@{PAGE}", lambda: window.read32_relaxed(PAGE)
    yield f"write32_relaxed@{PAGE}", lambda: window.write32_relaxed(PAGE, 1)
    yield f"set_bits@{PAGE}", lambda: window.set_bits(PAGE, 1)
    yield f"clear_bits@{PAGE}", lambda: window.clear_bits(PAGE, 1)


def register_calls(window):
    """Registers and fields: reads, writes, and which of them need a read first."""
    for width in WIDTHS:
        fields = (FieldSpec(name="EN", lsb=0), FieldSpec(name="ERR", lsb=1, access="w1c"))
        plain = Register(window, PAGE, width, fields=fields)
        command = Register(window, PAGE, width, access="wo", fields=fields[:1])

        def put(target, value=1):
            target.value = value

        yield f"read{width}@{PAGE}", lambda r=plain: r.value
        yield f"write{width}@{PAGE}", lambda r=plain: put(r)
        yield f"read_field{width}@{PAGE}", lambda r=plain: r.EN.value
        yield f"update{width}@{PAGE}", lambda r=plain: put(r.EN)
        yield f"update_many{width}@{PAGE}", lambda r=plain: r.modify(EN=0, ERR=1)
        yield f"write_command{width}@{PAGE}", lambda r=command: put(r.EN)


def control_calls(area, address):
    """How Python programs without a compiled accessor reach a register."""
    view = memoryview(area).cast("I")
    word = ctypes.c_uint32.from_address(address)

    def slice_assign():
        area[0:4] = b"\1\2\3\4"

    def cast_assign():
        view[0] = 7

    def ctypes_assign():
        word.value = 7

    wide = ctypes.c_uint64.from_address(address + PAGE - 4)
    yield "wide read", lambda: wide.value
    yield "struct.pack_into", lambda: struct.pack_into("<I", area, 0, 0x01020304)
    yield "struct.unpack_from", lambda: struct.unpack_from("<I", area, 0)
    yield "slice write", slice_assign
    yield "slice read", lambda: area[0:4]
    yield "ctypes write", ctypes_assign
    yield "cast write", cast_assign
    yield "cast read", lambda: view[0]
    try:
        import cffi
    except ImportError:
        return
    pointer = cffi.FFI().cast("volatile uint32_t *", address)

    def cffi_assign():
        pointer[0] = 7

    yield "cffi write", cffi_assign
    yield "cffi read", lambda: pointer[0]


def main():
    faulthandler.disable()
    stepper = Stepper(sys.argv[1])
    fd = os.memfd_create("stepped", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    report = {}
    for kind, options in (("plain", {}), ("guard", {"guard": True}), ("trace", {"trace": 9999})):
        window, address = mapped(lambda options=options: Mmio.attach(fd, 0, SIZE, **options))
        report[kind] = {
            name: stepper.accesses(address, call) for name, call in window_calls(window)
        }
        window.close()
    window, address = mapped(lambda: Mmio.attach(fd, 0, SIZE))
    report["register"] = {
        name: stepper.accesses(address, call) for name, call in register_calls(window)
    }
    area, address = mapped(lambda: mmap.mmap(fd, SIZE))
    report["control"] = {
        name: stepper.accesses(address, call) for name, call in control_calls(area, address)
    }
    json.dump(report, sys.stdout)


main()

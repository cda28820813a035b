"""Rows of the bad-input suite for windows, registers and their descriptions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from entry import Entry, nothing

from nexus.errors import MisalignedError, OutOfRangeError
from nexus.physics import (
    Access,
    BlockSpec,
    FieldSpec,
    Mmio,
    Register,
    RegisterMap,
    RegisterSpec,
)

SIZE = 64
MEMORY = bytes(range(SIZE))
OUTSIDE = ((SIZE, OutOfRangeError), (2**63, OutOfRangeError))


@contextmanager
def window() -> Iterator[Mmio]:
    fd = os.memfd_create("bad input", os.MFD_CLOEXEC)
    try:
        os.pwrite(fd, MEMORY, 0)
        with Mmio.attach(fd, 0, SIZE) as made:
            yield made
    finally:
        os.close(fd)


@contextmanager
def descriptor() -> Iterator[int]:
    fd = os.memfd_create("bad input", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, SIZE)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def register() -> Iterator[Register]:
    with window() as made:
        fields = (FieldSpec(name="MODE", lsb=4, width=4, labels=((1, "ON"),)),)
        yield Register(made, 8, fields=fields)


def contents(target: Mmio) -> list[int]:
    return target.read_block(0, SIZE, width=8)


def close(target: Mmio) -> None:
    target.close()


def on_window(
    name: str,
    parameter: str,
    kind: str,
    call: Callable[[Any, Any], object],
    good: Any,
    special: tuple[tuple[Any, Any], ...] = (),
) -> Entry:
    return Entry(f"Mmio.{name}", parameter, kind, window, call, good, contents, special, close)


def reader(name: str) -> Callable[[Any, Any], object]:
    return lambda w, v: getattr(w, name)(v)


def writer(name: str) -> Callable[[Any, Any], object]:
    return lambda w, v: getattr(w, name)(v, 0)


def valuer(name: str) -> Callable[[Any, Any], object]:
    return lambda w, v: getattr(w, name)(8, v)


SINGLE = []
for suffix in ("8", "16", "32", "64", "16be", "32be", "64be", "32_relaxed"):
    bits = int(suffix[:2].rstrip("be_"))
    odd = ((1, MisalignedError),) if bits > 8 else ()
    over = ((1 << bits, OverflowError),)
    SINGLE += [
        on_window(f"read{suffix}", "offset", "integer", reader(f"read{suffix}"), 8, OUTSIDE + odd),
        on_window(f"write{suffix}", "offset", "integer", writer(f"write{suffix}"), 0,
                  OUTSIDE + odd),
        on_window(f"write{suffix}", "value", "integer", valuer(f"write{suffix}"), 8, over),
    ]  # fmt: skip

WINDOWS = [
    Entry("Mmio.attach", "offset", "integer", descriptor,
          lambda fd, v: Mmio.attach(fd, v, 8).close(), 8,
          special=((SIZE, OutOfRangeError), (2**63 - 1, OverflowError))),
    Entry("Mmio.attach", "size", "integer", descriptor,
          lambda fd, v: Mmio.attach(fd, 0, v).close(), 8,
          special=((0, ValueError), (SIZE + 1, OutOfRangeError))),
    Entry("Mmio.attach", "trace", "integer", descriptor,
          lambda fd, v: Mmio.attach(fd, 0, 8, trace=v).close(), 8,
          special=((2**40, OverflowError),)),
    Entry("Mmio.dry_run", "size", "integer", nothing, lambda _, v: Mmio.dry_run(v), 8,
          special=((0, ValueError),)),
    Entry("Mmio.dry_run", "initial", "buffer", nothing,
          lambda _, v: Mmio.dry_run(8, initial=v), bytes(8), special=((bytes(9), IndexError),)),
    Entry("Mmio.replay", "size", "integer", nothing, lambda _, v: Mmio.replay([], v), 8,
          special=((0, ValueError),)),
    Entry("Mmio.replay", "offset", "integer", nothing,
          lambda _, v: Mmio.replay([Access("read", v, 8, 0)], 8), 8),
    Entry("Mmio.replay", "value", "integer", nothing,
          lambda _, v: Mmio.replay([Access("read", 0, 8, v)], 8), 8,
          special=((256, OverflowError),)),
    on_window("update", "offset", "integer", lambda w, v: w.update(v, 1, 0), 0, OUTSIDE),
    on_window("update", "mask", "integer", lambda w, v: w.update(0, v, 0), 0,
              ((1 << 32, ValueError),)),
    on_window("update", "value", "integer", lambda w, v: w.update(0, 0xFF, v), 0,
              ((0x100, ValueError),)),
    on_window("update", "width", "integer", lambda w, v: w.update(0, 0, 0, width=v), 16,
              ((0, ValueError), (33, ValueError), (2**32 + 8, ValueError))),
    on_window("set_bits", "mask", "integer", lambda w, v: w.set_bits(0, v), 0),
    on_window("clear_bits", "mask", "integer", lambda w, v: w.clear_bits(8, v), 1),
    on_window("read_block", "offset", "integer", lambda w, v: w.read_block(v, 1), 8, OUTSIDE),
    on_window("read_block", "count", "integer", lambda w, v: w.read_block(0, v), 16,
              ((17, OutOfRangeError),)),
    on_window("read_fifo", "count", "integer", lambda w, v: w.read_fifo(0, v), 99),
    on_window("read_block_into", "buffer", "writable", lambda w, v: w.read_block_into(0, v),
              bytearray(8), ((bytearray(7), ValueError),)),
    on_window("read_fifo_into", "buffer", "writable", lambda w, v: w.read_fifo_into(0, v),
              bytearray(8), ((bytearray(7), ValueError),)),
    on_window("write_block", "values", "buffer", lambda w, v: w.write_block(0, v), MEMORY[:8],
              ((bytes(7), ValueError), ([1, 2.0], TypeError), ([1, 1 << 32], OverflowError),
               (memoryview(bytes(16)).cast("H"), ValueError))),
    on_window("write_fifo", "values", "buffer", lambda w, v: w.write_fifo(0, v), MEMORY[:4],
              ((bytes(7), ValueError), ([True], TypeError), ([-1], OverflowError))),
    on_window("poll", "offset", "integer", lambda w, v: w.poll(v, 0, 0, 0), 8, OUTSIDE),
    on_window("poll", "mask", "integer", lambda w, v: w.poll(0, v, 0, 0), 0,
              ((1 << 32, ValueError),)),
    on_window("poll", "value", "integer", lambda w, v: w.poll(0, 0xFF, v, 0), 0,
              ((0x100, ValueError), (1, TimeoutError))),
    on_window("poll", "timeout", "number", lambda w, v: w.poll(0, 0, 0, v), 1.0,
              ((-1, ValueError), (1e10, ValueError))),
    on_window("poll", "interval", "number", lambda w, v: w.poll(0, 0, 0, 0, interval=v), 1.0,
              ((-1, ValueError), (1.5, ValueError))),
]  # fmt: skip

BOUND = [
    Entry("Register", "offset", "integer", window, lambda w, v: Register(w, v), 8, contents,
          (*OUTSIDE, (1, MisalignedError)), close),
    Entry("Register", "width", "integer", window, lambda w, v: Register(w, 0, v), 16, contents,
          ((0, ValueError), (24, ValueError))),
    Entry("Register", "reset", "integer", window, lambda w, v: Register(w, 0, reset=v), 1,
          contents, ((1 << 32, OverflowError),)),
    Entry("Register.value", "value", "integer", register,
          lambda r, v: setattr(r, "value", v), 0x0B0A0908, lambda r: r.value,
          ((1 << 32, OverflowError),)),
    # A field also takes a label, so a text is no wrong type for it but a wrong value.
    Entry("Field.value", "value", "field", register,
          lambda r, v: setattr(r["MODE"], "value", v), 0, lambda r: r.value,
          ((16, OverflowError),)),
    Entry("Register.modify", "MODE", "field", register,
          lambda r, v: r.modify(MODE=v), 0, lambda r: r.value, ((16, OverflowError),)),
    Entry("RegisterMap.bind", "offset", "integer", window,
          lambda w, v: RegisterMap(name="M", size=8).bind(w, v), 8, contents, OUTSIDE),
]  # fmt: skip

DESCRIPTIONS = [
    Entry("FieldSpec", "lsb", "integer", nothing, lambda _, v: FieldSpec(name="A", lsb=v), 3,
          special=((64, ValueError),)),
    Entry("FieldSpec", "width", "integer", nothing,
          lambda _, v: FieldSpec(name="A", lsb=0, width=v), 3, special=((0, ValueError),)),
    Entry("RegisterSpec", "offset", "integer", nothing,
          lambda _, v: RegisterSpec(name="A", offset=v), 4),
    Entry("RegisterSpec", "width", "integer", nothing,
          lambda _, v: RegisterSpec(name="A", offset=0, width=v), 16, special=((7, ValueError),)),
    Entry("RegisterSpec", "reset", "integer", nothing,
          lambda _, v: RegisterSpec(name="A", offset=0, reset=v), 4,
          special=((1 << 32, ValueError),)),
    Entry("RegisterSpec", "stride", "integer", nothing,
          lambda _, v: RegisterSpec(name="A", offset=0, stride=v), 4, special=((3, ValueError),)),
    Entry("BlockSpec", "offset", "integer", nothing,
          lambda _, v: BlockSpec(name="A", offset=v, map=RegisterMap(name="M", size=4)), 4),
    Entry("RegisterMap", "size", "integer", nothing,
          lambda _, v: RegisterMap(name="M", size=v), 4, special=((0, ValueError),)),
]  # fmt: skip

REGISTERS = [*SINGLE, *WINDOWS, *BOUND, *DESCRIPTIONS]

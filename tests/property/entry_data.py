"""Rows of the bad-input suite for rings, hashes and chunking; see entry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from entry import Entry, nothing

from nexus import physics
from nexus.physics import Blake3, CheckpointSlot, Chunker, Ring

PAGE = 4096
FD = 201


@contextmanager
def ring() -> Iterator[Ring]:
    """A ring with one record of 8 bytes in it."""
    with Ring.create(PAGE) as made:
        made.put(b"12345678")
        yield made


@contextmanager
def ring_fd() -> Iterator[int]:
    """A ring's memory under a number known beforehand."""
    with Ring.create(PAGE) as made:
        os.dup2(made.fd, FD)
        try:
            yield FD
        finally:
            os.close(FD)


def held(made: Ring) -> Any:
    return None if made.closed else (len(made), made.stats())


def drained(made: Ring, call: Any) -> object:
    """A call that fills the ring, followed by what makes room again for the next."""
    result = call()
    while len(made) > 1:
        made.get()
    return result


def close(made: Any) -> None:
    made.close()


RINGS = [
    Entry("Ring.create", "capacity", "integer", nothing, lambda _, v: Ring.create(v).close(), PAGE,
          special=((0, ValueError), (1 << 31, ValueError))),
    Entry("Ring.attach", "fd", "integer", ring_fd, lambda _, v: Ring.attach(v).close(), FD,
          special=((2**31 - 1, OSError),)),
    Entry("Ring.put", "data", "buffer", ring, lambda r, v: drained(r, lambda: r.put(v)), b"x" * 8,
          held, ((bytes(PAGE), ValueError),), close),
    Entry("Ring.put_many", "records[1]", "buffer", ring,
          lambda r, v: drained(r, lambda: r.put_many([b"ok", v])), b"x" * 8, held,
          ((bytes(PAGE), ValueError),), close),
    Entry("Ring.get_many", "limit", "integer", ring, lambda r, v: r.get_many(v), 0, held, (),
          close),
    Entry("Ring.put_array", "rows", "buffer", ring,
          lambda r, v: drained(r, lambda: r.put_array(v, 8)), b"x" * 16, held,
          ((b"x" * 15, ValueError),), close),
    Entry("Ring.put_array", "record_size", "integer", ring,
          lambda r, v: drained(r, lambda: r.put_array(b"x" * 16, "none" if v is None else v)),
          8, held,
          ((0, ValueError), (5, ValueError)), close),
    Entry("Ring.get_into", "rows", "writable", ring,
          lambda r, v: r.get_into(v, 8), bytearray(8), held,
          (), close),
    Entry("Ring.reserve", "size", "integer", ring,
          lambda r, v: (s := r.reserve(v)) and s.cancel(), 8, held, ((PAGE, ValueError),), close),
    Entry("Ring.wait", "timeout", "number", ring, lambda r, v: r.wait("ever" if v is None else v),
          0.0, held, ((-1.0, ValueError),), close),
    Entry("Ring.send", "data", "buffer", ring, lambda r, v: drained(r, lambda: r.send(v)), b"x" * 8,
          held, ((bytes(PAGE), ValueError),), close),
    Entry("Ring.send", "timeout", "number", ring,
          lambda r, v: drained(r, lambda: r.send(b"", "ever" if v is None else v)), 0.0, held,
          ((-1.0, ValueError),), close),
    Entry("Ring.recv", "timeout", "number", ring, lambda r, v: r.recv("ever" if v is None else v),
          0.0, held, ((-1.0, ValueError),), close),
]  # fmt: skip

KEY = bytes(range(32))

HASHES = [
    *(
        Entry(name, "data", "buffer", nothing, lambda _, v, f=name: getattr(physics, f)(v), b"x")
        for name in ("blake3", "xxh3_64", "xxh64", "crc32c")
    ),
    *(
        Entry(name, "seed", "integer", nothing,
              lambda _, v, f=name: getattr(physics, f)(b"data", v), 7)
        for name in ("xxh3_64", "xxh64")
    ),
    Entry("crc32c", "value", "integer", nothing, lambda _, v: physics.crc32c(b"data", v), 7,
          special=((1 << 32, OverflowError),)),
    Entry("blake3", "length", "integer", nothing, lambda _, v: physics.blake3(b"", length=v), 40),
    Entry("blake3_keyed", "key", "buffer", nothing, lambda _, v: physics.blake3_keyed(v, b""), KEY,
          special=((KEY[1:], ValueError), (KEY + b"x", ValueError))),
    Entry("blake3_keyed", "data", "buffer", nothing, lambda _, v: physics.blake3_keyed(KEY, v),
          b"x"),
    Entry("blake3_derive_key", "data", "buffer", nothing,
          lambda _, v: physics.blake3_derive_key("context", v), b"x"),
    Entry("blake3_many", "items[1]", "buffer", nothing,
          lambda _, v: physics.blake3_many([b"a", v]), b"x"),
    Entry("siphash24", "key", "buffer", nothing, lambda _, v: physics.siphash24(v, b""), KEY[:16],
          special=((KEY, ValueError), (b"", ValueError))),
    Entry("siphash24", "data", "buffer", nothing, lambda _, v: physics.siphash24(KEY[:16], v),
          b"x"),
    Entry("siphash24_128", "key", "buffer", nothing, lambda _, v: physics.siphash24_128(v, b""),
          KEY[:16], special=((KEY, ValueError), (b"", ValueError))),
    Entry("siphash24_128", "data", "buffer", nothing,
          lambda _, v: physics.siphash24_128(KEY[:16], v), b"x"),
    Entry("Blake3", "key", "buffer", nothing,
          lambda _, v: Blake3(key=v) if v is not None else Blake3(key=1), KEY,
          special=((KEY[1:], ValueError),)),
]  # fmt: skip


@contextmanager
def hasher() -> Iterator[Blake3]:
    yield Blake3()


@contextmanager
def chunker() -> Iterator[Chunker]:
    yield Chunker(256, 1024, 4096)


STREAMS = [
    Entry("Blake3.update", "data", "buffer", hasher, lambda h, v: h.copy().update(v), b"x",
          lambda h: h.digest()),
    Entry("Blake3.digest", "length", "integer", hasher, lambda h, v: h.digest(length=v), 9,
          lambda h: h.digest()),
    Entry("Chunker", "minimum", "integer", nothing, lambda _, v: Chunker(v, 65536, 262144), 16384,
          special=((0, ValueError), (70000, ValueError))),
    Entry("Chunker", "average", "integer", nothing, lambda _, v: Chunker(16384, v, 262144), 65536,
          special=((0, ValueError), (300000, ValueError))),
    Entry("Chunker", "maximum", "integer", nothing, lambda _, v: Chunker(16384, 65536, v), 262144,
          special=((0, ValueError), (60000, ValueError))),
    Entry("Chunker", "normalization", "integer", nothing,
          lambda _, v: Chunker(normalization=v), 2, special=((9, ValueError),)),
    Entry("Chunker", "seed", "integer", nothing, lambda _, v: Chunker(seed=v), 5),
    Entry("Chunker.cuts", "data", "buffer", chunker, lambda c, v: c.cuts(v), b"x" * 5000),
    Entry("Chunker.cuts", "threads", "integer", chunker,
          lambda c, v: c.cuts(b"x" * 5000, threads=v), 2, special=((0, ValueError),)),
    Entry("Chunker.digests", "data", "buffer", chunker, lambda c, v: c.digests(v), b"x" * 5000),
    Entry("ChunkStream.update", "data", "buffer", chunker, lambda c, v: c.stream().update(v),
          b"x" * 5000),
]  # fmt: skip


@contextmanager
def slot() -> Iterator[CheckpointSlot]:
    """A checkpoint with one save in it."""
    with CheckpointSlot.create() as made:
        made.save(b"blob")
        yield made


def stored(made: CheckpointSlot) -> bytes:
    return b"closed" if made.closed else os.pread(made.fd, 2 * 41288, 0)


def saving(parameter: str, good: Any, *special: Any, kind: str = "buffer") -> Entry:
    """A row of one keyword of `save`."""
    return Entry("CheckpointSlot.save", parameter, kind, slot,
                 lambda s, v: s.save(b"x", **{parameter: v}), good, stored, special,
                 close)  # fmt: skip


@contextmanager
def slot_fd() -> Iterator[int]:
    """A checkpoint's memory under a number known beforehand."""
    with CheckpointSlot.create() as made:
        os.dup2(made.fd, FD)
        try:
            yield FD
        finally:
            os.close(FD)


SLOTS = [
    Entry("CheckpointSlot.attach", "fd", "integer", slot_fd,
          lambda _, v: CheckpointSlot.attach(v).close(), FD, special=((2**31 - 1, OSError),)),
    Entry("CheckpointSlot.save", "blob", "buffer", slot, lambda s, v: s.save(v), b"x" * 32768,
          stored, ((bytes(32769), ValueError),), close),
    saving("epoch", 7, (1 << 32, OverflowError), kind="integer"),
    saving("image", 7, kind="integer"),
    Entry("CheckpointSlot.save", "stack", "buffer", slot,
          lambda s, v: s.save(b"x", stack=v if v is not None else 1), bytes(8192), stored,
          ((bytes(8193), ValueError),), close),
    Entry("CheckpointSlot.save", "frame", "buffer", slot,
          lambda s, v: s.save(b"x", frame=v if v is not None else 1), bytes(272), stored,
          ((bytes(273), ValueError), (bytes(271), ValueError)), close),
    Entry("CheckpointSlot.restore", "image", "integer", slot, lambda s, v: s.restore(image=v), 0,
          stored, (), close),
    Entry("CheckpointSlot.restore", "epoch", "integer", slot, lambda s, v: s.restore(epoch=v), 0,
          stored, ((1 << 32, OverflowError),), close),
    Entry("CheckpointSlot.restore", "floor", "integer", slot, lambda s, v: s.restore(floor=v), 0,
          stored, (), close),
]  # fmt: skip

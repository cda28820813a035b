"""`nexus bench core`: the core mechanisms beside what the standard library offers.

Everything here needs nothing but the installed package. The comparison with other packages is
`./dev bench` in a checkout, which has them installed apart.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import queue
import statistics
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nexus import physics
from nexus.cli.output import Output
from nexus.cli.rounds import Case, interleave, ratio

ROUNDS, SLICE = 15, 0.01
QUICK_ROUNDS, QUICK_SLICE = 3, 0.002


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: our way, the usual way, and what the figure says."""

    name: str
    ours: Callable[[int], None]
    peer_name: str
    peer: Callable[[int], None]
    meaning: str
    items: int = 1


def repeated(call: Callable[[], object]) -> Callable[[int], None]:
    """A function that makes a call a given number of times."""

    def run(loops: int) -> None:
        for _ in range(loops):
            call()

    return run


def ring_rows() -> Iterator[Row]:
    """Rings beside SimpleQueue, which cannot leave the process."""
    ring = physics.Ring.create(1 << 16)
    simple: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    put, get, simple_put, simple_get = ring.put, ring.get, simple.put, simple.get
    record = bytes(64)
    batch = [record] * 64

    def ours(loops: int) -> None:
        for _ in range(loops):
            put(record)
            get()

    def peer(loops: int) -> None:
        for _ in range(loops):
            simple_put(record)
            simple_get()

    def ours_many(loops: int) -> None:
        for _ in range(loops):
            ring.put_many(batch)
            ring.get_many(64)

    def peer_many(loops: int) -> None:
        for _ in range(loops):
            for one in batch:
                simple_put(one)
            for _ in batch:
                simple_get()

    says = "a record of 64 bytes in and out; ours can cross to another process"
    yield Row("ring put + get", ours, "queue.SimpleQueue", peer, says)
    says = "the same in batches of 64, per record"
    yield Row("ring put_many + get_many", ours_many, "queue.SimpleQueue, 64", peer_many, says, 64)


def register_rows() -> Iterator[Row]:
    """Register accesses beside struct, which makes two stores of one."""
    fd = os.memfd_create("bench")
    os.ftruncate(fd, 4096)
    window = physics.Mmio.attach(fd, 0, 64)
    memory = bytearray(64)
    unpack, pack = struct.Struct("<I").unpack_from, struct.Struct("<I").pack_into
    read32, write32 = window.read32, window.write32

    def read(loops: int) -> None:
        for _ in range(loops):
            read32(8)

    def unpacked(loops: int) -> None:
        for _ in range(loops):
            unpack(memory, 8)

    def write(loops: int) -> None:
        for _ in range(loops):
            write32(8, 5)

    def packed(loops: int) -> None:
        for _ in range(loops):
            pack(memory, 8, 5)

    yield Row("read32", read, "struct.unpack_from", unpacked, "exactly one 32-bit load")
    says = "exactly one 32-bit store; struct.pack_into stores twice, a zero first"
    yield Row("write32", write, "struct.pack_into", packed, says)


def table_rows() -> Iterator[Row]:
    """Capabilities, filter and baseline beside dictionaries, sets and arithmetic."""
    table = physics.CapabilityTable(1024)
    handle = table.mint(1, 2, 0x1F)
    rights = {handle: 0x1F}
    check, lookup = table.check, rights.get
    ids = [physics.blake3(i.to_bytes(4, "little"))[:16] for i in range(100_000)]
    allowed, members = physics.CellFilter(ids), set(ids)
    frames = b"".join(ids[:4096])
    baseline = physics.Baseline(3, lock_after=1 << 62)
    update = baseline.update
    sample = (1.0, 2.0, 3.0)

    def checks(loops: int) -> None:
        for _ in range(loops):
            check(handle, 1)

    def lookups(loops: int) -> None:
        for _ in range(loops):
            bool(lookup(handle, 0) & 1)

    def contained(loops: int) -> None:
        for _ in range(loops):
            [one in members for one in ids[:4096]]

    def updates(loops: int) -> None:
        for _ in range(loops):
            update(sample)

    def by_hand(loops: int) -> None:
        mean, m2 = [0.0] * 3, [0.0] * 3
        for count in range(1, loops + 1):
            for i, value in enumerate(sample):
                distance = value - mean[i]
                mean[i] += distance / count
                m2[i] += distance * (value - mean[i])

    says = "whether a handle is live and has a right"
    yield Row("capability check", checks, "dict.get and mask", lookups, says)
    many = repeated(lambda: allowed.check_many(frames))
    says = "an id of 16 bytes among 100,000, per id of a batch"
    yield Row("cell filter", many, "in a set", contained, says, 4096)
    says = "mean and variance of three metrics"
    yield Row("baseline update", updates, "the same in Python", by_hand, says)


def data_rows() -> Iterator[Row]:
    """Hashes, chunks and checkpoints beside hashlib, zlib and a copy."""
    page, large = os.urandom(65536), os.urandom(1 << 20)
    slot, chunker = physics.CheckpointSlot.create(), physics.Chunker()
    blob = os.urandom(32768)

    def digests(loops: int) -> None:
        for _ in range(loops):
            hashlib.blake2b(page).digest()

    ours = repeated(lambda: physics.blake3(page))
    says = "64 KiB, cryptographic; per KiB"
    yield Row("blake3", ours, "hashlib.blake2b", digests, says, 64)
    ours, peer = repeated(lambda: physics.crc32c(page)), repeated(lambda: zlib.crc32(page))
    yield Row("crc32c", ours, "zlib.crc32", peer, "64 KiB, error detection; per KiB", 64)
    ours, peer = repeated(lambda: physics.xxh3_64(page)), repeated(lambda: zlib.adler32(page))
    yield Row("xxh3_64", ours, "zlib.adler32", peer, "64 KiB, fast check; per KiB", 64)
    ours, peer = repeated(lambda: chunker.cuts(large)), repeated(lambda: zlib.crc32(large))
    says = "cut points of 1 MiB; per KiB"
    yield Row("chunker", ours, "zlib.crc32 of the same", peer, says, 1024)
    ours, peer = repeated(lambda: slot.save(blob)), repeated(lambda: hashlib.sha256(blob).digest())
    says = "a checkpoint of 32 KiB, two copies; the peer only hashes it"
    yield Row("checkpoint save", ours, "hashlib.sha256 of the blob", peer, says)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the table; the exit code is 0 whatever the figures are."""
    sources = (ring_rows, register_rows, table_rows, data_rows)
    rows = [row for source in sources for row in source()]
    if arguments.only:
        rows = [row for row in rows if arguments.only.lower() in row.name.lower()]
    rounds, seconds = (QUICK_ROUNDS, QUICK_SLICE) if arguments.quick else (ROUNDS, SLICE)
    items = []
    for row in rows:
        output.progress(f"measuring {row.name}")
        cases = [
            Case("ours", row.ours, items=row.items),
            Case("peer", row.peer, items=row.items),
        ]
        results = interleave(cases, rounds=rounds, slice_seconds=seconds)
        items.append(
            {"name": row.name, "ns": statistics.median(results["ours"]), "peer": row.peer_name}
            | {"peer_ns": statistics.median(results["peer"])}
            | {"ratio": ratio(results, "ours", "peer"), "meaning": row.meaning}
        )
    output.progress("")
    if arguments.json:
        body = {"rounds": rounds, "simd": physics.simd_level(), "items": items}
        output.document("bench", {"subject": "core", **body})
        return 0
    lines = [("mechanism", "ns", "ratio", "beside", "ns")]
    for item in items:
        times = f"{item['ns']:.1f}", f"{item['ratio']:.2f}", item["peer"], f"{item['peer_ns']:.1f}"
        lines.append((str(item["name"]), times[0], times[1], str(times[2]), times[3]))
    output.table(lines, right=frozenset({1, 2, 4}))
    output.line()
    for item in items:
        output.line(f"  {item['name']}: {item['meaning']}")
    output.line()
    output.line(f"medians of {rounds} interleaved rounds, kernels: {physics.simd_level()}")
    output.line("a ratio below 1 means faster than the peer; only ratios compare across machines")
    sys.stdout.flush()
    return 0

"""`nexus selftest`: run the shipped vectors against this installation.

Each check states a fact that an independent source gives (a specification, a published package, the
kernel's own verdict) and compares. Passing means that this wheel, on this CPU and kernel, computes
what every other installation computes.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import sys
import time
from collections.abc import Callable

from nexus import physics
from nexus.cli.output import Output

# The input of the official BLAKE3 vectors: bytes 0, 1, ..., 250, 0, 1, ...
PATTERN = bytes(range(251)) * 410
BLAKE3 = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    8192: "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


class Failure(Exception):
    """A check found something else than it must."""


def expect(what: str, found: object, wanted: object) -> None:
    """Compare, and say both sides when they differ."""
    if found != wanted:
        raise Failure(f"{what} is {found!r}, not {wanted!r}")


def check_hashes() -> str:
    """Official vectors of four hash functions."""
    for size, digest in BLAKE3.items():
        expect(f"BLAKE3 of {size} bytes", physics.blake3(PATTERN[:size]).hex(), digest)
    expect("CRC-32C of the check string", physics.crc32c(b"123456789"), 0xE3069283)
    key = bytes(range(16))
    expect("SipHash-2-4", physics.siphash24(key, bytes(range(15))), 0xA129CA6149BE45E5)
    expect("XXH64 of nothing", physics.xxh64(b""), 0xEF46DB3751D8E999)
    expect("XXH3-64 of nothing", physics.xxh3_64(b""), 0x2D06800538D394C2)
    return f"{len(BLAKE3) + 4} vectors, kernels: {physics.simd_level()}"


def check_chunker() -> str:
    """Cut points that the published Rust crate gives for a stream anyone can make."""
    stream = b"".join(
        hashlib.sha256(b"nexus-cdc-vector" + i.to_bytes(8, "little")).digest() for i in range(31251)
    )[:1000003]
    cuts = physics.Chunker().cuts(stream)
    sizes = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
    packed = b"".join(size.to_bytes(4, "little") for size in sizes)
    expect("the number of chunks", len(sizes), 11)
    expect("the digest of the sizes", physics.blake3(packed).hex()[:16], "d0b63d151e61fbeb")
    return f"{len(sizes)} chunks, identical cut points"


def check_ring() -> str:
    """Records through shared memory from another process, in order."""
    count = 5000
    with physics.Ring.create(1 << 14) as ring:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with physics.Ring.attach(ring.fd) as twin:
                    for i in range(count):
                        while not twin.put(i.to_bytes(8, "little") * (i % 9)):
                            os.sched_yield()
                status = 0
            finally:
                os._exit(status)
        deadline = time.monotonic() + 30
        for i in range(count):
            while (record := ring.get()) is None:
                if time.monotonic() > deadline:
                    raise Failure(f"record {i} did not arrive within 30 s")
                ring.wait(0.1)
            expect(f"record {i}", record, i.to_bytes(8, "little") * (i % 9))
        expect("the producer's exit", os.waitpid(child, 0)[1], 0)
    return f"{count} records from another process"


def check_registers() -> str:
    """Widths and byte orders of register accesses, on a memory file."""
    fd = os.memfd_create("selftest")
    try:
        os.ftruncate(fd, 4096)
        with physics.Mmio.attach(fd, 64, 64) as window:
            window.write32(4, 0x11223344)
            expect("the bytes", os.pread(fd, 4, 68).hex(), "44332211")
            expect("big-endian", window.read32be(4), 0x44332211)
            window.update(4, 0xFF00, 0xAB00)
            expect("after an update", window.read32(4), 0x1122AB44)
            expect("halves", (window.read16(4), window.read8(7)), (0xAB44, 0x11))
    finally:
        os.close(fd)
    return "widths, byte orders, fields"


def check_capabilities() -> str:
    """Narrowing, transitive revocation, the audit, and the vote."""
    table = physics.CapabilityTable(64)
    root = table.mint(1, 2, 0x1F)
    line = [root]
    for _ in range(20):
        line.append(table.derive(line[-1], 0x11))
    expect("how many revocation ends", table.revoke(line[1]), 20)
    expect("what is left", (table.check(root, 0x1F), table.check(line[20], 0)), (True, False))
    expect("the audit", table.audit().sound, True)
    copies = [bytearray(PATTERN[:5000]) for _ in range(3)]
    copies[1][77] ^= 0x10
    expect("the vote", physics.tmr_vote(*copies), (0, 1, 0))
    expect("the repaired copy", bytes(copies[1]), PATTERN[:5000])
    return "derive, revoke, audit, vote"


def check_filter() -> str:
    """Exact membership among ten thousand ids."""
    ids = [physics.blake3(i.to_bytes(4, "little"))[:16] for i in range(20000)]
    allowed = physics.CellFilter(ids[:10000])
    verdicts = allowed.check_many(b"".join(ids))
    expect("the verdicts", verdicts, b"\x01" * 10000 + b"\x00" * 10000)
    return "20000 ids, no false answer"


def check_baseline() -> str:
    """Learning, locking and the three-sigma test."""
    baseline = physics.Baseline(2, lock_after=8)
    for value in (2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0):
        baseline.update((value, 1.0))
    expect("the mean", baseline.mean, [5.0, 1.0])
    expect("the variance", baseline.variance, [32 / 7, 0.0])
    expect("a normal sample", baseline.update((11.0, 1.0)), 0)
    expect("a strange one", baseline.update((12.0, 1.5)), 3)
    return "mean, variance, deviation bits"


def check_checkpoint() -> str:
    """Saving, restoring from the other copy when one is torn, and cold start when both are."""
    with physics.CheckpointSlot.create() as slot:
        first = slot.save(b"first")
        second = slot.save(b"second")
        expect("the sequences", second > first, True)
        found = slot.restore()
        expect("the newest blob", found.blob if found else None, b"second")
        size = 41288
        for copy, survivor in ((0, b"second"), (1, None)):
            os.pwrite(slot.fd, b"\xff" * 64, copy * size + 20000)
            found = slot.restore()
            expect(f"with copy {copy} torn", found.blob if found else None, survivor)
    return "two copies, each in turn destroyed"


def check_seccomp() -> str:
    """A filter that the kernel enforces, in a child."""
    refuse = physics.SeccompRule(("getpgid",), physics.Action.errno(errno.EXDEV))
    made = physics.SeccompFilter.compile([refuse], default=physics.Action.ALLOW)
    expect("the simulation", made.simulate("getpgid"), physics.Action.errno(errno.EXDEV))
    if not physics.seccomp_capabilities().available:
        return f"{len(made)} instructions, not enforced: this kernel has no seccomp filters"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            made.install(no_new_privs=True)
            try:
                os.getpgid(0)
                status = 2
            except OSError as refusal:
                status = 0 if refusal.errno == errno.EXDEV else 3
        finally:
            os._exit(status)
    expect("the child's verdict", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
    return f"{len(made)} instructions, enforced in a child"


CHECKS: list[tuple[str, Callable[[], str]]] = [
    ("hashes", check_hashes),
    ("chunker", check_chunker),
    ("ring", check_ring),
    ("registers", check_registers),
    ("capabilities", check_capabilities),
    ("filter", check_filter),
    ("baseline", check_baseline),
    ("checkpoint", check_checkpoint),
    ("seccomp", check_seccomp),
]


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run all checks; the exit code is 1 when any failed."""
    items = []
    for name, check in CHECKS:
        output.progress(f"checking {name}")
        start = time.perf_counter()
        try:
            state, detail = "ok", check()
        except Failure as failure:
            state, detail = "failed", str(failure)
        seconds = time.perf_counter() - start
        items.append({"name": name, "state": state, "detail": detail, "seconds": seconds})
    output.progress("")
    failed = sum(item["state"] != "ok" for item in items)
    if arguments.json:
        output.document("selftest", {"items": items, "failed": failed})
    else:
        output.table([(str(i["state"]), str(i["name"]), str(i["detail"])) for i in items])
        output.line()
        output.line(f"{len(items) - failed} ok, {failed} failed")
    sys.stdout.flush()
    return 1 if failed else 0

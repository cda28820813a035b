"""Seccomp programs beside pyseccomp, and what their shapes cost to install and at each call."""

from __future__ import annotations

import os
import struct
import sys
import time

from harness import Bar, Case, main
from peer import PeerProcess
from seccomp_calls import NUMBERS

from nexus.logic.pledge import DEFAULT_PROMISES, compile_pledge
from nexus.physics import Action, SeccompFilter, seccomp_capabilities, syscall_mask, syscalls
from nexus.physics.syscalls import native_machine

DENY = Action.errno(1)
MISSING = []
INSTRUCTIONS_MAX = 160
# What the children of the install cases need besides: the answer, the clock and the end.
OWN = ("write", "clock_gettime", "exit_group", "getppid", "prctl", "seccomp")


def linear_chain(numbers: list[int]) -> SeccompFilter:
    """One comparison a number, as simple emitters make it: the control of the install bar."""
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, 0xC000003E), (0x06, 0, 0, 0x80000000), (0x20, 0, 0, 0)]
    for number in numbers:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x7FFF0000)]
    code.append((0x06, 0, 0, DENY.value))
    return SeccompFilter.from_bytes(
        b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
    )


def in_children(program: SeccompFilter, work):
    """Time `work(program, loops)` inside one forked child a call, as a filter stays for good."""

    def run(loops: int) -> float:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, struct.pack("d", work(program, loops)))
            finally:
                os._exit(0)
        os.close(writer)
        (seconds,) = struct.unpack("d", os.read(reader, 8))
        os.close(reader)
        os.waitpid(child, 0)
        return seconds

    return run


def install(program: SeccompFilter, loops: int) -> float:
    """Seconds of so many installs, each in a child of its own so that filters do not pile up."""
    total = 0.0
    for _ in range(loops):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            # The first call after a fork pays for copying pages, whatever it does.
            seccomp_capabilities()
            start = time.perf_counter()
            program.install(no_new_privs=True)
            os.write(writer, struct.pack("d", time.perf_counter() - start))
            os._exit(0)
        os.close(writer)
        total += struct.unpack("d", os.read(reader, 8))[0]
        os.close(reader)
        os.waitpid(child, 0)
    return total


def calls(program: SeccompFilter | None, loops: int) -> float:
    """Seconds of so many getppid calls under a filter, or without one."""
    if program is not None:
        program.install(no_new_privs=True)
    getppid = os.getppid
    start = time.perf_counter()
    for _ in range(loops):
        getppid()
    return time.perf_counter() - start


def cases():
    mask = syscall_mask(NUMBERS)
    from_mask = SeccompFilter.from_mask

    def compile_mask(loops: int) -> None:
        for _ in range(loops):
            from_mask(mask, default=DENY)

    yield Case("mask to program", compile_mask)
    peer = PeerProcess("pyseccomp_mask.py")
    if peer.available:
        yield Case("pyseccomp", peer.run)
    else:
        MISSING.append("pyseccomp, and apt-get install libseccomp2")

    own = sorted({*NUMBERS, *(syscalls()[name] for name in OWN)})
    shapes = {
        shape: from_mask(syscall_mask(own), default=DENY, shape=shape)
        for shape in ("auto", "tree", "words")
    }
    shapes["linear"] = linear_chain(own)
    for shape, program in shapes.items():
        print(f"  {len(program):5} instructions, {shape}", file=sys.stderr)
    for shape in ("auto", "tree", "linear"):
        yield Case(f"install {shape}", lambda n, p=shapes[shape]: install(p, n))
    pledge, _ = compile_pledge(DEFAULT_PROMISES, "deny", native_machine())
    named = {
        "default pledge": SeccompFilter.from_bytes(pledge),
        "empty": SeccompFilter.compile([], default=Action.ALLOW),
    }
    for name, program in named.items():
        print(f"  {len(program):5} instructions, {name}", file=sys.stderr)
        yield Case(f"install {name}", lambda n, p=program: install(p, n))
    for shape in ("tree", "words", "linear"):
        yield Case(f"getppid under {shape}", in_children(shapes[shape], calls))
    yield Case("getppid without a filter", in_children(None, calls))


def check_length() -> None:
    """The other half of bar S1: no mask needs more than 160 instructions."""
    masks = [bytes([byte]) * 64 for byte in range(256)] + [os.urandom(64) for _ in range(200)]
    longest = max(len(SeccompFilter.from_mask(mask, default=DENY)) for mask in masks)
    if longest > INSTRUCTIONS_MAX:
        sys.exit(f"S1 missed: {longest} instructions for a mask")
    print(f"longest of {len(masks)} masks: {longest} instructions", file=sys.stderr)


check_length()
main(
    "seccomp filters",
    cases,
    [
        Bar("S1", "mask to program", "pyseccomp", 0.02),
        Bar("S1", "install auto", "install linear", 0.3),
    ],
    MISSING,
)

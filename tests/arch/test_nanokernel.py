"""The nanokernel: what L0 decides with fits into 5,120 bytes of bare metal and needs nothing else.

Compiled for a RISC-V core without a floating-point unit and without an operating system, so that a
call of a library, of an allocator or of floating-point arithmetic would be an undefined symbol.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TEXT_MAX = 5120
TARGET = ["-target", "riscv64-freestanding-none", "-mcpu=generic_rv64+m+a+c"]
FLAGS = ["-std=c17", "-Os", "-ffreestanding", "-ffunction-sections", "-fno-strict-aliasing"]

# docs/reference/nanokernel.md says what each of them decides.
NANOKERNEL = [
    "breaker",
    "capability_check",
    "checkpoint",
    "feature",
    "ratchet",
    "tmr",
    "trap",
    "watchdog",
]
# The ring and the capability check are inline functions: each of them once, out of line.
INLINES = """
#include "nx_capability.h"
#include "nx_ring_slot.h"

int slot_format(nx_slot_control *c, uint32_t n) { return nx_slot_format(c, n, 64); }
int slot_open(nx_slot_control *c, uint64_t n, nx_slot_ring *r) { return nx_slot_open(c, n, r); }
int slot_push(nx_slot_ring *r, const void *p) { return nx_slot_push(r, p, 56); }
int slot_pop(nx_slot_ring *r, void *p) { return nx_slot_pop(r, p, 56); }
bool capability(const nx_capability_table *t, uint64_t h, uint16_t r)
{
    return nx_capability_check(t, h, r);
}
"""
# Freestanding too, but what L0 records with rather than decides with; and the hash functions.
APART = ["beb", "blake3", "capability", "correlator", "crc32c", "stl", "verdict", "xxhash"]

# Whoever links the nanokernel brings these: what a compiler may call, the end, and the hash.
PROVIDED = re.compile(r"mem(cmp|cpy|move|set)|nx_panic|nx_blake3_\w+")

SHF_EXECINSTR = 4
SHT_SYMTAB = 2
SHN_UNDEF = 0


class Compiled(NamedTuple):
    """One object file: bytes of code, names it defines, names it needs."""

    text: int
    defined: frozenset[str]
    needed: frozenset[str]


def read_object(data: bytes) -> Compiled:
    """The code size and the symbols of a 64-bit little-endian ELF file."""
    table = struct.unpack_from("<Q", data, 40)[0]
    size, count = struct.unpack_from("<HH", data, 58)
    # name, type, flags, address, offset, size, link, info, alignment, size of an entry
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    text = sum(section[5] for section in sections if section[2] & SHF_EXECINSTR)
    defined, needed = set(), set()
    for section in sections:
        if section[1] != SHT_SYMTAB:
            continue
        strings = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], section[9]):
            name, info, _, index = struct.unpack_from("<IBBH", data, at)
            text_of = data[strings + name : data.index(b"\0", strings + name)].decode()
            if info >> 4 and text_of:  # not local
                (needed if index == SHN_UNDEF else defined).add(text_of)
    return Compiled(text, frozenset(defined), frozenset(needed))


def compile_all(sources: list[Path], include: Path, folder: Path) -> dict[str, Compiled]:
    """Each source's object, by its noun."""
    compiled = {}
    for source in sources:
        made = folder / f"{source.stem}.o"
        command = [sys.executable, "-m", "ziglang", "cc", *TARGET, *FLAGS, f"-I{include}"]
        command += ["-c", str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        compiled[source.stem.removeprefix("nx_")] = read_object(made.read_bytes())
    return compiled


@pytest.fixture(scope="module")
def compiled(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    pytest.importorskip("ziglang", reason="nanokernel size not checked: pip install ziglang")
    folder = tmp_path_factory.mktemp("nanokernel")
    inlines = folder / "inlines.c"
    inlines.write_text(INLINES)
    core = root / "nexus" / "_core"
    sources = [core / "csrc" / f"nx_{noun}.c" for noun in NANOKERNEL + APART]
    return compile_all([inlines, *sources], core / "include", folder)


def size_of(compiled: dict[str, Compiled], nouns: list[str]) -> int:
    return sum(compiled[noun].text for noun in nouns)


def strangers(compiled: dict[str, Compiled], nouns: list[str]) -> set[str]:
    """What the files need that neither they nor the platform have."""
    defined = frozenset().union(*(compiled[noun].defined for noun in nouns))
    needed = frozenset().union(*(compiled[noun].needed for noun in nouns))
    return {name for name in needed - defined if not PROVIDED.fullmatch(name)}


@pytest.mark.slow
def test_the_nanokernel_fits(compiled: dict[str, Compiled]) -> None:
    nouns = ["inlines", *NANOKERNEL]
    total = size_of(compiled, nouns)
    lines = [f"{compiled[noun].text:6} {noun}" for noun in nouns] + [f"{total:6} of {TEXT_MAX}"]
    lines += ["apart:"] + [f"{compiled[noun].text:6} {noun}" for noun in APART]
    print("\n" + "\n".join(lines))
    assert all(compiled[noun].text > 0 for noun in compiled)
    assert total <= TEXT_MAX, "make it smaller, or split what L0 needs from what it does not:\n" + (
        "\n".join(lines)
    )


@pytest.mark.slow
def test_one_more_file_would_not_fit(compiled: dict[str, Compiled]) -> None:
    assert size_of(compiled, ["inlines", *NANOKERNEL, "capability"]) > TEXT_MAX


@pytest.mark.slow
def test_the_nanokernel_needs_nothing_else(compiled: dict[str, Compiled]) -> None:
    assert strangers(compiled, ["inlines", *NANOKERNEL]) == set()
    assert strangers(compiled, [*NANOKERNEL, *APART]) <= {"nx_blake3_many"}
    # The canary: without the vote, the feature mask misses it.
    assert strangers(compiled, ["feature"]) == {"nx_tmr_vote"}


@pytest.mark.slow
def test_floating_point_and_allocation_would_be_seen(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="nanokernel size not checked: pip install ziglang")
    source = tmp_path / "nx_guilty.c"
    source.write_text(
        "void *malloc(unsigned long);\n"
        "double half(double x) { return x / 2; }\n"
        "void *get(void) { return malloc(4); }\n"
    )
    guilty = compile_all([source], root / "nexus" / "_core" / "include", tmp_path)
    found = strangers(guilty, ["guilty"])
    assert "malloc" in found
    assert any(re.fullmatch(r"__\w+df3", name) for name in found)

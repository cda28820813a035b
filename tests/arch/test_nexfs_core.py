"""NexFS's class core on a Cortex-M4: how much code, static memory and stack its log takes.

Compiled for bare metal, so that a call of a library would be an undefined symbol. The stack is the
deepest path through the calls in the object files; recursion would be a cycle there and fails.
What the medium's driver takes is not in it.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CODE_MAX = 40 << 10
MEMORY_MAX = 8704  # 8.5 KiB, static memory and stack
TARGET = ["-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4"]
FLAGS = ["-std=c17", "-Os", "-ffreestanding", "-ffunction-sections", "-fno-strict-aliasing"]
FLAGS += ["-DNX_SMALL", "-fstack-size-section"]
KERNELS = ["blake3_simd", "crc32c", "flash", "xxhash"]

# A volume of SLC NAND with pages of 2 KiB: nodes of 512 bytes, windows of a page.
PROBE = """
#include "nx_nexfs.h"
#define SLOTS 6
nx_nexfs fs;
nx_nexfs_slot slots[SLOTS];
uint8_t nodes[SLOTS * 512];
uint8_t buffer[2048 + 32];
"""
# What a compiler itself may call, the end, and arithmetic of 64 bits on a machine of 32.
PROVIDED = re.compile(r"__aeabi_\w+|mem(cmp|cpy|move|set)|nx_panic")

SHF_EXECINSTR, SHT_SYMTAB, SHT_REL, SHT_NOBITS = 4, 2, 9, 8
CALLS = {10, 30, 51}  # R_ARM_THM_CALL, _JUMP24, _JUMP19
BLX_MASK, BLX = 0xFF87, 0x4780  # a call of what a register points to


@dataclass
class Function:
    """What one function takes and whom it calls."""

    code: int
    stack: int = 0
    calls: set[str] = field(default_factory=set)
    indirect: bool = False


@dataclass
class Compiled:
    """The functions of one object file."""

    functions: dict[str, Function] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)  # whose address is used otherwise
    memory: int = 0


def uleb(data: bytes, at: int) -> int:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        if data[at] < 128:
            return value
        at, shift = at + 1, shift + 7


def read_object(data: bytes) -> Compiled:
    """Functions, frames and calls of a 32-bit little-endian ELF file of ARM."""
    table = struct.unpack_from("<I", data, 32)[0]
    size, count = struct.unpack_from("<HH", data, 46)
    # name, type, flags, address, offset, size, link, info, alignment, size of an entry
    sections = [struct.unpack_from("<10I", data, table + i * size) for i in range(count)]
    symbols = next(s for s in sections if s[1] == SHT_SYMTAB)
    strings = sections[symbols[6]][4]
    names, homes, function_of = [], [], {}
    for at in range(symbols[4], symbols[4] + symbols[5], 16):
        name, _, _, info, _, home = struct.unpack_from("<IIIBBH", data, at)
        text = data[strings + name : data.index(b"\0", strings + name)].decode()
        names.append(text)
        homes.append(home)
        if info & 15 == 2:  # a function
            function_of[home] = text
    made = Compiled()
    made.memory = sum(s[5] for s in sections if s[1] == SHT_NOBITS)
    for index, text in function_of.items():
        code = data[sections[index][4] : sections[index][4] + sections[index][5]]
        halves = struct.unpack(f"<{len(code) // 2}H", code[: len(code) & ~1])
        indirect = any(half & BLX_MASK == BLX for half in halves)
        made.functions[text] = Function(len(code), indirect=indirect)
    section_names = sections[struct.unpack_from("<H", data, 50)[0]][4]
    for section in sections:
        start = section_names + section[0]
        if data[start : data.index(b"\0", start)] == b".stack_sizes":
            made.functions[function_of[section[6]]].stack = uleb(data, section[4] + 4)
        if section[1] != SHT_REL or section[7] >= count:
            continue
        caller = function_of.get(section[7])
        label = section_names + sections[section[7]][0]
        sized = data[label : data.index(b"\0", label)]
        if caller is None and not sized.startswith((b".data", b".rodata")):
            continue
        for at in range(section[4], section[4] + section[5], 8):
            info = struct.unpack_from("<II", data, at)[1]
            target = names[info >> 8] or function_of.get(homes[info >> 8], "")
            if caller is not None and info & 255 in CALLS:
                made.functions[caller].calls.add(target)
            elif target in made.functions or target in function_of.values():
                made.taken.add(target)
    return made


def compile_all(sources: list[Path], include: Path, folder: Path) -> dict[str, Compiled]:
    made = {}
    for source in sources:
        target = folder / f"{source.stem}.o"
        command = [sys.executable, "-m", "ziglang", "cc", *TARGET, *FLAGS, f"-I{include}"]
        command += ["-c", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made[source.stem] = read_object(target.read_bytes())
    return made


@pytest.fixture(scope="module")
def compiled(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    pytest.importorskip("ziglang", reason="size of NexFS not checked: pip install ziglang")
    folder = tmp_path_factory.mktemp("nexfs")
    probe = folder / "probe.c"
    probe.write_text(PROBE)
    core = root / "nexus" / "_core"
    sources = sorted((core / "csrc").glob("nx_nexfs_*.c"))
    sources += [core / "csrc" / f"nx_{noun}.c" for noun in KERNELS]
    return compile_all([probe, *sources], core / "include", folder)


def linked(compiled: dict[str, Compiled]) -> dict[str, Function]:
    """All functions; a call through a register may go to what its own file takes the address of."""
    everything = {}
    for made in compiled.values():
        for name, function in made.functions.items():
            calls = function.calls | (made.taken if function.indirect else set())
            everything[name] = Function(function.code, function.stack, calls)
    return everything


def reached(functions: dict[str, Function], roots: list[str]) -> set[str]:
    found: set[str] = set()
    wanted = list(roots)
    while wanted:
        name = wanted.pop()
        if name in functions and name not in found:
            found.add(name)
            wanted += functions[name].calls
    return found


def deepest(functions: dict[str, Function], name: str, path: tuple[str, ...]) -> list[str]:
    """The path of calls with the largest sum of frames."""
    assert name not in path, f"recursion: {path} {name}"
    best: list[str] = []
    for callee in functions[name].calls & functions.keys():
        if callee not in CACHE:
            CACHE[callee] = deepest(functions, callee, (*path, name))
        if stack_of(functions, CACHE[callee]) > stack_of(functions, best):
            best = CACHE[callee]
    return [name, *best]


CACHE: dict[str, list[str]] = {}


def stack_of(functions: dict[str, Function], path: list[str]) -> int:
    return sum(functions[name].stack for name in path)


def entries(root: Path) -> list[str]:
    """What a firmware calls: all of the header but the report of damage, which is for a host."""
    text = (root / "nexus/_core/include/nx_nexfs.h").read_text()
    declared = re.findall(r"^(?:int|void|size_t) (nx_nexfs_\w+)\(", text, re.MULTILINE)
    assert "nx_nexfs_mount" in declared
    return declared


@pytest.mark.slow
def test_the_core_fits_a_microcontroller(root: Path, compiled: dict[str, Compiled]) -> None:
    functions = linked(compiled)
    roots = entries(root)
    code = sum(functions[name].code for name in reached(functions, roots))
    CACHE.clear()
    paths = {name: deepest(functions, name, ()) for name in roots if name in functions}
    worst = max(paths.values(), key=lambda path: stack_of(functions, path))
    stack, memory = stack_of(functions, worst), compiled["probe"].memory
    for name in sorted(paths, key=lambda name: -stack_of(functions, paths[name]))[:8]:
        print(stack_of(functions, paths[name]), " ".join(paths[name]))
    print(f"\ncode {code}, static {memory}, stack {stack}, together {memory + stack}")
    for name in worst:
        print(f"{functions[name].stack:6} {name}")
    assert code <= CODE_MAX
    assert memory + stack <= MEMORY_MAX
    assert all(functions[name].stack > 0 for name in worst[:-1]), "frames are not known"


@pytest.mark.slow
def test_the_core_needs_nothing_else(compiled: dict[str, Compiled]) -> None:
    functions = linked(compiled)
    needed = set().union(*(function.calls for function in functions.values())) - functions.keys()
    assert {name for name in needed if not PROVIDED.fullmatch(name)} == set()


@pytest.mark.slow
def test_recursion_and_large_frames_would_be_seen(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="size of NexFS not checked: pip install ziglang")
    source = tmp_path / "guilty.c"
    source.write_text(
        "void use(char *);\n"
        "__attribute__((noinline)) void large(void) { char x[5000]; use(x); }\n"
        "__attribute__((noinline)) void b(int);\n"
        "__attribute__((noinline)) void a(int n) { char x[8]; use(x); b(n - 1); use(x); }\n"
        "__attribute__((noinline)) void b(int n) { char x[8]; use(x); a(n); use(x); }\n"
        "void both(void) { large(); large(); }\n"
    )
    guilty = compile_all([source], root / "nexus" / "_core" / "include", tmp_path)
    functions = linked(guilty)
    CACHE.clear()
    assert stack_of(functions, deepest(functions, "both", ())) >= 5000
    with pytest.raises(AssertionError, match="recursion"):
        deepest(functions, "a", ())

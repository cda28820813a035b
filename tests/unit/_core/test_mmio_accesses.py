"""Each accessor makes exactly the accesses that it states: counted by stepping over page faults.

The width of an access is pinned twice: by decoding the instruction, and by placing the register
at the end of one watched page and at the start of the next, where a wider access would touch, and
log, the neighbour. Other ways of reaching a register are the controls: they must be seen to do
something else. x86-64 counts; for the other CPUs the compiled text of the accessors is read.
"""

import functools
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
INCLUDE = TESTS.parent / "nexus" / "_core" / "include"
LOAD, STORE = 1, 2
PAGE = 4096
WIDTHS = (8, 16, 32, 64)


@functools.cache
def report():
    if platform.machine() != "x86_64":
        pytest.skip("access counts not checked: the stepper needs the trap flag of x86-64")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("access counts not checked: no C compiler; apt-get install gcc")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "stepper.so"
        source = TESTS / "stepper" / "stepper.c"
        flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        worker = [sys.executable, str(TESTS / "stepper" / "worker.py"), str(library)]
        done = subprocess.run(worker, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected(name):
    """The accesses that the verb states: (offset, kind, width in bytes)."""
    verb, width, offset = re.fullmatch(r"([a-z_]+?)(\d*)(?:be|_relaxed)?@(\d+)", name).groups()
    size, at = int(width or 32) // 8, int(offset)
    steps = [(at + i * size) for i in range(8)]
    return {
        "read": [(at, LOAD, size)],
        "write": [(at, STORE, size)],
        "update": [(at, LOAD, size), (at, STORE, size)],
        "read_field": [(at, LOAD, size)],
        "update_many": [(at, LOAD, size), (at, STORE, size)],
        "write_command": [(at, STORE, size)],
        "set_bits": [(at, LOAD, size), (at, STORE, size)],
        "clear_bits": [(at, LOAD, size), (at, STORE, size)],
        "poll": [(at, LOAD, size)] * 3,
        "read_fifo": [(at, LOAD, size)] * 5,
        "write_fifo": [(at, STORE, size)] * 5,
        "read_block": [(step, LOAD, size) for step in steps],
        "read_block_into": [(step, LOAD, size) for step in steps],
        "write_block": [(step, STORE, size) for step in steps],
        "write_block_from": [(step, STORE, size) for step in steps],
    }[verb]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "verbs"), [("plain", 80), ("guard", 80), ("trace", 80), ("register", 24)]
)
def test_each_verb_makes_exactly_the_accesses_it_states(mode, verbs):
    counted = report()[mode]
    assert len(counted) == verbs
    wrong = {
        name: accesses
        for name, accesses in counted.items()
        if [tuple(access[:3]) for access in accesses] != expected(name)
    }
    assert wrong == {}


def kinds(name):
    found = report()["control"]
    if name not in found:
        pytest.skip(f"control {name!r} not checked: pip install cffi")
    return [access[1] for access in found[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["struct.pack_into", "slice write", "cffi write"])
def test_control_that_stores_twice_is_caught(name):
    assert kinds(name).count(STORE) >= 2


@pytest.mark.slow
def test_control_that_reads_before_it_writes_is_caught():
    assert kinds("ctypes write") == [LOAD, STORE]


@pytest.mark.slow
def test_control_that_reads_twice_is_caught():
    assert kinds("slice read") == [LOAD, LOAD]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [("cast read", LOAD), ("cast write", STORE), ("struct.unpack_from", LOAD)]
)
def test_control_that_is_correct_counts_once(name, kind):
    assert kinds(name) == [kind]


@pytest.mark.slow
def test_access_that_is_wider_than_its_register_is_caught():
    accesses = report()["control"]["wide read"]
    assert [tuple(access[:3]) for access in accesses] == [(PAGE - 4, LOAD, 8), (PAGE, LOAD, 8)]


# Other CPUs: the text that the compiler hands to the assembler.

SOURCE = "\n".join(
    ['#include "nx_io.h"']
    + [
        f"uint{n}_t load{n}(void *p) {{ return nx_io_load{n}(p); }}\n"
        f"void store{n}(void *p, uint{n}_t v) {{ nx_io_store{n}(p, v); }}"
        for n in WIDTHS
    ]
    + [
        "void before(void) { nx_io_before_write(); }",
        "void after(void) { nx_io_after_read(); }",
        "void twice(uint32_t *p) { (void)nx_io_load32(p); (void)nx_io_load32(p); }",
    ]
)
SUFFIX = {8: "b", 16: "h", 32: "", 64: ""}
RISCV = {8: ("lbu", "sb"), 16: ("lhu", "sh"), 32: ("lw", "sw"), 64: ("ld", "sd")}


@functools.cache
def assembly(target):
    """Instructions of each function, comments and directives left out."""
    pytest.importorskip(
        "ziglang", reason="text of foreign accessors not checked: pip install ziglang"
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "accessors.c"
        source.write_text(SOURCE)
        output = Path(folder) / "accessors.s"
        flags = ["-std=c17", "-O2", "-S", "-fomit-frame-pointer", f"-I{INCLUDE}"]
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *flags]
        subprocess.run([*command, str(source), "-o", str(output)], check=True)
        text = output.read_text()
    functions = {}
    current = None
    for line in text.splitlines():
        line = re.split(r"//|#|;", line)[0].strip()
        label = re.fullmatch(r"([a-z]\w*):", line)
        if label:
            current = functions.setdefault(label[1], [])
        elif line and not line.startswith(".") and not line.endswith(":") and current is not None:
            current.append(re.sub(r"\s+", " ", line))
    return functions


def memory_accesses(lines):
    """Instructions with an address operand: [x0] on aarch64, 0(a0) on riscv."""
    return [line for line in lines if "[" in line or re.search(r"\(\w+\)", line)]


@pytest.mark.slow
def test_aarch64_accessors_are_one_instruction_with_a_plain_base_register():
    functions = assembly("aarch64-linux-musl")
    for n in WIDTHS:
        register = "x" if n == 64 else "w"
        (load,) = memory_accesses(functions[f"load{n}"])
        assert re.fullmatch(rf"ldr{SUFFIX[n]} {register}\d+, \[x0\]", load)
        (store,) = memory_accesses(functions[f"store{n}"])
        assert re.fullmatch(rf"str{SUFFIX[n]} {register}1, \[x0\]", store)
    assert "dmb oshst" in functions["before"]
    assert "dmb oshld" in functions["after"]


@pytest.mark.slow
def test_riscv64_accessors_are_one_instruction():
    functions = assembly("riscv64-linux-musl")
    for n in WIDTHS:
        load, store = RISCV[n]
        assert memory_accesses(functions[f"load{n}"]) == [f"{load} a0, 0(a0)"]
        assert memory_accesses(functions[f"store{n}"]) == [f"{store} a1, 0(a0)"]
    assert any(line.startswith("fence iorw") for line in functions["before"])
    assert any(line.startswith("fence ir") for line in functions["after"])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["aarch64-linux-musl", "riscv64-linux-musl"])
def test_reading_of_text_sees_two_accesses_where_there_are_two(target):
    assert len(memory_accesses(assembly(target)["twice"])) == 2

"""Native fibers from outside: built as the guide says, executed, ended, gone on with."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from nexus.physics import CheckpointSlot, native_runtime

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent.parent

# What the example does, on bare system calls: writes its locals and ends in the middle.
BARE = r"""
#include "nexus_fiber.h"
#include "nx_sys.h"

static int count(void *argument)
{
    char line[] = "life ?: 0\n";

    (void)argument;
    for (;;) {
        line[8]++;
        int code = nx_fiber_checkpoint(line, sizeof line);
        if (code < 0) {
            return 50 - code;
        }
        line[5] = (char)('0' + nx_fiber_life_number());
        (void)nx_sys(__NR_write, 1, line, 10);
        if (code == NX_FIBER_SAVED && line[8] % 3 == 0) {
            (void)nx_sys(__NR_kill, nx_sys0(__NR_getpid), 9);
        }
    }
}

int main(int words, char **text, char **environment)
{
    int result = 0;
    int code = nx_fiber_begin(environment);

    (void)words;
    (void)text;
    code = code == NX_OK ? nx_fiber_run(count, (void *)0, &result) : code;
    return code == NX_OK ? result : 100 - code;
}
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: native fibers are not built (apt-get install gcc libc6-dev)")
    place = tmp_path_factory.mktemp("native")
    runtime = native_runtime(platform.machine())

    def compile_program(source, *, libc):
        program = place / f"{source.stem}{libc}"
        words = ["cc", "-O2", "-Wall", "-Werror", *runtime.flags]
        words += [f"-I{folder}" for folder in runtime.include]
        words += [source, *runtime.sources, "-o", program]
        if not libc:
            words += [*runtime.start, "-nostdlib", "-ffreestanding"]
            words += ["-lgcc"] if platform.machine() == "x86_64" else []
        subprocess.run(words, check=True)
        return program

    return compile_program


@pytest.fixture
def slot():
    with CheckpointSlot.create() as made:
        yield made


def live(program, slot, number, floor, image=77):
    page = os.memfd_create("life")
    try:
        os.write(page, struct.pack("<IIQQQI28x", number, 0, image, floor, 0, 0))
        return subprocess.run(
            [program],
            env={"NEXUS_FIBER": f"life={page} checkpoint={slot.fd}"},
            pass_fds=[page, slot.fd],
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(page)


def newest(slot):
    with CheckpointSlot.attach(slot.fd) as other:
        return other.sequence


def test_the_example_goes_on_where_it_was(build, slot):
    program = build(ROOT / "examples" / "counter.c", libc=True)
    first = live(program, slot, 1, 0)
    assert first.stdout.splitlines()[-1] == "life 1: 15"
    second = live(program, slot, 2, newest(slot))
    assert (second.returncode, second.stdout) == (0, "life 2: 15, restored\n")
    other = live(program, slot, 3, newest(slot), image=78)
    assert other.stdout.startswith("life 3: 1\n")
    alone = subprocess.run([program], env={}, capture_output=True, text=True)
    assert (alone.returncode, alone.stderr) == (1, "not run as a fiber: -13\n")


def test_a_program_without_a_libc_survives_its_kills(build, slot, tmp_path):
    source = tmp_path / "bare.c"
    source.write_text(BARE)
    program = build(source, libc=False)
    lines = []
    for number in range(1, 4):
        done = live(program, slot, number, newest(slot))
        assert done.returncode == -9
        lines += done.stdout.splitlines()
    assert lines == [
        *("life 1: 1", "life 1: 2", "life 1: 3"),
        *("life 2: 3", "life 2: 4", "life 2: 5", "life 2: 6"),
        *("life 3: 6", "life 3: 7", "life 3: 8", "life 3: 9"),
    ]


def test_position_independent_code_is_refused_by_the_compiler(build, tmp_path):
    runtime = native_runtime()
    words = ["cc", "-std=c17", "-fpie", "-c", *(f"-I{folder}" for folder in runtime.include)]
    words += [runtime.sources[0], "-o", tmp_path / "x.o"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode != 0
    assert "-no-pie" in done.stderr

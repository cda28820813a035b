"""The supervisor stays small: a static image of at most 64 KiB of code, 2 MiB of memory at work."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nexus._core import probe
from nexus.physics.supervisor import supervisor_path

CODE_MAX = 64 * 1024
RESIDENT_MAX_KB = 2048
LOAD, INTERPRETER, EXECUTABLE = 1, 3, 1


def segments(image: bytes) -> list[tuple[int, int, int]]:
    """Kind, flags and file size of each program header of an ELF64 image."""
    offset = struct.unpack_from("<Q", image, 32)[0]
    size, count = struct.unpack_from("<HH", image, 54)
    found = []
    for i in range(count):
        kind, flags, _, _, _, in_file = struct.unpack_from("<IIQQQQ", image, offset + i * size)
        found.append((kind, flags, in_file))
    return found


def test_the_image_is_static_and_small() -> None:
    headers = segments(Path(supervisor_path()).read_bytes())
    assert not [kind for kind, _, _ in headers if kind == INTERPRETER]
    code = sum(size for kind, flags, size in headers if kind == LOAD and flags & EXECUTABLE)
    assert 0 < code <= CODE_MAX


def test_the_measure_sees_a_dynamic_image() -> None:
    kinds = [kind for kind, _, _ in segments(Path("/bin/sh").read_bytes())]
    assert INTERPRETER in kinds


@pytest.mark.skipif(
    probe.user_namespace() < 0 or probe.landlock() < 6,
    reason="a run without waived layers takes user namespaces and Landlock 6: the supervisor's "
    "memory was not measured here",
)
def test_it_needs_little_memory_at_work(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "nexus.cli", "run", "--", "/bin/sh", "-c", "touch up; sleep 60"]
    child = subprocess.Popen(words, cwd=tmp_path)
    try:
        end = time.monotonic() + 10
        while not (tmp_path / "up").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "Name:\tnexus-l0" in status
        (resident,) = [
            int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")
        ]
        assert resident <= RESIDENT_MAX_KB
    finally:
        child.terminate()
        child.wait()

"""The canary of ./dev asan for Python: proves that the core in use is sanitized, or fails.

Poisons a buffer and lets a kernel read it in a child process, which must be ended for that.
"""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
from pathlib import Path

from nexus import physics


def read_poison() -> None:
    data = ctypes.create_string_buffer(b"clean", 4096)
    physics.crc32c(data)
    ctypes.CDLL(None).__asan_poison_memory_region(ctypes.c_void_p(ctypes.addressof(data)), 4096)
    physics.crc32c(data)


def main() -> int:
    if sys.argv[1] == "read":
        read_poison()
        return 0
    for name in ("nexus.physics", "nexus._core.hash"):
        place = importlib.import_module(name).__file__
        assert place is not None
        if not Path(place).is_relative_to(sys.argv[1]):
            print(f"{place} is not the sanitized module in {sys.argv[1]}")
            return 1
    done = subprocess.run([sys.executable, __file__, "read"], capture_output=True, check=False)
    if done.returncode == 0 or b"use-after-poison" not in done.stderr:
        print(f"a kernel read poisoned memory and nobody noticed: {done.stderr.decode()}")
        return 1
    print("canary: a read of poisoned memory ends the process, as it must")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The runtime of native fibers: the C sources that a program is built with, and how."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from nexus._core import probe
from nexus.errors import AbsentError

__all__ = ["NativeRuntime", "native_runtime"]

_KERNELS = ["nx_blake3", "nx_blake3_simd", "nx_checkpoint", "nx_checkpoint_slot"]
_KERNELS += ["nx_fiber", "nx_simd"]
_OWN = ["nexus_fiber.c", "nexus_switch.S"]
_WITHOUT_LIBC = ["nexus_start.c", "nx_memory.c"]


class NativeRuntime(NamedTuple):
    """What `cc` needs to build a native fiber.

    Attributes:
        include: the folders of the headers; `nexus_fiber.h` is the one to include.
        sources: to compile and link along with the program.
        start: to compile and link, too, where the program has no C library.
        flags: for all of them, and for the program.
    """

    include: tuple[Path, ...]
    sources: tuple[Path, ...]
    start: tuple[Path, ...]
    flags: tuple[str, ...]


def native_runtime(machine: str = "x86_64") -> NativeRuntime:
    """Where the runtime is, and the flags for a machine as `platform.machine()` names it.

    Raises:
        AbsentError: this installation has no runtime.
    """
    core = Path(probe.__file__).parent
    runtime = core / "runtime"
    # A wheel has all in one folder, a source tree has the kernels in two others.
    places = [runtime, core / "csrc", core / "include"]
    include = tuple(place for place in (runtime, core / "include") if place.is_dir())

    def find(name: str) -> Path:
        for place in places:
            if (place / name).is_file():
                return place / name
        raise AbsentError(
            f"the runtime of native fibers lacks {name}", hint="install the wheel again"
        )

    sources = [find(name) for name in _OWN] + [find(f"{name}.c") for name in _KERNELS]
    flags = ["-std=c17", "-static", "-no-pie", "-fno-pie", "-fno-stack-protector"]
    flags += ["-fno-strict-aliasing", "-D_GNU_SOURCE"]
    if machine == "x86_64":
        flags += ["-fcf-protection=none"]
    if machine == "aarch64":
        flags += ["-mbranch-protection=none", "-mno-outline-atomics"]
    start = [find(name) for name in _WITHOUT_LIBC]
    return NativeRuntime(include, tuple(sources), tuple(start), tuple(flags))

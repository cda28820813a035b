"""Writes nexus/physics/syscalls.tsv from the kernel headers that come with the ziglang wheel.

A syscall's number is a fact of the kernel's interface; nothing else is taken from the headers.
Run it after a new ziglang release: python tools/generate_syscalls.py
"""

import re
import subprocess
import sys
from pathlib import Path

MACHINES = ("x86_64", "aarch64", "riscv64")
TARGET = Path(__file__).parents[1] / "nexus" / "physics" / "syscalls.tsv"


def macros(machine: str, header: str) -> str:
    """What the preprocessor knows after the header, as #define lines."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl"]
    done = subprocess.run(
        [*command, "-E", "-dM", "-x", "c", "-"],
        input=f"#include <{header}>\n",
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def numbers(machine: str) -> dict[str, int]:
    """The syscalls of a machine; names that stand for another one are left out."""
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", macros(machine, "asm/unistd.h"), re.M)
    return {name: int(number) for name, number in found if name != "syscalls"}


def main() -> None:
    """Write the table, sorted by name."""
    version = macros("x86_64", "linux/version.h")
    major, minor = (
        re.search(rf"LINUX_VERSION_{part} (\d+)", version)[1] for part in ("MAJOR", "PATCHLEVEL")
    )
    tables = [numbers(machine) for machine in MACHINES]
    lines = [
        f"# Linux {major}.{minor}; written by tools/generate_syscalls.py",
        "\t".join(("name", *MACHINES)),
    ]
    for name in sorted(set().union(*tables)):
        lines.append("\t".join((name, *(str(table.get(name, "-")) for table in tables))))
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{TARGET}: {len(lines) - 2} names")


main()

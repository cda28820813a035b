"""Instruction budgets: callgrind counts one function of each native test program.

The count of one function repeats exactly on one compiler and does not care how busy the machine
is, which no clock can say. A kernel that needs more than its budget fails; one that needs less by
more than the slack fails too, so that budgets stay close to the truth.

    python bench/budgets.py FOLDER      compare, FOLDER holds the native test programs
    python bench/budgets.py FOLDER -u   write what was counted into budgets.toml
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

BUDGETS = Path(__file__).with_name("budgets.toml")
SLACK = 0.05
SKIPPED = 77


def count(program: Path, function: str, simd: str | None) -> int:
    """Instructions executed inside one function, with all it calls."""
    command = [
        "valgrind", "--tool=callgrind", f"--toggle-collect={function}",
        "--callgrind-out-file=/dev/null", str(program), "bench",
    ]  # fmt: skip
    environment = os.environ | ({"NEXUS_SIMD": simd} if simd else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    match = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or match is None or match[1] == "0":
        sys.exit(f"cannot count {function} of {program.name}:\n{done.stderr}{done.stdout}")
    return int(match[1])


def main() -> int:
    """Compare or update all budgets; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the native test programs are")
    parser.add_argument("-u", "--update", action="store_true", help="write budgets.toml")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("instruction budgets not checked: valgrind is missing (apt-get install valgrind)")
        return SKIPPED
    text = BUDGETS.read_text()
    wrong = 0
    for name, budget in tomllib.loads(text).items():
        program = arguments.folder / budget["program"]
        found = count(program, budget["function"], budget.get("simd"))
        change = found / budget["instructions"] - 1
        state = "ok" if abs(change) <= SLACK else "over" if change > 0 else "under"
        wrong += state != "ok"
        per_item = found / budget["items"]
        print(
            f"{state:5} {name:28} {found:10} instructions, {per_item:9.2f} an item, {change:+.1%}"
        )
        if arguments.update:
            section = text.index(f"[{name}]")
            head, tail = text[:section], text[section:]
            text = head + re.sub(r"instructions = \d+", f"instructions = {found}", tail, count=1)
    if arguments.update:
        BUDGETS.write_text(text)
        return 0
    if wrong:
        print(f"{wrong} kernels left their budget; if the change is meant, update with -u")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

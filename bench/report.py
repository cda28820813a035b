"""Run all benchmark scripts one after the other and write bench/RESULTS.md from what they print.

python bench/report.py                all scripts
python bench/report.py ring filter    only these; the other sections of the file stay
python bench/report.py --rounds 9     passed on to the scripts
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"

HEAD = """# Results

Written by `./dev bench`. Each section is one script, run alone; every ratio is of two medians from
the same interleaved rounds of one run. Nanoseconds belong to the machine that a section names, with
other programs on its CPUs, and are there to make the ratios plausible.

"""


def machine() -> str:
    """What the figures were measured on, in one line."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    name = model[1] if model else platform.machine()
    return (
        f"Machine: {name}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
        f"Python {platform.python_version()}."
    )


def section(name: str, record: dict) -> str:
    """The Markdown of one script's result."""
    lines = [f"## {record['subject']}", "", f"Command: `./dev bench {name}`. {machine()}", ""]
    lines += ["| bar | ours | beside | ratio | at most | verdict |", "|---|---|---|---|---|---|"]
    for bar in record["bars"]:
        value = "-" if bar["ratio"] is None else f"{bar['ratio']:.3f}"
        cells = [bar["id"], bar["ours"], bar["peer"], value, f"{bar['most']:g}", bar["state"]]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| case | median ns | fastest ns |", "|---|---|---|"]
    for case, times in record["cases"].items():
        lines.append(f"| {case} | {times['median_ns']:.2f} | {times['min_ns']:.2f} |")
    for peer in record.get("missing", []):
        lines.append(f"\nNot installed, so not compared: {peer}.")
    return "\n".join(lines) + "\n"


def sections() -> dict[str, str]:
    """The sections the file has already, by the name of their script."""
    if not RESULTS.exists():
        return {}
    found = re.findall(r"^(## .*?)(?=^## |\Z)", RESULTS.read_text(), re.M | re.S)
    named = ((re.search(r"`\./dev bench (\w+)`", text), text) for text in found)
    return {match[1]: text.strip() + "\n" for match, text in named if match}


def main() -> int:
    """Run what was asked for; the exit code is 1 when a bar was missed or a script failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", nargs="*", help="names of scripts without bench_ and .py")
    arguments, rest = parser.parse_known_args()
    everything = sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))
    unknown = set(arguments.subjects) - set(everything)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(everything)}")
    done = sections()
    worst = 0
    for name in arguments.subjects or everything:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        script = HERE / f"bench_{name}.py"
        command = [sys.executable, str(script), "--json", *rest]
        result = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=False)
        if not result.stdout.strip():
            print(f"bench: {name} failed with exit code {result.returncode}", file=sys.stderr)
            worst = 1
            continue
        record = json.loads(result.stdout.strip().splitlines()[-1])
        done[name] = section(name, record)
        for bar in record["bars"]:
            value = "-" if bar["ratio"] is None else f"{bar['ratio']:.3f}"
            print(f"  {bar['state']:12} {bar['id']:4} {value} (bar {bar['most']:g}) {bar['ours']}")
        worst |= any(bar["state"] != "met" for bar in record["bars"])
        RESULTS.write_text(HEAD + "\n".join(done[key] for key in sorted(done)))
    return worst


if __name__ == "__main__":
    sys.exit(main())

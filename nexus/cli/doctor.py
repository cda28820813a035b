"""`nexus doctor`: what this host offers, what each gap costs, and how to close it."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from dataclasses import asdict

from nexus.cli.output import Output
from nexus.physics.host import findings


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the findings; a gap is not a failure, so the exit code is 0."""
    found = list(findings())
    counts = {state: sum(f.state == state for f in found) for state in ("ok", "limited", "absent")}
    if arguments.json:
        host = {
            "kernel": platform.release(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "root": os.geteuid() == 0,
        }
        items = [asdict(finding) for finding in found]
        output.document("doctor", {"host": host, "items": items, "counts": counts})
        return 0
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    output.line(
        f"Linux {platform.release()} on {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, as {who}"
    )
    output.line()
    output.table([(finding.state, finding.name, finding.detail) for finding in found])
    gaps = [finding for finding in found if finding.state != "ok"]
    if gaps:
        output.line()
        output.line("what the gaps cost, and how to close them:")
        for finding in gaps:
            output.line(f"  {finding.name}: {finding.cost}")
            output.line(f"    {output.paint('hint')}: {finding.remedy}")
    output.line()
    output.line(", ".join(f"{n} {state}" for state, n in counts.items()))
    sys.stdout.flush()
    return 0

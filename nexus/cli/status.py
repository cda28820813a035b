"""`nexus status`: whether a node is up, and how its fibers are."""

from __future__ import annotations

import argparse
import time

from nexus.cli.events import features_text
from nexus.cli.fiber_text import FIBER_HEADS, fiber_record, fiber_row
from nexus.cli.node_client import connect
from nexus.cli.output import Output

__all__ = ["run"]


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the status of a node that is up."""
    with connect(arguments) as node:
        head = node.table.head()
        boot, runtime = node.table.features()
        fibers = node.table.fibers()
        up_s = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - head.start_ns) / 1e9
        if output.json:
            output.document(
                "status",
                {
                    "node": str(node.directory.path),
                    "state": head.state.name.lower(),
                    "pid": head.pid,
                    "up_s": round(up_s, 3),
                    "start_wall_ns": head.start_wall_ns,
                    "features": {"boot": boot, "runtime": runtime},
                    "events": head.newest,
                    "wakes": head.wakes,
                    "phoenix": head.phoenix,
                    "repairs": head.repairs,
                    "audits": head.audits,
                    "beb_generation": head.generation,
                    "beat_ns": head.beat_ns,
                    "fibers": [fiber_record(fiber) for fiber in fibers],
                },
            )
            return 0
        output.line(f"node      {node.directory.path}")
        output.line(f"state     {head.state.name.lower()}, for {up_s:.1f} s, pid {head.pid}")
        output.line(f"features  {features_text(boot | runtime)}")
        output.line(
            f"so far    {head.newest} events, {head.wakes} wake-ups of the supervisor, "
            f"{head.phoenix} times Phoenix, {head.repairs} repairs by vote"
        )
        output.line()
        output.table([FIBER_HEADS, *(fiber_row(fiber) for fiber in fibers)])
    return 0

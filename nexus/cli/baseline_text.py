"""What L1 has learned of a fiber, as a table for people and as records for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nexus.cli.output import Output
from nexus.physics.baselines import read_baselines
from nexus.seams.baselines import Learned, Metric
from nexus.seams.supervisor import Feature, FiberEntry, FiberFlag, FiberState, SystemTable

__all__ = ["baseline_records", "metric_value", "tell_baselines"]

_SIGMA = 3.0
_HEADS = ("metric", "channel", "samples", "normal", "found")


def metric_value(metric: Metric, value: float) -> float:
    """A value in the units that its name says, not below 0."""
    return max(0.0, math.expm1(value) if metric.is_logarithm else value)


def baseline_records(table: SystemTable, path: Path, fiber: FiberEntry) -> list[dict[str, object]]:
    """The baselines of a fiber's present image.

    Args:
        table: of the node.
        path: where L1 shows what it has learned.
        fiber: whose.
    """
    learned = read_baselines(path, table.head().start_ns)
    return [_record(one) for one in learned if (one.fiber, one.image) == (fiber.id, fiber.image)]


def _record(one: Learned) -> dict[str, object]:
    spread = _SIGMA * one.deviation
    return {
        "metric": one.metric.name.lower(),
        "channel": one.channel,
        "samples": one.samples,
        "locked": one.locked,
        "mean": metric_value(one.metric, one.mean),
        "low": metric_value(one.metric, one.mean - spread),
        "high": metric_value(one.metric, one.mean + spread),
        "findings": one.findings,
    }


def _row(record: dict[str, object]) -> tuple[str, ...]:
    state = f"{record['samples']} {'locked' if record['locked'] else 'so far'}"
    normal = f"{record['low']:.4g} to {record['high']:.4g}"
    return str(record["metric"]), str(record["channel"]), state, normal, str(record["findings"])


def tell_baselines(
    table: SystemTable, fiber: FiberEntry, records: Sequence[dict[str, object]], output: Output
) -> None:
    """A table of the baselines, and why there is none or not all of them."""
    boot, runtime = table.features()
    output.line()
    if not (boot | runtime) & Feature.BASELINE:
        output.line('no baselines: the feature is off; survivability "hardened" has it')
        return
    if fiber.flags & FiberFlag.L1:
        return
    output.table([_HEADS, *map(_row, records)] if records else [("no baselines yet",)])
    if fiber.state == FiberState.ALIVE and not fiber.flags & FiberFlag.COUNTED:
        output.line("without calls_s and reads_part: its reads and writes are not counted here")
        output.line("  see io-accounting in nexus doctor")

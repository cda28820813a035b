"""A fiber that reads the machine's own telemetry and sends it on, ten times a second."""

from __future__ import annotations

import math
import time
from pathlib import Path

from nexus.fiber import Context, run
from nexus.membrane.fibers.sample import Sample

RATE_S = 0.1
_THERMAL = Path("/sys/devices/virtual/thermal")


def _cpu() -> tuple[int, int]:
    """Ticks of all CPUs: all, and those that were idle."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return sum(ticks), ticks[3] + ticks[4]


def _free() -> float:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return sizes["MemAvailable"] / sizes["MemTotal"]


def _celsius() -> float:
    found = []
    for zone in _THERMAL.glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue  # a zone that is switched off has no temperature
    return max(found, default=math.nan)


def pulse(context: Context) -> int:
    """Send a sample each cycle; one for which there is no room is dropped."""
    channel = context.channel("telemetry", Sample)
    total, idle = _cpu()
    for _ in context.periodic(RATE_S):
        total_now, idle_now = _cpu()
        ticks = max(1, total_now - total)
        busy = 1 - (idle_now - idle) / ticks
        total, idle = total_now, idle_now
        load = float(Path("/proc/loadavg").read_text().split()[0])
        channel.try_send(Sample(time.monotonic_ns(), busy, load, _free(), _celsius()))
    return 0


if __name__ == "__main__":
    run(pulse)

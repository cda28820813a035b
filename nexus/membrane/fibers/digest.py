"""A fiber that summarises telemetry, and saves its summary so that a restart goes on from it."""

from __future__ import annotations

import json
import math
from typing import Any

from nexus.fiber import Context, run
from nexus.membrane.fibers.sample import Sample

SAVE_EVERY = 10
TELL_EVERY = 100


def digest(context: Context) -> int:
    """Add samples up; save every second, and print a line every ten."""
    channel = context.channel("telemetry", Sample)
    state: dict[str, Any] = {"samples": 0, "busy": 0.0, "free_min": 1.0, "celsius_max": None}
    if context.restored is not None:
        state = json.loads(context.restored)
        print(f"life {context.life}: goes on after {state['samples']} samples", flush=True)
    for sample in channel:
        count = state["samples"] + 1
        state["samples"] = count
        state["busy"] += (sample.busy - state["busy"]) / count
        state["free_min"] = min(state["free_min"], sample.free)
        if not math.isnan(sample.celsius):
            state["celsius_max"] = max(state["celsius_max"] or -273.15, sample.celsius)
        if count % SAVE_EVERY == 0:
            context.checkpoint(json.dumps(state).encode())
        if count % TELL_EVERY == 0:
            print(
                f"{count} samples: cpu {state['busy']:.1%} busy on average, "
                f"at least {state['free_min']:.1%} of memory available",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    run(digest)

"""What the terminal shows: the documents that `nexus status --json` prints, read in a subprocess.

The terminal knows nothing of the node's insides, so it cannot disturb the node, and shows nothing
that a program could not have.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

__all__ = ["COLUMNS", "read_status", "rows", "title"]

COLUMNS = ("fiber", "state", "lives", "restarts", "tier", "strikes", "bursts", "saved", "pid")
TIMEOUT_S = 10


def read_status(node: str | None) -> dict[str, Any]:
    """The status document, or the error document that came instead."""
    words = [sys.executable, "-m", "nexus.cli", "status", "--json"]
    words += ["--node", node] if node else []
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        found: dict[str, Any] = json.loads(done.stdout or done.stderr.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"type": "error", "message": f"nexus status did not answer: {error}"}
    return found


def title(status: dict[str, Any]) -> str:
    """The line above the table."""
    if status["type"] == "error":
        return str(status["message"])
    return (
        f"{status['node']}  {status['state']} for {status['up_s']:.0f} s  "
        f"{status['events']} events  {status['wakes']} wake-ups"
    )


def rows(status: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of `COLUMNS`, one row a fiber."""
    found: list[tuple[str, ...]] = []
    for fiber in status.get("fibers", []):
        flags = fiber["flags"]
        budget = "budget" in flags
        found.append(
            (
                fiber["name"],
                fiber["state"],
                str(fiber["lives"]),
                str(fiber["restarts"]),
                fiber["tier"] if budget else "-",
                str(fiber["strikes"]) if budget else "-",
                str(fiber["bursts"]) if budget else "-",
                str(fiber["checkpoint"]) if "checkpoints" in flags else "-",
                str(fiber["pid"] or "-"),
            )
        )
    return found

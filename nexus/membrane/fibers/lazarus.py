"""A fiber that crashes now and then, and knows from its checkpoint how often it has."""

from __future__ import annotations

import os
import random
import signal
import time

from nexus.fiber import Context, run

LIFE_S = (20.0, 40.0)


def lazarus(context: Context) -> int:
    """Live for a while, then die by a fault as a broken program would."""
    deaths = int(context.restored or b"0")
    print(f"life {context.life}: died {deaths} times before", flush=True)
    context.checkpoint(str(deaths + 1).encode())
    context.sleep_until(time.monotonic() + random.uniform(*LIFE_S))  # noqa: S311 - no secret
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


if __name__ == "__main__":
    run(lazarus)

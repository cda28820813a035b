"""A fiber that is killed in each of its lives, and the few lines of a supervisor that this takes.

Run as it is, the file supervises; as a fiber it counts what comes through a channel.
"""

import os
import struct
import subprocess
import sys
from typing import NamedTuple

import nexus.fiber
from nexus.fiber import U64
from nexus.physics import CheckpointSlot, Ring

LIVES = 3


class Count(NamedTuple):
    life: U64
    total: U64


def main(context: nexus.fiber.Context) -> None:
    """The fiber: saves before it tells."""
    total = int.from_bytes(context.restored or b"", "little")
    counts = context.channel("counts", Count)
    for item in context.channel("items"):
        total += len(item)
        context.checkpoint(total.to_bytes(8, "little"))
        counts.send(Count(context.life, total))


def start(
    slot: CheckpointSlot, items: Ring, counts: Ring, life: int, floor: int
) -> subprocess.Popen:
    """One life; a page that says 0 as its number would make it wait for another."""
    page = os.memfd_create("life")
    os.write(page, struct.pack("<IIQQQI28x", life, 0, 0, floor, 0, 0))
    given = {"life": page, "checkpoint": slot.fd, "read:items": items.fd, "write:counts": counts.fd}
    words = " ".join(f"{name}={number}" for name, number in given.items())
    process = subprocess.Popen(
        [sys.executable, __file__],
        env={**os.environ, "NEXUS_FIBER": words},
        pass_fds=list(given.values()),
    )
    os.close(page)
    return process


def supervise() -> None:
    """Start, kill, go on."""
    with CheckpointSlot.create() as slot, Ring.create(4096) as items, Ring.create(4096) as counts:
        floor = 0
        for life in range(1, LIVES + 1):
            process = start(slot, items, counts, life, floor)
            for text in (b"one", b"two", b"three"):
                items.send(text)
                count = Count(*struct.unpack("<QQ", counts.recv(60)))
            print(f"life {count.life}: {count.total} bytes seen")
            assert count == (life, 11 * life)
            process.kill()
            process.wait()
            with CheckpointSlot.attach(slot.fd) as seen:
                floor = seen.sequence


if __name__ == "__main__":
    if "NEXUS_FIBER" in os.environ:
        nexus.fiber.run(main)
    supervise()

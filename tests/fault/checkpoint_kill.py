"""Kills a saving process again and again, and counts the acknowledged checkpoints that are lost.

    python tests/fault/checkpoint_kill.py --kills 2000

Each child attaches the slot, as a restarted fiber does, and saves without pause; it is killed
within microseconds of the start of one of its saves, so that most kills come in the middle of one
and many children never acknowledge any (a double fault). `--order naive` writes copy A, then B,
in Python, and kills itself at a random step, so that no luck with timing is needed: the control
that must lose images. Prints one JSON line; exit code 1 if any was lost.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Callable

from nexus.physics import CheckpointSlot, blake3

COPY = 41288
STARTED, ACKNOWLEDGED, READY = 0, 8, 16  # offsets in the shared notes


def spin(nanoseconds: int) -> None:
    """Waits without sleeping."""
    end = time.perf_counter_ns() + nanoseconds
    while time.perf_counter_ns() < end:
        pass


def content(sequence: int) -> bytes:
    """A blob that tells which save it belongs to."""
    return sequence.to_bytes(8, "little") * 4096


def naive_saver(fd: int, steps: int) -> Callable[[bytes], int]:
    """Always copy A, then copy B, with the layout of the specification; dies after `steps`."""
    memory = mmap.mmap(fd, 2 * COPY)
    with CheckpointSlot.attach(fd) as slot:
        last = slot.sequence

    def save(blob: bytes) -> int:
        nonlocal last, steps
        last += 1
        head = struct.pack("<QQIHH", last, 0, 0, 0, len(blob))
        body = head + bytes(272 + 8192) + blob
        for offset in (0, COPY):
            memory[offset + 32 : offset + 40] = bytes(8)
            for at in range(40, COPY, 4096):
                part = body[at - 32 : min(at + 4096, COPY) - 32]
                memory[offset + at : offset + at + len(part)] = part
                steps -= 1
                if steps == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            memory[offset : offset + 32] = blake3(body)
            memory[offset + 32 : offset + 40] = body[:8]
        return last

    return save


def child(fd: int, notes: mmap.mmap, order: str, steps: int) -> None:
    """Saves until it is killed."""
    if order == "naive":
        save, last = naive_saver(fd, steps), 0
        with CheckpointSlot.attach(fd) as slot:
            last = slot.sequence
    else:
        slot = CheckpointSlot.attach(fd)
        save, last = slot.save, slot.sequence
    # A pause before the first save, so that the parent's signal can arrive in that save.
    struct.pack_into("<Q", notes, READY, 1)
    spin(40_000)
    started = 0
    while True:
        blob = content(last + 1)
        started += 1
        struct.pack_into("<Q", notes, STARTED, started)
        last = save(blob)
        struct.pack_into("<Q", notes, ACKNOWLEDGED, last)


def campaign(kills: int, order: str, seed: int) -> dict[str, object]:
    """Runs the kills; returns what happened."""
    generator = random.Random(seed)
    notes = mmap.mmap(-1, 4096)
    slot = CheckpointSlot.create()
    lost = torn = unacknowledged = 0
    for _ in range(kills):
        struct.pack_into("<Q", notes, STARTED, 0)
        struct.pack_into("<Q", notes, READY, 0)
        before = struct.unpack_from("<Q", notes, ACKNOWLEDGED)[0]
        wanted = generator.choice([0, 0, 0, 1, 2, 5])  # 0: aim at the first save
        delay = generator.randrange(25_000 if wanted else 100_000)
        steps = generator.randrange(1, 45)  # a naive save has 22
        pid = os.fork()
        if pid == 0:
            try:
                child(slot.fd, notes, order, steps)
            finally:
                os._exit(70)
        if order != "naive":
            note = STARTED if wanted else READY
            while struct.unpack_from("<Q", notes, note)[0] < max(wanted, 1):
                pass
            spin(delay)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), f"the child ended by itself: {status}"
        acknowledged = struct.unpack_from("<Q", notes, ACKNOWLEDGED)[0]
        unacknowledged += acknowledged == before
        torn += slot.verify() != ("valid", "valid")
        found = slot.restore(floor=acknowledged)
        if found is None:
            lost += acknowledged > 0
            slot.zero()
            struct.pack_into("<Q", notes, ACKNOWLEDGED, 0)
        else:
            assert found.blob == content(found.sequence), "a blob of another save"
    return {
        "order": order,
        "seed": seed,
        "kills": kills,
        "torn": torn,
        "without_acknowledgement": unacknowledged,
        "lost": lost,
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--order", choices=["slot", "naive"], default="slot")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    result = campaign(arguments.kills, arguments.order, seed)
    print(json.dumps(result))
    return 0 if result["lost"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

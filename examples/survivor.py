"""A worker that is killed again and again, and never loses what it acknowledged.

The worker counts, saves its count in a checkpoint after every step, and reports it through a
ring. The parent kills it at no particular moment, starts the next one, and checks that each
begins at least where its predecessor's last report was.
"""

import os
import signal

from nexus.physics import CheckpointSlot, Ring

LIVES = 5
REPORTS_PER_LIFE = 40


def work(slot: CheckpointSlot, ring: Ring) -> None:
    """Count for ever, from the checkpoint on."""
    found = slot.restore()
    count = int.from_bytes(found.blob, "little") if found else 0
    while True:
        count += 1
        slot.save(count.to_bytes(8, "little"))
        while not ring.put(count.to_bytes(8, "little")):
            os.sched_yield()


def main() -> None:
    """Start, kill and check each of the lives."""
    last = 0
    with CheckpointSlot.create() as slot, Ring.create(4096) as reports:
        for life in range(LIVES):
            child = os.fork()
            if child == 0:
                with CheckpointSlot.attach(slot.fd) as mine, Ring.attach(reports.fd) as out:
                    work(mine, out)
            first = None
            for _ in range(REPORTS_PER_LIFE):
                while (record := reports.get()) is None:
                    reports.wait(1.0)
                count = int.from_bytes(record, "little")
                first = count if first is None else first
                assert count > last, "an acknowledged count was lost"
                last = count
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            print(f"life {life}: first report {first}, killed after {last}")
    print("nothing that was reported was lost")


if __name__ == "__main__":
    main()

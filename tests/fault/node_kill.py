"""Kills one kind of process of a real node at random moments, and counts what should not happen.

    python tests/fault/node_kill.py --who fiber --count 1000 --seed 1 --json

fiber     lives, also those that wait or start: another life comes, never two at a time, and no
          saved checkpoint is lost
template  what lives are cloned from; warden: what is above each life, also those that wait
l1        SIGKILL, every twentieth time SIGSTOP: fibers go on untouched, L1 comes back, and the
          ledger has every event or says how many it has not
page      L1's page is filled with noise and with verdicts that nobody may obey
l0        while it starts, works, restarts fibers or shuts down: nothing is left running, and the
          next boot finds error buffer and ledger whole

Exit code 1 if anything went wrong. `--canary` breaks what the rig must notice: it gives a fiber a
second life (fiber), lets a process survive (l0), flips a byte of the ledger (l1), or has L0 obey
(page).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from node_rig import (
    BOUND_S,
    HANDLES,
    Rig,
    below,
    children,
    is_first,
    resources,
    wait_until,
)

from nexus.logic.ledger import RECORD_BYTES, verify
from nexus.physics.beb import read_error_buffer
from nexus.physics.ledger import FolderStore, ed25519_verify
from nexus.seams.events import EventKind
from nexus.seams.supervisor import FiberState, Operation, Request

STOP_EVERY = 20
OBSERVER_HANDLE = 5
QUIET_S = 3.0
# L1 has so long to its first beat; one that is stopped before it is missed no sooner.
FIRST_BEAT_S = 30.0


class Tally:
    """What a campaign came to."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.facts: dict[str, object] = {}
        self._began = time.monotonic()

    def check(self, good: object, what: str) -> bool:
        """Note what went wrong."""
        if not good and len(self.wrong) < 20:
            self.wrong.append(what)
        return bool(good)

    def tell(self, what: dict[str, object], *, as_json: bool) -> int:
        """Print all of it; the exit code."""
        facts = {**what, **self.facts, "seconds": round(time.monotonic() - self._began, 1)}
        if as_json:
            print(json.dumps({**facts, "wrong": self.wrong}))
        else:
            for name, value in facts.items():
                print(f"  {name}: {value}")
            print("\n".join(self.wrong) or "  nothing went wrong")
        return 1 if self.wrong else 0


def shoot(rig: Rig, pid: int, number: int = signal.SIGKILL) -> bool:
    """Signal a process of the node; false when it is gone, or the number is another's by now."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if rig.mark.encode() not in Path(f"/proc/{pid}/environ").read_bytes():
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def moment(chance: random.Random) -> None:
    """Wait for a random time: often within a start, sometimes long into a life."""
    time.sleep(chance.uniform(0, chance.choice((0.002, 0.01, 0.05, 0.3))))


def check_fibers(rig: Rig, tally: Tally) -> None:
    """All work, and none ever met another life of itself."""
    for name, reports in rig.reports.items():
        before = reports.worked
        tally.check(wait_until(lambda r=reports, b=before: r.worked > b), f"{name} does not work")
        tally.check(not reports.clashes, str(reports.clashes[:3]))
        tally.check(not reports.lost, str(reports.lost[:3]))
        tally.facts[f"{name}, lives that worked"] = reports.lives
        tally.facts[f"{name}, of these warm"] = reports.warm


def settled(rig: Rig) -> dict[str, int]:
    """What the supervisor holds once nothing changes any more."""
    before, since = resources(rig.pid), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.05)
        now = resources(rig.pid)
        if now != before:
            before, since = now, time.monotonic()
    return before


def double(rig: Rig) -> None:
    """Canary: another life of the native fiber, from the same program, with the same files."""
    page = rig.folder / "page"
    page.write_bytes((99).to_bytes(4, "little"))
    names = {"life": page} | {f"open:{one}": rig.folder / f"pulse0.{one}" for one in HANDLES}
    opened = {name: os.open(path, os.O_RDWR) for name, path in names.items()}
    words = " ".join(f"{name}={number}" for name, number in opened.items())
    clashes = rig.reports["pulse0"].clashes
    wait_until(lambda: rig.is_up("pulse0"))
    time.sleep(0.1)
    child = subprocess.Popen(
        [rig.folder / "pulse"], env={"NEXUS_FIBER": words}, pass_fds=opened.values()
    )
    wait_until(lambda: clashes, QUIET_S)
    child.kill()
    child.wait()
    for number in opened.values():
        os.close(number)


def victims(rig: Rig, who: str, chance: random.Random) -> list[int]:
    """Processes of this kind."""
    first = children(rig.pid)
    wardens = [pid for pid in first if is_first(pid)]
    if who == "warden":
        return wardens
    if who == "template":
        return [pid for pid in first if pid not in wardens]
    if chance.random() < 0.6:
        return [one.pid for one in rig.table.fibers() if one.pid > 0]
    return [pid for warden in wardens for pid in children(warden)]


def kill_below(arguments: argparse.Namespace, folder: Path, tally: Tally) -> None:
    """Fibers, templates, wardens."""
    chance = random.Random(arguments.seed)
    rig = Rig(folder, ["pulse", "saver"])
    slowest = 0.0
    with rig.plans() as plans:
        rig.boot(plans)
        check_fibers(rig, tally)
        before = settled(rig)
        killed = 0
        while killed < arguments.count and not tally.wrong:
            moment(chance)
            found = victims(rig, arguments.who, chance)
            if arguments.who == "template" and not found:
                # A life that is on needs none; the next one has one made.
                found = victims(rig, "warden", chance)
            pid = chance.choice(found) if found else 0
            began = time.monotonic()
            if pid == 0 or not shoot(rig, pid):
                continue
            killed += 1
            for name in rig.places:
                back = wait_until(lambda n=name, p=pid: rig.is_up(n) and rig.entry(n).pid != p)
                tally.check(back, f"{name} did not come back after {killed} kills: "
                                  f"{rig.entry(name).state.name}")  # fmt: skip
            slowest = max(slowest, time.monotonic() - began)
            if arguments.canary and killed == 1:
                double(rig)
        tally.facts["killed"] = killed
        tally.facts["slowest return, ms"] = round(slowest * 1e3, 1)
        check_fibers(rig, tally)
        for name in rig.places:
            tally.check(rig.entry(name).state == FiberState.ALIVE, f"{name} is not alive")
        after = settled(rig)
        tally.facts["before"], tally.facts["after"] = before, after
        for what in ("descriptors", "maps", "processes"):
            tally.check(after[what] <= before[what], f"{what}: {before[what]} to {after[what]}")
        tally.check(rig.shutdown() == 0, "the supervisor failed at its end")
        tally.check(wait_until(lambda: not rig.left()), f"left running: {rig.left()}")


def check_ledger(rig: Rig, tally: Tally, newest: int | None, *, flip: bool = False) -> None:
    """The chain is whole; with `newest`: every event up to it is there, or counted as lost."""
    store = FolderStore(rig.directory.ledger)
    if flip:
        path = rig.directory.ledger / store.names()[0]
        data = bytearray(path.read_bytes())
        data[-RECORD_BYTES - 64] ^= 1
        path.write_bytes(data)
    proof = verify(store, None, ed25519_verify)
    tally.check(proof.bad is None, f"the ledger: {proof.bad}")
    tally.facts["ledger"] = {"records": proof.records, "events": proof.events, "lost": proof.lost}
    if newest is not None:
        known = proof.events + proof.lost
        tally.check(known >= newest, f"{newest} events, of {known} the ledger knows")
    store.close()


def kill_l1(arguments: argparse.Namespace, folder: Path, tally: Tally) -> None:
    """SIGKILL and SIGSTOP of L1."""
    chance = random.Random(arguments.seed)
    rig = Rig(folder, ["pulse", "saver"], observer=True)
    with rig.plans() as plans:
        rig.boot(plans)
        check_fibers(rig, tally)
        pids = {name: rig.entry(name).pid for name in rig.reports}
        killed = stopped = 0
        while killed + stopped < arguments.count and not tally.wrong:
            moment(chance)
            counts = {name: rig.count(name) for name in pids}
            stop = (killed + stopped) % STOP_EVERY == STOP_EVERY - 1
            if stop:
                # Before its first beat it has thirty seconds, in which it may load as it likes.
                wait_until(lambda: rig.l1().pid and rig.table.head().beat_ns > rig.l1().begin_ns)
            pid = rig.l1().pid
            if pid == 0 or not shoot(rig, pid, signal.SIGSTOP if stop else signal.SIGKILL):
                continue
            stopped, killed = stopped + stop, killed + (not stop)
            bound = BOUND_S + (FIRST_BEAT_S if stop else 0)
            back = wait_until(lambda p=pid: rig.l1().pid not in (0, p), bound)
            tally.check(back, f"L1 did not come back after {killed} + {stopped}: {rig.l1()}")
            for name, before in counts.items():
                tally.check(rig.entry(name).pid == pids[name], f"{name} did not go on")
                tally.check(wait_until(lambda n=name, b=before: rig.count(n) > b), f"{name} stands")
        time.sleep(1)
        tally.check(rig.table.head().phoenix == 0, "everything was begun anew")
        tally.facts["killed"], tally.facts["stopped"] = killed, stopped
        lost = sum(e.kind == EventKind.HEARTBEAT_LOST for e in rig.table.events(0).events)
        tally.facts["heartbeats called lost, of the last 1,024 events"] = lost
        newest = rig.table.head().newest
        tally.check(rig.shutdown() == 0, "the supervisor failed at its end")
        check_fibers_stopped(rig, tally)
        check_ledger(rig, tally, newest, flip=arguments.canary)


def check_fibers_stopped(rig: Rig, tally: Tally) -> None:
    """Nothing is left of the node."""
    tally.check(wait_until(lambda: not rig.left()), f"left running: {rig.left()}")
    for reports in rig.reports.values():
        tally.check(not reports.clashes + reports.lost, str((reports.clashes, reports.lost)))


def noise(chance: random.Random, ids: list[int]) -> bytes:
    """A page that is garbage, or nearly a verdict: wrong in one thing each."""
    page = bytearray(chance.randbytes(4096))
    if chance.random() < 0.5:
        for number in range(64):
            values = [chance.choice(ids), number + 1, time.monotonic_ns(), 4, 1, 10000, 1, 0]
            broken = [(0, ids[0] + (1 << 33)), (0, 17), (0, 0), (1, 0), (2, 0), (2, 1 << 63),
                      (3, 0), (3, 6), (4, 0), (4, 2), (5, 4999), (5, 10001), (7, 1)]  # fmt: skip
            at, value = chance.choice(broken)
            values[at] = value
            struct.pack_into("<QQQBBHHH", page, 64 + 32 * number, *values)
    return bytes(page)


def corrupt_page(arguments: argparse.Namespace, folder: Path, tally: Tally) -> None:
    """Noise in L1's page, through its own descriptor."""
    chance = random.Random(arguments.seed)
    rig = Rig(folder, ["pulse", "saver"], observer=True, level="radiation")
    with rig.plans() as plans:
        rig.boot(plans)
        check_fibers(rig, tally)
        with Path(f"/proc/{rig.l1().pid}/fd/{OBSERVER_HANDLE}").open("r+b") as file:
            page = mmap.mmap(file.fileno(), 4096)
        ids = [rig.entry(name).id for name in rig.reports]
        pids = {name: rig.entry(name).pid for name in rig.reports}
        began, ticks = time.monotonic(), rig.table.head().wakes
        written = 0
        while time.monotonic() - began < QUIET_S or written < arguments.count:
            page[:] = noise(chance, ids)
            written += 1
        tally.facts["pages written"] = written
        tally.facts["wake-ups meanwhile"] = rig.table.head().wakes - ticks
        if arguments.canary:
            # A verdict counts for a second, which a look may miss: it is given again and again.
            until = time.monotonic() + QUIET_S
            while rig.entry("pulse0").pid == pids["pulse0"] and time.monotonic() < until:
                good = struct.pack("<QQQBBHHH", ids[0], 1, time.monotonic_ns(), 4, 1, 10000, 1, 0)
                page[64 : 64 + 64 * 32] = good * 64
                page[8:16] = time.monotonic_ns().to_bytes(8, "little")
                time.sleep(0.05)
        for name, pid in pids.items():
            tally.check(rig.entry(name).pid == pid, f"{name}: something was obeyed")
        check_fibers(rig, tally)
        tally.check(rig.shutdown() == 0, "the supervisor failed at its end")
        check_fibers_stopped(rig, tally)


@contextlib.contextmanager
def survivor(rig: Rig, wanted: bool) -> Iterator[None]:
    """Canary: a process that carries the mark and that nobody ends."""
    name, _, value = rig.mark.partition("=")
    child = subprocess.Popen(["sleep", "1000"], env={name: value, **os.environ}) if wanted else None
    try:
        yield
    finally:
        if child is not None:
            child.kill()
            child.wait()


def act_of_l0(rig: Rig, plans: dict[str, list[int]], chance: random.Random) -> str:
    """Bring the node to where its supervisor is killed."""
    act = chance.choice(("start", "work", "restart", "shutdown"))
    if act == "start":
        rig.spawn()
        rig.post(plans)
        time.sleep(chance.uniform(0, chance.choice((0.005, 0.02))))
        return act
    rig.boot(plans)
    moment(chance)
    if act == "restart":
        for _ in range(chance.randrange(1, 5)):
            found = [one.pid for one in rig.table.fibers() if one.pid > 0]
            if found:
                shoot(rig, chance.choice(found))
            time.sleep(chance.uniform(0, 0.005))
    if act == "shutdown":
        rig.control.post(Request(Operation.SHUTDOWN))
        time.sleep(chance.uniform(0, chance.choice((0.002, 0.02))))
    return act


def kill_l0(arguments: argparse.Namespace, folder: Path, tally: Tally) -> None:
    """SIGKILL of the supervisor; each boot looks at what the one before left."""
    chance = random.Random(arguments.seed)
    rig = Rig(folder, ["pulse", "saver"], observer=True)
    acts: dict[str, int] = {}
    slowest, old, generation = 0.0, 0, 0
    with rig.plans() as plans, survivor(rig, arguments.canary):
        for number in range(arguments.count):
            act = act_of_l0(rig, plans, chance)
            acts[act] = acts.get(act, 0) + 1
            known = below(rig.pid)
            rig.kill()
            began = time.monotonic()
            bound = 1.0 if arguments.canary else BOUND_S
            tally.check(wait_until(lambda: not rig.left(), bound),
                        f"{number}, {act}: left running: {rig.left()} of {known}")  # fmt: skip
            slowest = max(slowest, time.monotonic() - began)
            for reports in rig.reports.values():
                # What L0 had in memory is gone with it: the next boot begins cold.
                reports.forget()
                tally.check(not reports.clashes + reports.lost, str(vars(reports)))
            found = read_error_buffer(rig.directory.beb.read_bytes())
            tally.check(found.damaged == 0, f"{found.damaged} damaged records")
            grown, generation = found.generation - generation, found.generation
            # One that was killed at once may not have come to its error buffer.
            tally.check(grown == 1 or (grown == 0 and act == "start"), f"generation {generation}")
            old = sum(one.generation < found.generation for one in found.records)
            if number % 100 == 99:
                check_ledger(rig, tally, None)
            if tally.wrong:
                break
        tally.facts["killed"], tally.facts["while"] = sum(acts.values()), acts
        tally.facts["slowest end of all, ms"] = round(slowest * 1e3, 1)
        tally.facts["error buffer: generation, records of older ones"] = found.generation, old
        if not tally.wrong:
            rig.boot(plans)
            tally.check(rig.table.head().generation == found.generation + 1, "no new generation")
            tally.check(wait_until(lambda: rig.l1().pid > 0), "L1 is not there")
            check_fibers(rig, tally)
            time.sleep(1)
            tally.check(rig.shutdown() == 0, "the supervisor failed at its end")
            check_ledger(rig, tally, None)


CAMPAIGNS: dict[str, Callable[[argparse.Namespace, Path, Tally], None]] = {
    "fiber": kill_below,
    "template": kill_below,
    "warden": kill_below,
    "l1": kill_l1,
    "page": corrupt_page,
    "l0": kill_l0,
}


def main() -> int:
    """One campaign."""
    parser = argparse.ArgumentParser(description="kills processes of a node")
    parser.add_argument("--who", choices=sorted(CAMPAIGNS), required=True)
    parser.add_argument("--count", type=int, default=100, help="100")
    parser.add_argument("--seed", type=int, default=1, help="1")
    parser.add_argument("--canary", action="store_true", help="break something on purpose")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        CAMPAIGNS[arguments.who](arguments, Path(folder), tally)
    return tally.tell({"who": arguments.who, "seed": arguments.seed}, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())

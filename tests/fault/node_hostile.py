"""A real supervisor among hostile clients, and one that starts and forgets sixteen fibers at once.

    python tests/fault/node_hostile.py --what packets --count 20000 --seed 1 --json
    python tests/fault/node_hostile.py --what churn --count 500 --json

packets   random and nearly right packets of wrong sizes, with none to too many descriptors of
          pipes, files and memfds; connections that come, go, and never read. A good client is
          served all the while, and no descriptor, mapping or process stays.
churn     rounds of start, stop at a random moment, forget; sixteen fibers at a time. No start
          fails, and nothing stays.

Exit code 1 if anything went wrong. `--canary` keeps one descriptor open in the supervisor (packets:
a connection that stays; churn: a fiber that is not forgotten), and has starts fail (churn).
"""

from __future__ import annotations

import argparse
import array
import contextlib
import os
import random
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

from node_kill import Tally, settled
from node_rig import Rig, wait_until

from nexus.errors import NexusError
from nexus.logic.bkdl import Manifest, Policy, encode_plan
from nexus.logic.control import Control, FiberPlace
from nexus.physics.control import connect_node
from nexus.physics.supervisor import seal_plan
from nexus.seams.supervisor import ANY_SLOT, FIBERS_MAX, FiberState, Operation, Request

PACKET = struct.Struct("<HHIII6Q")
HOSTS = 3
SERVED_S = 5.0
USER, PID, IPC, NETWORK = 1 << 28, 1 << 29, 1 << 27, 1 << 30  # CLONE_NEW...
SPACES = (0, 0, USER | PID | IPC, USER | PID | IPC | NETWORK)
START_FAILED = 125  # the status of a fiber whose program was not reached
RESIDENT_MAX_KB = 2048
# What a hostile client of the node's own user may ask and mean it: nothing that ends the node or
# the good fiber. START and BEGIN are asked with plans that are not sound.
HARMLESS = (0, 1, 2, 3, 6, 7, 9, 10, 11, 12, 14, 99, 0x8001, 0xFFFF)


def handles(folder: Path) -> list[int]:
    """Descriptors of all that is no sealed plan, and of one that is sealed garbage."""
    first, second = os.pipe()
    (folder / "file").write_bytes(bytes(300))
    file = os.open(folder / "file", os.O_RDWR)
    memory = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 4096)
    loose, other = socket.socketpair()
    kinds = [first, second, file, memory, os.open("/dev/zero", os.O_RDWR), loose.detach()]
    return [*kinds, other.detach(), seal_plan(os.urandom(500)), seal_plan(b"NXUS" + bytes(200))]


def packet(chance: random.Random) -> bytes:
    """Noise of any size, or a request whose words are wild."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.choice((0, 1, 63, 64, 65, 128, 4096)))
    wild = [0, 1, 3, 16, 17, 64, 2**31, 2**32 - 1]
    words = [chance.choice((*wild, 2**63, 2**64 - 1, chance.getrandbits(64))) for _ in range(6)]
    slot = chance.choice((*range(1, 20), ANY_SLOT, 2**31))
    flags = chance.choice((0, 1, 2, 3, 0xFFFF))
    raw = PACKET.pack(chance.choice(HARMLESS), flags, 7, slot, chance.choice(wild), *words)
    return (
        raw if chance.random() < 0.9 else raw[: chance.randrange(64)] + b"?" * chance.randrange(3)
    )


class Host:
    """A hostile client; it reads sometimes, or never."""

    def __init__(self, path: Path, chance: random.Random, given: list[int]) -> None:
        self._path, self._chance, self._given = path, chance, given
        self._link: socket.socket | None = None

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
        self._link = None

    def act(self) -> int:
        """One packet; how many were sent."""
        chance = self._chance
        if self._link is None or chance.random() < 0.02:
            self.close()
            self._link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._link.connect(str(self._path))
            self._link.setblocking(False)
            self._reads = chance.random() < 0.7
        count = chance.choice((0, 0, 0, 1, 3, 4, 5, 64, 65, 200))
        rights = array.array("i", chance.choices(self._given, k=count)).tobytes()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if count else []
        sent = 0
        try:
            self._link.sendmsg([packet(chance)], ancillary)
            sent = 1
            if self._reads:
                while self._link.recvmsg(64, 64)[0]:
                    pass
        except BlockingIOError:
            time.sleep(0)
        except OSError:
            self.close()
        return sent


def hostile(arguments: argparse.Namespace, folder: Path, tally: Tally) -> None:
    """Packets."""
    chance = random.Random(arguments.seed)
    rig = Rig(folder, ["pulse"], observer=True)
    given = handles(folder)
    with rig.plans() as plans:
        rig.boot(plans)
        good = Control(connect_node(rig.directory.control))
        good.hello().close()
        before = settled(rig)
        pid = rig.entry("pulse0").pid
        hosts = [Host(rig.directory.control, chance, given) for _ in range(HOSTS)]
        sent, slowest = 0, 0.0
        while sent < arguments.count and not tally.wrong:
            sent += chance.choice(hosts).act()
            if sent % 500 == 0:
                began = time.monotonic()
                good.hello().close()
                slowest = max(slowest, time.monotonic() - began)
                tally.check(slowest < SERVED_S, f"a good client waited {slowest:.1f} s")
        for host in hosts[1:] if arguments.canary else hosts:
            host.close()
        good.feature(0)
        time.sleep(0.2)
        after = settled(rig)
        tally.facts |= {"packets": sent, "slowest answer, ms": round(slowest * 1e3, 1)}
        before["maps"] += FIBERS_MAX  # each slot keeps a page once it was used
        compare(before, after, tally)
        tally.check(rig.entry("pulse0").pid == pid, "the fiber did not go on")
        tally.check(rig.l1().state == FiberState.ALIVE, "L1 is not there")
        good.close()
        tally.check(rig.shutdown() == 0, "the supervisor failed at its end")
        tally.check(wait_until(lambda: not rig.left()), f"left running: {rig.left()}")
    for descriptor in given:
        os.close(descriptor)


def compare(before: dict[str, int], after: dict[str, int], tally: Tally) -> None:
    """Nothing stays; and little memory is used."""
    tally.facts["before"], tally.facts["after"] = before, after
    for what in ("descriptors", "maps", "processes"):
        tally.check(after[what] <= before[what], f"{what}: {before[what]} to {after[what]}")
    resident = after["resident"]
    tally.check(resident <= RESIDENT_MAX_KB, f"{resident} KiB resident, {after['locked']} locked")


def plan_of(number: int, mark: str, program: str = "/bin/sh") -> int:
    """A shell that stays, fails, or ends; with restarts or without, half in namespaces."""
    scripts = ("exec sleep 1000", "exit 3", "exit 0", "sleep 0.005; exit 1")
    manifest = Manifest(
        name=f"churn{number}",
        program=program,
        arguments=("sh", "-c", scripts[number % 4]),
        policy=Policy(
            pledge=2 << 62,
            namespaces=SPACES[number // 4],
            restart=number % 3,
            intensity=64,
            period_ms=1,
            grace_ms=20,
        ),
        environment=("PATH=/usr/bin:/bin", mark),
    )
    return seal_plan(encode_plan(manifest, image=-1, digest=None))


def churn_once(
    rig: Rig, plans: list[int], null: int, chance: random.Random, tally: Tally, keep: bool
) -> None:
    """Sixteen starts, each stopped at a random moment, waited for and forgotten."""
    held = [chance.random() < 0.2 for _ in plans]
    posted = [
        rig.control.post_start([plan, null, null, null], hold=hold)
        for plan, hold in zip(plans, held, strict=True)
    ]
    early = chance.random() < 0.5
    slots = list(range(len(plans)))
    chance.shuffle(slots)
    time.sleep(chance.uniform(0, chance.choice((0.002, 0.01, 0.03))))
    if early:
        for slot in slots:
            stop(rig, FiberPlace(slot, 0), chance)
    places = [FiberPlace(*answer) for answer in (finish(rig, one) for one in posted) if answer]
    tally.check(early or len(places) == len(plans), f"only {len(places)} fibers started")
    for slot in slots:
        stop(rig, FiberPlace(slot, 0), chance)
    for slot in slots[1:] if keep else slots:
        place = FiberPlace(slot, 0)
        with contextlib.suppress(NexusError):
            status = rig.control.wait(place, 10).status
            tally.check(status != START_FAILED, f"the start of fiber {slot} failed")
        with contextlib.suppress(NexusError):
            rig.control.forget(place)
    free = wait_until(lambda: keep or not rig.table.fibers())
    tally.check(free, f"not forgotten: {[(f.name, f.state.name) for f in rig.table.fibers()]}")


def finish(rig: Rig, posted: tuple[Request, int]) -> tuple[int, int] | None:
    """Slot and generation, or None when its start was cut short."""
    try:
        answer = rig.control.finish(posted, 10)
    except NexusError:
        return None
    return answer.slot, answer.generation


def stop(rig: Rig, place: FiberPlace, chance: random.Random) -> None:
    """One of the ways to end a fiber, or to begin it anew."""
    kind = chance.random()
    with contextlib.suppress(NexusError):
        if kind < 0.2:
            rig.control.post(Request(Operation.RESTART, 0, place.slot))
        rig.control.stop(place, at_once=kind < 0.6)


def churn(arguments: argparse.Namespace, folder: Path, tally: Tally) -> None:
    """Start, stop, forget."""
    chance = random.Random(arguments.seed)
    rig = Rig(folder, [])
    null = os.open(os.devnull, os.O_RDWR)
    plans = [plan_of(number, rig.mark) for number in range(FIBERS_MAX)]
    given = [*plans, null]
    rig.boot({})
    churn_once(rig, plans, null, chance, tally, False)  # pages of slots are kept
    before = settled(rig)
    rounds = 0
    while rounds < arguments.count and not tally.wrong:
        broken = arguments.canary and rounds == arguments.count - 1
        if broken:
            absent = [plan_of(number, rig.mark, "/absent") for number in range(FIBERS_MAX)]
            plans, given = absent, [*given, *absent]
        churn_once(rig, plans, null, chance, tally, broken)
        rounds += 1
    after = settled(rig)
    tally.facts["rounds of sixteen"] = rounds
    compare(before, after, tally)
    tally.check(rig.shutdown() == 0, "the supervisor failed at its end")
    tally.check(wait_until(lambda: not rig.left()), f"left running: {rig.left()}")
    for descriptor in given:
        os.close(descriptor)


def main() -> int:
    """One campaign."""
    parser = argparse.ArgumentParser(description="hostile clients, and churn")
    parser.add_argument("--what", choices=("packets", "churn"), required=True)
    parser.add_argument("--count", type=int, default=500, help="500")
    parser.add_argument("--seed", type=int, default=1, help="1")
    parser.add_argument("--canary", action="store_true", help="break something on purpose")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        (hostile if arguments.what == "packets" else churn)(arguments, Path(folder), tally)
    return tally.tell({"what": arguments.what, "seed": arguments.seed}, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())

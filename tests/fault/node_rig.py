"""What the rigs against a real supervisor share: a node of its own, and what is seen from outside.

Every process of a node carries a mark in its environment, by which what is left of it is found.
Each life of a fiber takes an exclusive lock and reports into a FIFO: that it began and with what,
each number that it saved, and a clash, if another life had the lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nexus.logic.control import Control, FiberPlace
from nexus.logic.manifest import Draft, Program
from nexus.logic.node import NodeDescription, NodeFiber, Opening
from nexus.membrane.assembly import Assembly
from nexus.membrane.directory import NodeDirectory
from nexus.physics.cgroups import NodeCgroups
from nexus.physics.control import ControlLink, control_pair, listen_node
from nexus.physics.supervisor import supervisor_path
from nexus.seams.supervisor import L1_SLOT, FiberEntry, FiberState

BOUND_S = 15.0  # two shared cores: no bar, but a life that takes longer does not come
BEGAN, SAVED, CLASH, WORKED = 1, 2, 3, 4
RECORD = struct.Struct("<IIQ")
HANDLES = ("lock", "report", "count")

PULSE = r"""
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int handle(const char *name)
{
    const char *at = strstr(getenv("NEXUS_FIBER"), name);
    return at == NULL ? _exit(99), -1 : atoi(at + strlen(name));
}

int main(void)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct timespec pause = {0, 500000};
    int report = handle("open:report="), count = handle("open:count=");
    struct { uint32_t kind, life; uint64_t value; } record = {1, 0, 0};

    if (pread(handle("life="), &record.life, 4, 0) != 4)
        return 98;
    if (fcntl(handle("open:lock="), F_SETLK, &all) != 0)
        record.kind = 3;
    if (write(report, &record, sizeof record) != sizeof record)
        return 97;
    for (uint64_t n = (uint64_t)record.life << 32;; n++) {
        if (pwrite(count, &n, sizeof n, 0) != sizeof n)
            return 96;
        if (n % 64 == 63) {
            record.kind = 4;
            if (write(report, &record, sizeof record) != sizeof record)
                return 95;
        }
        nanosleep(&pause, NULL);
    }
}
"""

SAVER = r"""
import fcntl, os, struct, time
from nexus.fiber import run
RECORD = struct.Struct("<IIQ")
def live(context):
    lock, report, count = (context.open(name) for name in ("lock", "report", "count"))
    last = 0 if context.restored is None else int.from_bytes(context.restored[:8], "little")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        report.write(RECORD.pack(1, context.life, last))
    except OSError:
        report.write(RECORD.pack(3, context.life, last))
    while True:
        last += 1
        context.checkpoint(last.to_bytes(8, "little") * 1024)
        report.write(RECORD.pack(2, context.life, last))
        os.pwrite(count.fileno(), struct.pack("<Q", last), 0)
        time.sleep(0.0003)
run(live)
"""


class RigAssembly(Assembly):
    """Plans whose processes carry a mark, and whose breakers never open."""

    def __init__(self, directory: NodeDirectory, node: NodeDescription, mark: str) -> None:
        super().__init__(directory, node, NodeCgroups(None, ""))
        self._mark = mark

    def _program(self, fiber: NodeFiber) -> tuple[Draft, Program]:
        draft, program = super()._program(fiber)
        if fiber.module == (SAVER,):
            program = replace(program, arguments=(program.path, "-P", "-c", SAVER))
        return draft, program

    def _spec(self, fiber, variables):
        name, _, value = self._mark.partition("=")
        draft = replace(fiber.draft, restart="always", intensity=64, period_ms=1, delay_ms=0)
        return super()._spec(replace(fiber, draft=draft), {**variables, name: value})


class Reports:
    """What the lives said, in order; a thread takes it out of the FIFO."""

    def __init__(self, path: Path) -> None:
        self.clashes: list[str] = []
        self.lost: list[str] = []
        self.lives = self.warm = self.worked = 0
        self._saved = 0
        self._name = path.stem
        self._file = os.open(path, os.O_RDWR)
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            raw = os.read(self._file, RECORD.size)
            self.take(*RECORD.unpack(raw))

    def forget(self) -> None:
        """What was saved is gone with the supervisor that kept it."""
        self._saved = 0

    def take(self, kind: int, life: int, value: int) -> None:
        """One record."""
        if kind in (BEGAN, CLASH):
            self.lives += 1
            self.warm += value != 0
            if kind == CLASH:
                self.clashes.append(f"{self._name}: life {life} met another one")
            if value < self._saved:
                self.lost.append(f"{self._name}: life {life}: {self._saved} saved, {value} found")
        if kind == SAVED:
            self._saved = value
        if kind in (SAVED, WORKED):
            self.worked += 1


def build_pulse(folder: Path) -> Path:
    """The native fiber; static, so that nothing but its image is needed."""
    source, program = folder / "pulse.c", folder / "pulse"
    if not program.exists():
        source.write_text(PULSE)
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("the native fiber is not built: there is no cc; install a C compiler")
        subprocess.run([compiler, "-O1", "-static", "-o", program, source], check=True)
    return program


def fiber_named(kind: str, number: int, folder: Path) -> NodeFiber:
    """A pulse (native) or a saver (Python, standby, checkpoints), with files of its own."""
    name = f"{kind}{number}"
    for handle in HANDLES:
        path = folder / f"{name}.{handle}"
        if handle == "report" and not path.exists():
            os.mkfifo(path)
        path.touch()
    openings = tuple(Opening(one, str(folder / f"{name}.{one}"), True) for one in HANDLES)
    promises = frozenset({"stdio", "rpath", "flock"})
    if kind == "saver":
        draft = Draft(name=name, promises=promises, restart="always")
        return NodeFiber(draft, (SAVER,), standby=True, checkpoint=True, openings=openings)
    draft = Draft(name=name, promises=promises, program=(str(build_pulse(folder)),))
    return NodeFiber(draft, openings=openings)


def below(pid: int) -> list[int]:
    """All descendants of a process, nearest first."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, task.read_text().split())
    return found[1:]


def children(pid: int) -> list[int]:
    """The direct ones."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_first(pid: int) -> bool:
    """Whether it is number 1 of a pid namespace: a warden."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid"):
                return line.split()[-1] == "1"
    return False


def wait_until(condition: Callable[[], object], seconds: float = BOUND_S) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return bool(condition())
        time.sleep(0.001)
    return True


def resources(pid: int) -> dict[str, int]:
    """What a supervisor holds: descriptors, lines of maps, descendants, KiB resident and locked."""
    place = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line
    )
    return {
        "descriptors": len(list((place / "fd").iterdir())),
        "maps": len((place / "maps").read_text().splitlines()),
        "processes": len(below(pid)),
        "resident": int(status["VmRSS"].split()[0]),
        "locked": int(status["VmLck"].split()[0]),
    }


class Rig:
    """A node directory, and the node in it while it is up.

    Args:
        folder: for everything.
        fibers: kinds, as `["pulse", "saver"]`.
        observer: whether there is an L1.
        level: its survivability.
    """

    def __init__(
        self, folder: Path, fibers: list[str], *, observer: bool = False, level: str = "hardened"
    ) -> None:
        self.mark = f"NEXUS_RIG={os.getpid()}-{time.monotonic_ns()}"
        self.folder = folder
        self.directory = NodeDirectory(folder / "node")
        self.directory.prepare()
        self._observer = observer
        made = tuple(fiber_named(kind, number, folder) for number, kind in enumerate(fibers))
        self.description = NodeDescription(level, made, ())
        self.reports = {one.name: Reports(folder / f"{one.name}.report") for one in made}
        self.places: dict[str, FiberPlace] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self.process is not None
        return self.process.pid

    @contextlib.contextmanager
    def plans(self) -> Iterator[dict[str, Sequence[int]]]:
        """The descriptors of each START; a boot can be repeated with them."""
        with RigAssembly(self.directory, self.description, self.mark) as assembly:
            found = {}
            if self._observer:
                found["L1"] = assembly.observer(
                    ("--ledger", str(self.directory.ledger))
                ).descriptors
            for fiber in self.description.fibers:
                found[fiber.name] = assembly.fiber(fiber).descriptors
            yield found

    def spawn(self) -> None:
        """The supervisor alone."""
        program = supervisor_path()
        ours, theirs = control_pair()
        beb = os.open(self.directory.beb, os.O_RDWR | os.O_CLOEXEC)
        with theirs, listen_node(self.directory.control) as listener:
            given = [theirs.fileno(), listener.fileno(), beb]
            name, _, value = self.mark.partition("=")
            self.process = subprocess.Popen(
                [program, "serve", *map(str, given)], pass_fds=given, env={name: value},
                start_new_session=True,
            )  # fmt: skip
        os.close(beb)
        self.link = ControlLink(ours)
        self.control = Control(self.link)

    def post(self, plans: dict[str, Sequence[int]]) -> list:
        """Ask for all fibers."""
        return [
            (name, self.control.post_start(plan, observer=name == "L1"))
            for name, plan in plans.items()
        ]

    def boot(self, plans: dict[str, Sequence[int]]) -> None:
        """The supervisor and all fibers."""
        self.spawn()
        self.table = self.control.hello()
        for name, posted in self.post(plans):
            answer = self.control.finish(posted)
            self.places[name] = FiberPlace(answer.slot, answer.generation)

    def entry(self, name: str) -> FiberEntry:
        """What the table has about a fiber."""
        slot = self.places[name].slot
        return next(one for one in self.table.fibers() if one.slot == slot)

    def is_up(self, name: str) -> bool:
        """Whether a life is on, and its process is there."""
        entry = self.entry(name)
        with contextlib.suppress(ProcessLookupError):
            return entry.state == FiberState.ALIVE and Path(f"/proc/{entry.pid}/exe").exists()
        return False

    def l1(self) -> FiberEntry:
        """The entry of L1."""
        return next(one for one in self.table.fibers() if one.slot == L1_SLOT)

    def count(self, name: str) -> int:
        """How far a fiber has counted."""
        return int.from_bytes((self.folder / f"{name}.count").read_bytes()[:8], "little")

    def left(self) -> list[int]:
        """Processes that carry the mark."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (place / "environ").read_bytes():
                    found.append(int(place.name))
        return found

    def kill(self) -> None:
        """End the supervisor at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.control.close()
            self.process = None

    def shutdown(self) -> int:
        """End everything in order; the supervisor's status."""
        assert self.process is not None
        self.control.shutdown()
        status = self.process.wait(BOUND_S)
        self.control.close()
        self.process = None
        return status

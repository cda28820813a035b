"""Phoenix on this host: whatever was done to the supervisor's memory, nothing of it is left."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import nexus
from nexus._core.hash import blake3
from nexus.errors import AbsentError
from nexus.logic.control import Control
from nexus.physics.control import connect_node
from nexus.physics.supervisor import host_facts, supervisor_path
from nexus.seams.events import Event, EventKind
from nexus.seams.supervisor import L1_SLOT, FiberState, NodeState, SystemTable

pytestmark = pytest.mark.slow

WAIT_S = 30.0
WORD = b"more open files must be allowed"  # a constant of the supervisor's that no life needs
DAMAGE = b"MORE"
KEPT = ("SigBlk", "SigIgn", "SigCgt", "VmLck", "Seccomp", "NoNewPrivs", "CapEff", "PPid", "NSpid")
KEEPER = """
from nexus.fiber import run

def keeper(context):
    count = int(context.restored or b"0")
    print("restored", count, flush=True)
    for _ in context.periodic(0.02):
        count += 1
        context.checkpoint(str(count).encode())
        print("saved", count, flush=True)

run(keeper)
"""
NODE = """
survivability "hardened"
fiber "durable" {{ {keeper}; checkpoint "durable" }}
fiber "volatile" {{ {keeper}; checkpoint; standby }}
fiber "plain" {{ program "/bin/sleep" "1000" }}
fiber "once" {{ program "/bin/sh" "-c" "exit 3" }}
"""
IS_KEEPER = """module "keeper"; pledge "stdio" "rpath"; restart "always"
    unveil "{folder}" "r"; environment {{ PYTHONPATH "{folder}"; }}"""


class Node:
    """A booted node of four fibers, its table and its supervisor's memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "node"
        (folder / "keeper.py").write_text(KEEPER)
        keeper = IS_KEEPER.format(folder=folder)
        (folder / "node.kdl").write_text(NODE.format(keeper=keeper))
        words = ["boot", "--json", str(folder / "node.kdl")]
        root = Path(nexus.__file__).resolve().parent.parent
        self.environment = {
            **os.environ,
            "NEXUS_NODE": str(self.folder),
            "PYTHONPATH": str(root),
        }
        self.child = subprocess.Popen(
            [sys.executable, "-m", "nexus.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        assert self.child.stdout is not None
        first = self.child.stdout.readline()
        if not first:
            pytest.skip(f"Phoenix not checked, no node boots here: {self.child.communicate()[1]}")
        self.pid: int = json.loads(first)["pid"]
        self.control = Control(connect_node(self.folder / "run" / "control"))
        self.table: SystemTable = self.control.hello()

    def end(self) -> None:
        """End it, however it was left."""
        self.control.close()
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            self.child.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nexus.cli", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment
        )

    def until(self, done: Callable[[], object]) -> None:
        """Wait for what is sure to come."""
        end = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < end, "it did not come"
            self.table.wait(self.table.head().newest, 0.02)

    def saved(self, name: str) -> list[tuple[str, int]]:
        """What a keeper has printed: word and number."""
        log = self.folder / "log" / f"{name}.log"
        whole = [line.split() for line in log.read_text().splitlines(True) if line[-1] == "\n"]
        return [(word, int(number)) for word, number in whole]

    def alive(self) -> dict[str, tuple[int, int]]:
        """Lives and pid of each that is alive."""
        fibers = self.table.fibers()
        return {f.name: (f.lives, f.pid) for f in fibers if f.state == FiberState.ALIVE}

    def over(self) -> list[tuple[str, int, int, int, int]]:
        """What is over, and how it ended."""
        fibers = [one for one in self.table.fibers() if one.state == FiberState.OVER]
        return [(one.name, one.generation, one.lives, one.status, one.end_ns) for one in fibers]

    def phoenix(self) -> list[Event]:
        """Ask for it, wait until all live again; the events since."""
        newest, before = self.table.head().newest, self.alive()
        self.control.shutdown(phoenix=True)

        def back() -> bool:
            now = self.alive()
            return all(name in now and now[name][0] > lives for name, (lives, _) in before.items())

        self.until(back)
        events = list(self.table.events(newest).events)
        began_ns = max(event.time_ns for event in events)
        self.until(lambda: self.table.head().beat_ns > began_ns)  # L1 works, too
        return events

    def places(self, wanted: bytes) -> list[int]:
        """Where the supervisor's memory has these bytes, and may be written by a debugger."""
        found = []
        with Path(f"/proc/{self.pid}/maps").open() as maps, self._memory() as memory:
            for line in maps:
                span, rights, *rest = line.split()
                if rights[0] != "r" or rights[3] == "s" or "[v" in rest[-1]:
                    continue
                start, end = (int(word, 16) for word in span.split("-"))
                memory.seek(start)
                data = memory.read(end - start)
                at = data.find(wanted)
                while at >= 0:
                    found.append(start + at)
                    at = data.find(wanted, at + 1)
        return found

    def _memory(self):
        try:
            return Path(f"/proc/{self.pid}/mem").open("r+b", buffering=0)
        except PermissionError as error:
            pytest.skip(f"Phoenix not checked: a debugger may not write here: {error}")

    def write(self, place: int, data: bytes) -> None:
        with self._memory() as memory:
            memory.seek(place)
            assert memory.write(data) == len(data)

    def read(self, place: int, size: int) -> bytes:
        with self._memory() as memory:
            memory.seek(place)
            return memory.read(size)

    def facts(self) -> dict[str, object]:
        """What the kernel says about the supervisor."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        scheduling = (os.sched_getscheduler(self.pid), os.sched_getparam(self.pid).sched_priority)
        return {name: status[name].strip() for name in KEPT} | {"scheduling": scheduling}

    def holds(self, name: str) -> bool:
        """Whether it has a file of this name open."""
        links = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):
                links.append(link.readlink().name)
        return name in links

    def open(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@pytest.fixture
def node() -> Iterator[Node]:
    try:
        supervisor_path()
    except AbsentError as error:
        pytest.skip(f"Phoenix not checked: {error}")
    facts = host_facts()
    if not facts["filter"] or not facts["namespaces"] or facts["landlock"] < 6:
        pytest.skip(f"Phoenix not checked, this host lacks layers: {facts}")
    with tempfile.TemporaryDirectory(prefix="nexus-", dir="/var/tmp") as top:
        Path(top).chmod(0o755)
        one = Node(Path(top))
        try:
            one.until(lambda: len(one.alive()) == 4 and one.table.head().beat_ns > 0)
            one.until(lambda: min(len(one.saved(n)) for n in ("durable", "volatile")) > 3)
            yield one
        finally:
            one.end()
            one.table.close()


def test_damage_to_the_supervisor_is_gone_and_everything_lives_again(node: Node) -> None:
    # A page of the file with the ends of two segments is mapped twice; the second one is not read.
    place = node.places(WORD)[0]
    before, open_before, lives = node.facts(), node.open(), node.alive()
    assert node.holds("lock")
    once = node.over()
    node.write(place, DAMAGE)
    assert node.read(place, len(WORD)) != WORD, "the rig damages nothing"

    events = node.phoenix()

    assert node.read(place, len(WORD)) == WORD
    assert str(Path(f"/proc/{node.pid}/exe").readlink()).startswith("/memfd:nexus-l0")
    assert Path(f"/proc/{node.pid}/comm").read_text() == "nexus-l0\n"
    assert node.facts() == before, "its process is the same"
    assert node.open() <= open_before
    assert node.holds("lock"), "another boot could take the node's directory"
    assert node.child.poll() is None
    after = node.alive()
    assert {name: count for name, (count, _) in after.items()} == {
        name: count + 1 for name, (count, _) in lives.items()
    }
    assert not {pid for _, pid in after.values()} & {pid for _, pid in lives.values()}
    assert node.over() == once, "what was over is as it was"
    phoenix = [event for event in events if event.kind == EventKind.PHOENIX]
    assert [(event.entity, event.data[0]) for event in phoenix] == [(1, 0)]
    assert [event.id for event in events] == list(range(events[0].id, events[-1].id + 1))
    ended = [event for event in events if event.kind == EventKind.FIBER_TERMINATE]
    assert len(ended) == 4
    assert {event.entity for event in ended} == {128 + 9}
    head = node.table.head()
    assert (head.phoenix, head.state, head.pid) == (1, NodeState.UP, node.pid)


def test_checkpoints_outlive_it_volatile_and_durable(node: Node) -> None:
    names = ("durable", "volatile")
    before = {name: node.saved(name)[-1][1] for name in names}
    node.phoenix()
    for name in names:
        node.until(lambda name=name: [w for w, _ in node.saved(name)].count("restored") == 2)
        said = node.saved(name)
        second = [word for word, _ in said].index("restored", 1)
        # It may have been ended between saving and saying so.
        last = said[second - 1][1]
        assert last >= before[name]
        assert said[second][1] in (last, last + 1), name


def test_the_ledger_goes_on_and_proves_what_happened(node: Node) -> None:
    for _ in range(2):
        node.phoenix()
    node.end()
    done = node.run("verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    proof = json.loads(done.stdout)
    assert (proof["bad"], proof["lost"]) == (None, 0)
    # All events of the three tables but for its own end, each once.
    assert proof["events"] == node.table.head().newest - 1


def test_who_reads_along_reads_on(node: Node) -> None:
    assert node.child.stdout is not None
    node.phoenix()
    titles = []
    for line in node.child.stdout:
        titles.append(json.loads(line).get("title"))
        if "Phoenix" in titles and titles[titles.index("Phoenix") :].count("FiberSpawn") == 4:
            break
    status = json.loads(node.run("status", "--json").stdout)
    assert (status["phoenix"], status["state"]) == (1, "up")


def test_an_image_that_is_not_what_it_was_is_not_executed(node: Node) -> None:
    digest = blake3(Path(supervisor_path()).read_bytes())
    places = node.places(digest)
    assert places, "the rig found no digest"
    for place in places:
        node.write(place, bytes([digest[0] ^ 1]))
    exe = Path(f"/proc/{node.pid}/exe").readlink()
    events = node.phoenix()
    kinds = [event.kind for event in events]
    corrupt = events[kinds.index(EventKind.IMAGE_CORRUPT)]
    assert corrupt.fiber == 0
    assert corrupt.data[0] == int.from_bytes(digest[:8], "little")
    phoenix = [event for event in events if event.kind == EventKind.PHOENIX]
    assert [(event.entity, event.data[0]) for event in phoenix] == [(1, errno.EBADMSG)]
    assert Path(f"/proc/{node.pid}/exe").readlink() == exe
    assert node.table.head().state == NodeState.UP


def test_a_fiber_whose_descriptors_were_damaged_is_lost_and_no_other(node: Node) -> None:
    plans = []
    for link in Path(f"/proc/{node.pid}/fd").iterdir():
        with suppress(OSError):
            if "nexus-plan" in str(link.readlink()):
                plans.append(int(link.name))
    victim = next(fiber for fiber in node.table.fibers() if fiber.name == "plain")
    # Its plan and standard streams, one after the other, as START brought them.
    found = {
        place for plan in plans for place in node.places(struct.pack("<4i", *range(plan, plan + 4)))
    }
    names = {}
    for place in found:
        (plan,) = struct.unpack("<i", node.read(place, 4))
        target = Path(f"/proc/{node.pid}/fd/{plan}").read_bytes()
        if b"plain\0" in target:
            names[place] = plan
    assert names, "the rig found no descriptors"
    for place in names:
        node.write(place + 4, struct.pack("<i", 64))  # stdin: the connection of its owner
    newest = node.table.head().newest
    node.control.shutdown(phoenix=True)
    node.until(lambda: set(node.alive()) == {"L1", "durable", "volatile"})
    events = node.table.events(newest).events
    lost = [event for event in events if event.kind == EventKind.QUARANTINE]
    assert [event.fiber for event in lost] == [victim.id]
    assert "plain" not in {fiber.name for fiber in node.table.fibers()}


def test_too_many_end_nothing_and_are_told(node: Node) -> None:
    opened = []
    for _ in range(3):
        node.phoenix()
        opened.append(node.open())
    assert opened[2] <= opened[0], "each one leaves descriptors behind"
    newest, before = node.table.head().newest, node.alive()
    node.control.shutdown(phoenix=True)
    node.until(lambda: node.table.head().newest > newest)
    (event,) = [e for e in node.table.events(newest).events if e.kind == EventKind.BREAKER_OPEN]
    assert (event.fiber, event.entity) == (0, 3)
    assert node.alive() == before
    assert node.table.head().phoenix == 3


def test_l1_that_cannot_live_brings_it_about(node: Node) -> None:
    newest = node.table.head().newest
    place = next(fiber for fiber in node.table.fibers() if fiber.slot == L1_SLOT)
    lives, pid = place.lives, place.pid
    while EventKind.PHOENIX not in [e.kind for e in node.table.events(newest).events]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSEGV)
        node.until(
            lambda pid=pid: (
                node.alive().get("L1", (0, pid))[1] != pid
                or EventKind.PHOENIX in [e.kind for e in node.table.events(newest).events]
            )
        )
        pid = node.alive().get("L1", (0, 0))[1]
        assert node.table.head().newest < newest + 500
    node.until(lambda: len(node.alive()) == 4)
    assert node.alive()["L1"][0] > lives + 2
    assert str(Path(f"/proc/{node.pid}/exe").readlink()).startswith("/memfd:nexus-l0")


@pytest.mark.parametrize("size", [0, 100, 7648, 9000])
def test_what_is_no_handover_begins_nothing(size: int) -> None:
    try:
        path = supervisor_path()
    except AbsentError as error:
        pytest.skip(f"the handover is not checked: {error}")
    state = os.memfd_create("state")
    os.write(state, struct.pack("<QII", 0x0A0D00534952584E, 1, 7648)[:size].ljust(size, b"\1"))
    done = subprocess.run(
        [path, "rise", str(state)], pass_fds=[state], capture_output=True, check=False
    )
    os.close(state)
    assert done.returncode == 125
    assert b"not sound" in done.stderr

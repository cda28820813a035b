"""Confined starts and restarts beside bubblewrap, sandlock, Erlang/OTP and supervisord.

A start is timed from the call in Python to the first byte that a static program writes, a restart
from the SIGKILL of the program to the first byte of the next one, also beside two busy loops.
Before each start this process computes for 10 ms: it is at work, and the node has made the next
life ready on the other processor. Three starts are ours: another
life of a fiber that a running supervisor holds ready, which is how one runs a program again and
again; a fiber that the supervisor does not know yet; and a supervisor for this fiber alone, as
`nexus run` has it. The byte comes through a FIFO, so that every peer delivers it in the same way.
Programs under other licences run as processes.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import ROOT, Bar, hogs, main

from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import HostLayers, confine
from nexus.logic.control import Control, FiberPlace
from nexus.logic.manifest import Draft, Program, complete
from nexus.physics.control import ControlLink, control_pair
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_plan, supervisor_path
from nexus.seams.supervisor import Operation, Request

NAMESPACES = ("user", "pid", "ipc", "mount", "network")
SETTLE_SECONDS = 0.01
HOGS = 2
LOOP = [sys.executable, "-c", "while True: pass"]
TAIL = 10  # restarts beside the hogs for each round


class Bell:
    """A FIFO that programs write a byte to."""

    def __init__(self, place: Path) -> None:
        self.path = place / "bell"
        os.mkfifo(self.path)
        # Both ends, so that it never ends; programs open it by its path.
        self._end = os.open(self.path, os.O_RDWR)

    def wait(self) -> None:
        """Block until a program has written."""
        assert os.read(self._end, 1) == b"x"


def compile_beat(place: Path) -> Path:
    program = place / "beat"
    core = ROOT / "nexus" / "_core" / "include"
    options = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-no-pie"]
    source = ROOT / "bench" / "native" / "beat.c"
    subprocess.run(["cc", *options, "-I", core, source, "-o", program], check=True)
    return program


def plan_of(words: list[str], waived: tuple[str, ...] = (), *, restart: bool = False) -> int:
    """The sealed plan of a program."""
    directory = str(Path(words[0]).parent)
    draft = Draft(
        waived=frozenset(f"{one} namespace" for one in waived),
        restart="always" if restart else None,
        intensity=64,
        period_ms=1,
    )
    program = Program(words[0], tuple(words), None, dynamic=False)
    spec = complete(draft, program, environment={}, directory=directory)
    confined = confine(spec, HostLayers(**host_facts()), HostFiles())
    return seal_plan(encode_plan(confined.manifest, image=-1, digest=None))


def supervised(words: list[str], waived: tuple[str, ...] = (), *, restart: bool = False):
    """The command line of a supervisor for a program alone."""
    plan = plan_of(words, waived, restart=restart)
    os.set_inheritable(plan, True)
    return [supervisor_path(), "run", str(plan)]


@contextmanager
def node() -> Iterator[Control]:
    """A running supervisor, and what to ask it with."""
    ours, its = control_pair()
    command = [supervisor_path(), "serve", str(its.fileno())]
    child = subprocess.Popen(command, pass_fds=[its.fileno()])
    its.close()
    control = Control(ControlLink(ours))
    try:
        yield control
    finally:
        control.close()
        child.wait()


def life_starter(control: Control, words: list[str], bell: Bell) -> Callable[[], float]:
    place = control.start([plan_of(words), 0, 1, 2], hold=True)
    request = Request(Operation.BEGIN, 0, place.slot, place.generation)

    def start() -> float:
        begin = time.perf_counter()
        posted = control.post(request)
        bell.wait()
        elapsed = time.perf_counter() - begin
        control.finish(posted)
        control.wait(place)
        return elapsed

    return start


def fiber_starter(control: Control, words: list[str], bell: Bell) -> Callable[[], float]:
    plan = plan_of(words)

    def start() -> float:
        begin = time.perf_counter()
        posted = control.post_start([plan, 0, 1, 2])
        bell.wait()
        elapsed = time.perf_counter() - begin
        answer = control.finish(posted)
        place = FiberPlace(answer.slot, answer.generation)
        control.wait(place)
        control.forget(place)
        return elapsed

    return start


def starter(command: list[str], bell: Bell) -> Callable[[], float]:
    def start() -> float:
        begin = time.perf_counter()
        pid = os.posix_spawn(command[0], command, {})
        bell.wait()
        elapsed = time.perf_counter() - begin
        os.waitpid(pid, 0)
        return elapsed

    return start


def sandlock_starter(words: list[str], bell: Bell) -> Callable[[], float]:
    from sandlock import Sandbox

    def start() -> float:
        sandbox = Sandbox(fs_readable=["/"], fs_writable=[str(bell.path.parent)])
        begin = time.perf_counter()
        sandbox.spawn(words)
        bell.wait()
        elapsed = time.perf_counter() - begin
        sandbox.wait()
        return elapsed

    return start


def running(program: Path) -> int:
    """The pid of the one process of a program, which may still be on its way."""
    while True:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "exe").readlink().name == program.name:
                        return int(entry.name)
                except OSError:
                    continue


def restarter(program: Path, bell: Bell) -> Callable[[], float]:
    def again() -> float:
        time.sleep(SETTLE_SECONDS)
        pid = running(program)
        begin = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        bell.wait()
        return time.perf_counter() - begin

    return again


@contextmanager
def supervisor(command: list[str], bell: Bell) -> Iterator[None]:
    child = subprocess.Popen(
        command, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        bell.wait()
        yield
    finally:
        child.terminate()
        child.wait()


def start_cases(place: Path, bell: Bell, control: Control) -> dict[str, Callable[[], float]]:
    words = [str(compile_beat(place)), str(bell.path), "once"]
    cases = {
        "another life, all layers": life_starter(control, words, bell),
        "a new fiber, all layers": fiber_starter(control, words, bell),
        "posix_spawn, unconfined": starter(words, bell),
        "nexus-l0, all layers": starter(supervised(words), bell),
        "nexus-l0, without namespaces": starter(supervised(words, NAMESPACES), bell),
    }
    bwrap = shutil.which("bwrap")
    if bwrap is not None:
        unshared = [f"--unshare-{one}" for one in ("user", "pid", "ipc", "uts")]
        cases["bubblewrap"] = starter([bwrap, "--bind", "/", "/", *unshared, *words], bell)
    if importlib.util.find_spec("sandlock") is not None:
        cases["sandlock"] = sandlock_starter(words, bell)
    return cases


def erlang(place: Path, words: list[str]) -> list[str]:
    source = ROOT / "bench" / "peers" / "restart.erl"
    subprocess.run(["erlc", "-o", place, source], check=True)
    call = f'restart:main(["{words[0]}", "{words[1]}"])'
    return ["erl", "-noshell", "-pa", str(place), "-eval", call]


def supervisord(place: Path, words: list[str], program: str) -> list[str]:
    settings = place / "supervisord.conf"
    settings.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={place}/log\npidfile={place}/pid\nuser=root\n"
        f"[program:beat]\ncommand={' '.join(words)}\nautorestart=true\nstartsecs=0\n"
    )
    return [program, "-n", "-c", str(settings)]


def restart_cases(stack: ExitStack) -> dict[str, Callable[[], float]]:
    cases = {}

    def add(name: str, command: Callable[[Path, list[str]], list[str]]) -> None:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bell = Bell(place)
        # A name of its own, by which its process is found.
        program = compile_beat(place).rename(place / f"beat{len(cases)}")
        stack.enter_context(supervisor(command(place, [str(program), str(bell.path)]), bell))
        cases[name] = restarter(program, bell)

    add("nexus-l0 restart, all layers", lambda _, words: supervised(words, restart=True))
    add(
        "nexus-l0 restart, without namespaces",
        lambda _, words: supervised(words, NAMESPACES, restart=True),
    )
    if shutil.which("erl") is not None:
        add("Erlang/OTP supervisor and port", erlang)
    daemon = shutil.which("supervisord")
    if daemon is not None:
        add("supervisord", lambda place, words: supervisord(place, words, daemon))
    return cases


def compute() -> None:
    """Be at work for a while."""
    end = time.perf_counter() + SETTLE_SECONDS
    while time.perf_counter() < end:
        pass


@contextmanager
def prompt() -> Iterator[None]:
    """See the byte when it is there, not when the hogs leave a processor to us; as root."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        print("  no right to real-time priority: our own wait counts, too", file=sys.stderr)
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def tails(cases: dict[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """The 99th percentile of each beside the hogs; supervisord's pauses would take minutes."""
    values: dict[str, list[float]] = {name: [] for name in cases if name != "supervisord"}
    with hogs(LOOP, HOGS, apart=True), prompt():
        for _ in range(count):
            for name, restarts in values.items():
                restarts.append(cases[name]() * 1e9)
    return {
        f"{name}, beside hogs, p99": [sorted(restarts)[math.ceil(0.99 * count) - 1]]
        for name, restarts in values.items()
    }


def measured(rounds: int) -> dict[str, list[float]]:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        starts = start_cases(place, Bell(place), stack.enter_context(node()))
        restarts = restart_cases(stack)
        results: dict[str, list[float]] = {name: [] for name in starts | restarts}
        for _ in range(rounds):
            for name, once in starts.items():
                compute()
                results[name].append(once() * 1e9)
            for name, once in restarts.items():
                results[name].append(once() * 1e9)
        results |= tails(restarts, rounds * TAIL)
    return results | {"the bar of 5 ms": [5e6]}


BARS = [
    Bar("spawn", "another life, all layers", "bubblewrap", 0.2),
    Bar("spawn", "another life, all layers", "sandlock", 0.2),
    Bar("spawn", "another life, all layers", "posix_spawn, unconfined", 2.5),
    Bar("restart", "nexus-l0 restart, all layers", "Erlang/OTP supervisor and port", 0.8),
    Bar("restart", "nexus-l0 restart, all layers", "supervisord", 1 / 300),
    Bar("restart", "nexus-l0 restart, all layers, beside hogs, p99", "the bar of 5 ms", 1.0),
]

if __name__ == "__main__":
    main("fibers", lambda: iter(()), BARS, measured=measured)

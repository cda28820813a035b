"""Confined starts and restarts beside bubblewrap, sandlock, Erlang/OTP and supervisord.

A start is timed from the call in Python to the first byte that a static program writes, a restart
from the SIGKILL of the program to the first byte of the next one. The byte comes through a FIFO, so
that every peer delivers it in the same way. Programs under other licences run as processes.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import ROOT, Bar, main

from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import HostLayers, confine
from nexus.logic.manifest import Draft, Program, complete
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_plan, supervisor_path

NAMESPACES = ("user", "pid", "ipc", "mount", "network")
SETTLE_SECONDS = 0.01


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


def supervised(words: list[str], waived: tuple[str, ...] = (), *, restart: bool = False):
    """The command line of nexus-l0 for a program, with its sealed plan."""
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
    plan = seal_plan(encode_plan(confined.manifest, image=-1, digest=None))
    os.set_inheritable(plan, True)
    return [supervisor_path(), "run", str(plan)]


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


def start_cases(place: Path, bell: Bell) -> dict[str, Callable[[], float]]:
    words = [str(compile_beat(place)), str(bell.path), "once"]
    cases = {
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


def measured(rounds: int) -> dict[str, list[float]]:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cases = start_cases(place, Bell(place)) | restart_cases(stack)
        results: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, once in cases.items():
                results[name].append(once() * 1e9)
    return results


BARS = [
    Bar("spawn", "nexus-l0, all layers", "bubblewrap", 0.2),
    Bar("spawn", "nexus-l0, all layers", "sandlock", 0.2),
    Bar("spawn", "nexus-l0, all layers", "posix_spawn, unconfined", 2.5),
    Bar("restart", "nexus-l0 restart, all layers", "Erlang/OTP supervisor and port", 0.8),
    Bar("restart", "nexus-l0 restart, all layers", "supervisord", 1 / 300),
]

if __name__ == "__main__":
    main("fibers", lambda: iter(()), BARS, measured=measured)

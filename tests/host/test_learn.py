"""Learning: programs are watched free, then run under what was learnt, with the same outcome.

Every promise that was learnt is taken away once: the program must then fail, or the surplus is in
`CONSERVATIVE` with its reason. Rules are not taken away: that they show all that was touched, and
can be enforced, is a property (`test_learn_properties.py`); that none is spare is not shown.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nexus.cli.learn import Learnt, learn, make_lesson
from nexus.logic.confine import HostLayers, confine
from nexus.logic.manifest import Draft, complete, parse_manifest
from nexus.membrane.assembly import find_image
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts
from nexus.physics.syscalls import native_machine

pytestmark = pytest.mark.slow

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nowhere"}
SOCKETS = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    peer, _ = listener.accept()
    peer.sendall(peer.recv(9).upper())
    peer.close()
thread = threading.Thread(target=serve)
thread.start()
client = socket.create_connection(listener.getsockname())
client.sendall(b"loopback")
print(client.recv(9).decode())
thread.join()
"""
FORKS = 'my $p = fork(); if (!$p) { print "child\\n"; exit 3 } wait; print $? >> 8, "\\n"'
UNIX = """
import os, socket
server = socket.socket(socket.AF_UNIX); server.bind("s"); server.listen()
client = socket.socket(socket.AF_UNIX); client.connect("s")
peer, _ = server.accept(); client.send(b"unix"); print(peer.recv(9).decode()); os.unlink("s")
"""
LOCKS = """
import fcntl, os
with open("a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked")
"""
PROGRAMS: dict[str, list[str]] = {
    "ls": ["ls", "-a", "sub"],
    "cat": ["cat", "a", "link"],
    "cp": ["cp", "-p", "a", "sub/b"],
    "sort": ["sort", "-r", "numbers"],
    "rm": ["rm", "a"],
    "truncate": ["truncate", "-s", "1", "a"],
    "touch": ["touch", "-d", "@1", "a"],
    "chown": ["chown", "-h", "--from=0:0", "0:0", "link"],
    "mkfifo": ["mkfifo", "pipe"],
    "pipeline": ["sh", "-c", "sort numbers | head -n 2 | tee out; cat out; pwd; exit 7"],
    "fork": ["perl", "-e", FORKS],
    "tar": ["sh", "-c", "tar cf t.tar sub a && mkdir x && tar xf t.tar -C x && find x | sort"],
    "git": ["sh", "-c", "git init -q . && git add a && git status --short | head -n 1"],
    "loopback": ["python3", "-S", "-c", SOCKETS],
    "unix": ["python3", "-S", "-c", UNIX],
    "lock": ["python3", "-S", "-c", LOCKS],
    "stty": ["sh", "-c", "stty -a < /dev/ptmx > /dev/null 2>&1; echo $?"],
}
# (program, promise) that its filter asks for and its outcome does not show, with the reason.
CONSERVATIVE: dict[tuple[str, str], str] = {}


@dataclass
class Outcome:
    """How a run ended."""

    status: int
    out: bytes
    err: bytes


def fill(folder: Path, user: int) -> None:
    """The same folder before each run."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (folder / "a").write_text("hello\n")
    (folder / "numbers").write_text("".join(f"{n * 37 % 101}\n" for n in range(101)))
    (folder / "sub").mkdir()
    (folder / "sub" / "c").write_text("c\n")
    (folder / "link").symlink_to("sub/c")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user, user, follow_symlinks=False)
        if not path.is_symlink():
            os.utime(path, (0, 0))


def free(fibers, folder: Path, work: Callable[[], None]) -> Outcome:
    """Run work as the user, in the folder, in a process of its own."""
    native_machine(), "".encode("ascii")  # what the user may not be able to load
    fill(folder, fibers.user)
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    with out.open("wb") as first, err.open("wb") as second:
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.dup2(first.fileno(), 1)
                os.dup2(second.fileno(), 2)
                os.chdir(folder)
                if fibers.identity():
                    os.setgroups([])
                    os.setresgid(*[fibers.user] * 3)
                    os.setresuid(*[fibers.user] * 3)
                    # Another user's process may not be looked into, not even by itself.
                    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
                work()
                code = 0
            finally:
                if code:
                    traceback.print_exc()  # the parent shows what its child has said
                os._exit(code)
        _, status = os.waitpid(pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), out.read_bytes(), err.read_bytes())


def seen(fibers, folder: Path, words: list[str], drop=lambda _: False) -> tuple[Draft, Outcome]:
    """What is learnt of a program, and how it ended while it was watched."""
    words = [shutil.which(words[0], path=ENVIRONMENT["PATH"]) or words[0], *words[1:]]
    target = folder.with_suffix(".json")
    target.touch()
    os.chown(target, fibers.user, fibers.user)

    def work() -> None:
        program = find_image(words, str(folder))
        learnt: Learnt = learn(program, ENVIRONMENT, drop=drop)
        _, body = make_lesson(learnt, program, tuple(words), None, str(folder))
        target.write_text(json.dumps(body))

    outcome = free(fibers, folder, work)
    assert outcome.status == 0, outcome.err.decode()
    body = json.loads(target.read_text())
    (draft,) = parse_manifest(body["manifest"])
    print(body["manifest"])
    assert not body["problems"], body["problems"]
    return draft, replace(outcome, status=body["status"])


def held(fibers, folder: Path, draft: Draft) -> Outcome:
    """How a program ends under a manifest."""
    fill(folder, fibers.user)
    program = find_image(draft.program, str(folder))
    spec = complete(draft, program, environment=ENVIRONMENT, directory=str(folder))
    confined = confine(spec, HostLayers(**host_facts()), HostFiles())
    process = fibers.popen(confined, stdin=subprocess.DEVNULL)
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out, err)


def place(fibers, name: str) -> Path:
    program = PROGRAMS[name][0]
    if shutil.which(program, path=ENVIRONMENT["PATH"]) is None or (
        name == "git" and shutil.which("git") is None
    ):
        pytest.skip(f"{program} is not here, so whether it can be learnt is not checked")
    folder = fibers.folder / f"learn-{name}"
    folder.mkdir(exist_ok=True)
    return folder


def same(one: Outcome, other: Outcome) -> bool:
    return (one.status, one.out) == (other.status, other.out)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_passes_under_what_was_learnt_and_under_nothing_less(fibers, name: str) -> None:
    folder = place(fibers, name)
    draft, want = seen(fibers, folder, PROGRAMS[name])
    got = held(fibers, folder, draft)
    assert same(got, want), (got, want)
    assert draft.promises is not None
    for word in sorted(draft.promises):
        less = held(fibers, folder, replace(draft, promises=draft.promises - {word}))
        spare = same(less, want)
        assert spare == ((name, word) in CONSERVATIVE), f"{word}: {less}"


def test_a_learner_that_misses_one_kind_of_call_is_found_out(fibers) -> None:
    for name, call in (("cp", "openat"), ("touch", "utimensat"), ("pipeline", "execve")):
        folder = place(fibers, name)
        _, want = seen(fibers, folder, PROGRAMS[name])
        draft, _ = seen(fibers, folder, PROGRAMS[name], drop=lambda one, call=call: one == call)
        assert not same(held(fibers, folder, draft), want), call

"""What a fiber can reach outside, probe by probe, with every layer and with each one waived.

The probes are those that Landlock alone was measured to stop or to let through, the foreign
entries of the kernel, and what root can do without a capability. A run without confinement shows
that each gets through here, or why this host refuses it anyway.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from nexus.logic.confine import LAYERS

pytestmark = pytest.mark.slow

SPACES = frozenset(
    ["user namespace", "pid namespace", "ipc namespace", "mount namespace", "network namespace"]
)
MOUNTS, FILES = "mount namespace", "landlock files"
FILTER, SCOPES = "system call filter", "landlock scopes"
NET, TCP, IPC, PID = "network namespace", "landlock network", "ipc namespace", "pid namespace"
RIGHTS = "no capability"


@dataclass(frozen=True)
class Probe:
    """What holds a probe.

    Attributes:
        owners: layers of which each alone is enough.
        error: what it gets under the full policy.
    """

    owners: tuple[str, ...]
    error: int


ABSENT, DENIED, SILENT = errno.ENOENT, errno.EPERM, errno.ENOSYS
PROBES = {
    "stat": Probe((MOUNTS,), ABSENT),
    "access": Probe((MOUNTS,), ABSENT),
    "chdir": Probe((MOUNTS,), ABSENT),
    "readlink": Probe((MOUNTS,), ABSENT),
    "chmod": Probe((MOUNTS,), ABSENT),
    "chown": Probe((MOUNTS,), ABSENT),
    "utimensat": Probe((MOUNTS,), ABSENT),
    "setxattr": Probe((MOUNTS,), ABSENT),
    "inotify": Probe((MOUNTS,), ABSENT),
    "statfs": Probe((MOUNTS,), ABSENT),
    "unix_path": Probe((MOUNTS,), ABSENT),
    "unix_abstract": Probe((NET, SCOPES), errno.ECONNREFUSED),
    "udp": Probe((FILTER, NET), errno.EAFNOSUPPORT),
    "tcp": Probe((FILTER, NET, TCP), errno.EAFNOSUPPORT),
    "packet": Probe((FILTER, RIGHTS), errno.EAFNOSUPPORT),
    "shmget": Probe((FILTER, IPC), DENIED),
    "mq_open": Probe((FILTER, IPC), DENIED),
    "bpf": Probe((FILTER, RIGHTS), DENIED),
    "io_uring": Probe((FILTER,), SILENT),
    "userfaultfd": Probe((FILTER,), DENIED),
    "perf": Probe((FILTER,), DENIED),
    "ptrace": Probe((FILTER, PID, FILES), DENIED),
    "read_memory": Probe((FILTER, PID, FILES), DENIED),
    "signal": Probe((PID, SCOPES), errno.ESRCH),
    "environ": Probe((PID, FILES), ABSENT),
    "mount": Probe((FILTER, RIGHTS), DENIED),
    "open": Probe((MOUNTS, FILES), ABSENT),
    "truncate": Probe((MOUNTS, FILES), ABSENT),
    "unlink": Probe((MOUNTS, FILES), ABSENT),
    "exec": Probe((MOUNTS, FILES), ABSENT),
    "entry_32": Probe((FILTER,), -1),
    "entry_x32": Probe((FILTER,), -1),
    "sysctl": Probe((MOUNTS, FILES), errno.EROFS),
}
# Kernels refuse these to ordinary users, or do not have them at all.
REFUSED_ANYWAY = {
    "bpf": "unprivileged bpf is off",
    "packet": "raw sockets take a capability",
    "mount": "mounts take a capability",
    "perf": "performance counters are for root here",
    "userfaultfd": "userfaultfd is for root here",
    "io_uring": "io_uring is off here",
    "entry_32": "this kernel has no 32-bit entry",
    "entry_x32": "this kernel has no x32",
    "setxattr": "the file system of /tmp has no user attributes",
    "sysctl": "the file belongs to root",
    "ptrace": "ptrace is restricted here",
    "read_memory": "ptrace is restricted here",
    "environ": "ptrace is restricted here",
}
WAIVERS: list[frozenset[str]] = [
    frozenset(),
    *(frozenset([name]) for name in LAYERS if name != "user namespace"),
    SPACES,
    frozenset(LAYERS),  # the canary: nothing but the lost capabilities holds anything
]


class Outside:
    """What is to be reached: files, sockets, a queue, memory and a process."""

    def __init__(self, runner, program: Path, stack: ExitStack) -> None:
        self.runner = runner
        self.folder = runner.folder / "outside"
        self.program = runner.folder / "inside" / "probes"
        self.name = f"nexus-probe-{os.getpid()}-{runner.user}"
        for path in (self.folder, self.folder / "dir", self.program.parent):
            path.mkdir()
        shutil.move(program, self.program)
        shutil.copy(self.program, self.folder / "program")
        (self.folder / "link").symlink_to("file")
        self.refill()
        self.sockets = [stack.enter_context(closing(one)) for one in self.listen()]
        for path in (self.folder, *self.folder.iterdir()):
            os.chown(path, runner.user, runner.user, follow_symlinks=False)
        self.victim = subprocess.Popen(
            [self.program, "victim", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **runner.identity(),
        )
        stack.callback(self.victim.communicate)
        assert self.victim.stdout is not None
        assert self.victim.stdout.readline() == b"ready\n"

    def listen(self) -> list[socket.socket]:
        """One listener of each kind."""
        found = []
        for family, kind, place in (
            (socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "socket")),
            (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.name}"),
            (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        ):
            one = socket.socket(family, kind)
            one.bind(place)
            if kind == socket.SOCK_STREAM:
                one.listen(64)
            found.append(one)
        return found

    def refill(self) -> None:
        """Put back what a probe that got through has taken."""
        for name in ("file", "gone"):
            (self.folder / name).write_bytes(b"content")
            os.chown(self.folder / name, self.runner.user, self.runner.user)

    def words(self) -> list[str]:
        """How the probes are called."""
        ports = [str(one.getsockname()[1]) for one in self.sockets[2:]]
        return ["try", str(self.folder), str(self.victim.pid), *ports, self.name]

    def probe(self, waived: frozenset[str]) -> dict[str, str]:
        """What each probe gets in a fiber."""
        self.refill()
        done = self.runner.run(str(self.program), *self.words(), waived=waived)
        assert done.returncode == 0, done.stderr
        return parse(done.stdout)

    def probe_freely(self) -> dict[str, str]:
        """What each probe gets without confinement."""
        self.refill()
        done = subprocess.run(
            [self.program, *self.words()], capture_output=True, **self.runner.identity()
        )
        assert done.returncode == 0, done.stderr
        return parse(done.stdout)


def parse(out: bytes) -> dict[str, str]:
    found = dict(line.split() for line in out.decode().splitlines())
    assert found.keys() == PROBES.keys()
    return found


@pytest.fixture(scope="module")
def outside(fibers, compiled) -> Iterator[Outside]:
    with ExitStack() as stack:
        yield Outside(fibers, compiled("probes", fibers.folder), stack)


def word(number: str) -> str:
    """An outcome for people."""
    return number if number.startswith("SIG") else errno.errorcode.get(int(number), "through")


@pytest.fixture(scope="module")
def free(outside: Outside) -> dict[str, str]:
    """The control: each probe gets through when nothing holds it."""
    return outside.probe_freely()


def test_every_probe_gets_through_without_confinement(outside, free) -> None:
    refused = {name: word(got) for name, got in free.items() if got != "0"}
    for name, got in refused.items():
        print(f"uid {outside.runner.user}: {name} not checked: {REFUSED_ANYWAY.get(name)} ({got})")
    assert refused.keys() <= REFUSED_ANYWAY.keys(), refused
    allowed = 4 if outside.runner.user == 0 else 12
    assert len(refused) <= allowed, f"too little can be checked here: {refused}"


@pytest.mark.parametrize(
    "waived", WAIVERS, ids=lambda w: f"{len(w)} layers" if len(w) > 1 else "".join(w) or "nothing"
)
def test_each_probe_is_held_by_its_owners(outside, free, waived: frozenset[str]) -> None:
    got = outside.probe(waived)
    for name, probe in PROBES.items():
        left = [owner for owner in probe.owners if owner not in waived]
        if left:
            assert got[name] != "0", f"{name} gets through, though {left} should hold it"
        elif free[name] == "0":
            # A layer that nothing depends on is not an owner: the table must be true both ways.
            assert got[name] == "0", f"{name} is held by something else: {word(got[name])}"


def test_the_full_policy_answers_as_documented(outside) -> None:
    got = {name: word(number) for name, number in outside.probe(frozenset()).items()}
    want = {name: errno.errorcode.get(p.error, "SIG31") for name, p in PROBES.items()}
    if outside.runner.user != 0:
        want["sysctl"] = "EACCES"  # the file belongs to root
    if platform.machine() != "x86_64":
        want |= {"entry_32": "ENOSYS", "entry_x32": "ENOSYS"}  # there are none
    assert got == want

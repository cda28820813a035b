"""nexus-l0 from Python: what the host offers it, its images, and how it is started."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypedDict

from nexus._core import probe
from nexus._core.hash import blake3
from nexus.errors import AbsentError, StartError

__all__ = [
    "HostFacts",
    "execute_plan",
    "host_facts",
    "seal_image",
    "seal_plan",
    "spawn_supervisor",
    "supervisor_path",
]

# The interpreter ignores these two for itself; a program expects the default.
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ)
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE


def supervisor_path() -> str:
    """Where nexus-l0 is.

    Raises:
        AbsentError: this installation has none.
    """
    path = Path(probe.__file__).parent / "l0" / "nexus-l0"
    if not os.access(path, os.X_OK):
        raise AbsentError(
            f"the supervisor {path} is missing", hint="install the wheel of this machine again"
        )
    return str(path)


class HostFacts(TypedDict):
    """What policies ask about this host; the fields of `nexus.logic.confine.HostLayers`."""

    landlock: int
    namespaces: bool
    filter: bool
    machine: str


def host_facts() -> HostFacts:
    """Ask the kernel."""
    return {
        "landlock": max(0, probe.landlock()),
        "namespaces": probe.user_namespace() >= 0,
        "filter": probe.seccomp() >= 0,
        "machine": platform.machine(),
    }


def _sealed(name: str, data: bytes) -> int:
    descriptor = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def seal_plan(plan: bytes) -> int:
    """A descriptor of a sealed memfd that holds the plan."""
    return _sealed("nexus-plan", plan)


def seal_image(path: str) -> tuple[int, bytes]:
    """A program in a sealed memfd, and the BLAKE3 of it.

    Raises:
        OSError: the file cannot be read.
    """
    data = Path(path).read_bytes()
    return _sealed(Path(path).name, data), blake3(data)


def spawn_supervisor(
    words: Sequence[int], *, kept: Sequence[int], session: bool, stderr: int
) -> int:
    """`nexus-l0 serve` as a child that heeds every signal; its pid.

    Args:
        words: control connection, listening socket, error buffer.
        kept: descriptors that it holds besides until its end.
        session: give it a session of its own, so that no terminal's signal reaches it.
        stderr: where it writes what it has to say.

    Raises:
        StartError: the kernel refuses.
    """
    path = supervisor_path()
    for descriptor in (*words, *kept):
        os.set_inheritable(descriptor, True)
    try:
        return os.posix_spawn(
            path,
            [path, "serve", *map(str, words)],
            {},
            setsid=session,
            setsigmask=(),
            # Who starts a node in the background ignores these two, and its fibers must not.
            setsigdef=(*_DEFAULTED, signal.SIGINT, signal.SIGTERM) if session else _DEFAULTED,
            file_actions=[(os.POSIX_SPAWN_DUP2, stderr, 2)],
        )
    except OSError as error:
        raise StartError(
            error.errno or errno.EIO, f"cannot execute {path}: {error.strerror}"
        ) from error


def execute_plan(plan: bytes) -> NoReturn:
    """Become nexus-l0, which runs the plan as this very process.

    Raises:
        StartError: the kernel refuses.
    """
    path = supervisor_path()
    descriptor = seal_plan(plan)
    os.set_inheritable(descriptor, True)
    for number in _DEFAULTED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(path, [path, "run", str(descriptor)], {})  # noqa: S606 - that is the point
    except OSError as error:
        raise StartError(
            error.errno or errno.EIO, f"cannot execute {path}: {error.strerror}"
        ) from error

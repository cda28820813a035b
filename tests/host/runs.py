"""`nexus run` seen from outside: how it is called, on a terminal too, and what is left of it."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nexus._core import probe

RUN = (sys.executable, "-m", "nexus.cli", "run")
# A program of the system: shown by default, whatever the interpreter of the tests is.
SH = "/bin/sh"
WAIT_S = 30

needs_layers = pytest.mark.skipif(
    probe.user_namespace() < 0 or probe.landlock() < 6,
    reason="a run without waived layers takes user namespaces and Landlock 6: nothing of "
    "`nexus run` was checked here",
)


def wait_until(condition: Callable[[], object], seconds: float = WAIT_S) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def alive(word: str) -> list[int]:
    """Processes with a word on their command line, this one apart."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def state(pid: int) -> str:
    """The letter of a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def at_terminal(
    command: Sequence[str],
    folder: Path,
    *,
    user: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[tuple[int, int]]:
    """A command on a terminal of its own, which gets all it prints.

    Args:
        command: the program and its words.
        folder: where it runs.
        user: whom it runs as, when that is another.
        environment: all of it.

    Yields:
        Its pid, and the other end of the terminal.
    """
    pid, end = pty.fork()
    if pid == 0:
        # A job in the background of a script ignores it, and so would the fiber.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if user is not None and user != os.geteuid():
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        os.chdir(folder)
        os.execve(command[0], command, environment)
    try:
        yield pid, end
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.close(end)


def result_of(pid: int) -> int:
    """The exit code, which must come within the time of `wait_until`."""
    assert wait_until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

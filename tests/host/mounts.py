"""A volume that another process has mounted, for tests: it can be left, killed, and mounted again.

In another process, since a test that waits in a page fault would keep what the mount needs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

__all__ = ["NEEDS_MOUNT", "Mounted", "as_user", "command", "let_in"]

_LONG_S = 60.0

NEEDS_MOUNT = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0,
    reason="no mount was checked: needs root and /dev/fuse (modprobe fuse)",
)


def command(*words: object) -> None:
    """`nexus WORDS`, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "nexus.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def as_user(work: Callable[[], None]) -> None:
    """Runs it in another process as uid 65534."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def let_in(place: Path) -> None:
    """Lets other users go as far as this directory."""
    for folder in (place, *place.parents[:-1]):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)


class Mounted:
    """`nexus fs mount` of a volume, until the end of `with`."""

    def __init__(self, volume: Path, place: Path, *options: str) -> None:
        self.volume = volume
        self.place = place
        self._options = options
        self.start()

    def start(self) -> None:
        """Mounts it."""
        words = ["fs", "mount", *self._options, str(self.volume), str(self.place)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nexus.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("mounted"):
            raise OSError(self.process.communicate()[1])

    def leave(self) -> int:
        """Commits and unmounts it by SIGTERM; how the process ended."""
        self.process.send_signal(signal.SIGTERM)
        self.errors = self.process.communicate(timeout=_LONG_S)[1]
        self.wait_gone()
        return self.process.returncode

    def kill(self) -> None:
        """Ends the process as it is."""
        self.process.kill()
        self.process.communicate()
        self.wait_gone()

    def wait_gone(self) -> None:
        """Until nothing is mounted there."""
        until = time.monotonic() + _LONG_S
        while f" {self.place} " in Path("/proc/mounts").read_text():
            assert time.monotonic() < until, "it stays mounted"
            time.sleep(0.02)

    def again(self) -> None:
        """Commits, unmounts and mounts it."""
        assert self.leave() == 0, self.errors
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.leave()
        else:
            self.process.communicate()

"""The processes above a fiber die: the template, the warden of a life, the warden of the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus._core import probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        probe.user_namespace() < 0 or probe.landlock() < 6,
        reason="a run without waived layers takes user namespaces and Landlock 6: the deaths of "
        "a fiber's wardens were not tried here",
    ),
]

RUN = [sys.executable, "-m", "nexus.cli", "run"]
LIFE = "echo $$ >> lives; while :; do sleep 0.02; done"
SECONDS = 10.0


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def is_first(pid: int) -> bool:
    """Whether a process is number 1 of a namespace of its own."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("NSpid") and line.split()[-1] == "1" for line in lines)


def has_executed(warden: int) -> bool:
    """Whether the fiber of a warden runs its program; one that waits is still the supervisor's."""
    return any(Path(f"/proc/{one}/exe").readlink().name != "nexus-l0" for one in children(warden))


class Run:
    """A fiber that restarts, seen from outside."""

    def __init__(self, place: Path) -> None:
        self.lives_file = place / "lives"
        words = ["--restart", "always", "--", "/bin/sh", "-c", LIFE]
        self.process = subprocess.Popen([*RUN, *words], cwd=place)
        wait_until(lambda: self.lives() == 1 and self.is_complete())

    def is_complete(self) -> bool:
        """The template, the warden of this life and that of the next one, each with its fiber."""
        below = children(self.process.pid)
        return len(below) == 3 and sum(len(children(one)) for one in below) == 2

    def lives(self) -> int:
        return len(self.lives_file.read_text().split()) if self.lives_file.exists() else 0

    def template(self) -> int:
        (pid,) = [one for one in children(self.process.pid) if not is_first(one)]
        return pid

    def wardens(self) -> tuple[int, int]:
        """The one whose fiber runs, and the one that waits."""
        both = [one for one in children(self.process.pid) if is_first(one)]
        (busy,) = [one for one in both if has_executed(one)]
        (idle,) = [one for one in both if not has_executed(one)]
        return busy, idle

    def end_fiber(self) -> None:
        before = self.lives()
        (fiber,) = children(self.wardens()[0])
        os.kill(fiber, signal.SIGKILL)
        wait_until(lambda: self.lives() == before + 1)
        wait_until(self.is_complete)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    one = Run(tmp_path)
    yield one
    one.process.kill()
    one.process.wait()


def test_a_killed_fiber_comes_back_from_the_waiting_warden(run: Run) -> None:
    _, waiting = run.wardens()
    run.end_fiber()
    assert run.wardens()[0] == waiting


def test_a_killed_warden_is_a_death_of_the_fiber(run: Run) -> None:
    busy, _ = run.wardens()
    os.kill(busy, signal.SIGKILL)
    wait_until(lambda: run.lives() == 2)


def test_a_killed_template_leaves_the_life_alone_and_is_made_anew(run: Run) -> None:
    old = run.template()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: len(children(run.process.pid)) == 1)
    assert run.lives() == 1
    (fiber,) = children(children(run.process.pid)[0])
    os.kill(fiber, signal.SIGKILL)
    wait_until(lambda: run.lives() == 2 and run.is_complete())
    assert run.template() != old
    run.end_fiber()


def test_a_killed_waiting_warden_is_replaced_with_the_template(run: Run) -> None:
    busy, waiting = run.wardens()
    os.kill(waiting, signal.SIGKILL)
    wait_until(lambda: children(run.process.pid) == [busy])
    assert run.lives() == 1
    (fiber,) = children(busy)
    os.kill(fiber, signal.SIGKILL)
    wait_until(lambda: run.lives() == 2 and run.is_complete())


def test_everything_goes_with_the_supervisor(run: Run) -> None:
    below = children(run.process.pid)
    below += [one for pid in below for one in children(pid)]
    assert len(below) == 5
    run.process.kill()
    run.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))

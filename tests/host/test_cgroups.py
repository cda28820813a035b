"""Fibers in cgroups on this host: where a START puts them, and what is told where none can be."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus.errors import AbsentError, RefusedError, StartError
from nexus.logic.bkdl import Manifest, Policy, encode_plan
from nexus.logic.control import Control, FiberPlace
from nexus.physics.cgroups import find_cgroup, obstacle
from nexus.physics.control import ControlLink, control_pair
from nexus.physics.supervisor import host_facts, seal_plan, spawn_supervisor
from nexus.seams.supervisor import FiberEntry, FiberState, Operation, Request

WAIT_S = 30.0
CGROUP = 8
NODE = """
fiber "limited" { program "/bin/sleep" "1000"; limit memory="64M" files=16 }
fiber "free" { program "/bin/sleep" "1000"; limit files=16 }
"""


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, f"{what}: not in {WAIT_S} s"
        time.sleep(0.01)


class Supervisor:
    """A supervisor of nobody's node, and a fiber that sleeps."""

    def __init__(self) -> None:
        ours, theirs = control_pair()
        with theirs:
            self.pid = spawn_supervisor((theirs.fileno(),), kept=(), session=True, stderr=2)
        self.control = Control(ControlLink(ours))
        self.table = self.control.hello()
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        manifest = Manifest(
            name="sleeper",
            program="/bin/sh",
            arguments=("sh", "-c", "sleep 1000 & wait"),
            policy=Policy(pledge=2 << 62, tier=2, restart=2, intensity=5, period_ms=1000),
            environment=("PATH=/usr/bin:/bin",),
        )
        self.plan = seal_plan(encode_plan(manifest, image=-1, digest=None))

    def descriptors(self) -> list[int]:
        return [self.plan, self.null, self.null, self.null]

    def start(self, group: int) -> FiberPlace:
        answer = self.control.finish(self.control.post_start(self.descriptors(), cgroup=group))
        return FiberPlace(answer.slot, answer.generation)

    def fiber(self) -> FiberEntry:
        (found,) = self.table.fibers()
        return found

    def end(self) -> None:
        self.control.close()
        os.waitpid(self.pid, 0)
        os.close(self.plan)
        os.close(self.null)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    try:
        made = Supervisor()
    except AbsentError as error:
        pytest.skip(f"the placing of fibers in cgroups not checked: {error}")
    yield made
    made.end()


@pytest.fixture
def group() -> Iterator[Path]:
    """An empty cgroup, for which no controllers are needed; asked for before the supervisor, which
    is so ended before it is removed."""
    own = find_cgroup()
    place = Path(own or "/nowhere", f"nexus-test-{os.getpid()}")
    try:
        place.mkdir()
    except OSError as error:
        pytest.skip(f"the placing of fibers in cgroups not checked, which takes root: {error}")
    yield place
    until(lambda: members(place) == set(), "the end of the fiber's processes")
    place.rmdir()


def members(group: Path) -> set[int]:
    return {int(one) for one in (group / "cgroup.procs").read_text().split()}


def test_all_of_a_fiber_is_in_its_group_and_stays_there_over_phoenix(
    group: Path, supervisor: Supervisor
) -> None:
    descriptor = os.open(group, os.O_PATH | os.O_DIRECTORY)
    supervisor.start(descriptor)
    os.close(descriptor)
    # Two processes of the program, its warden, the template, and the next life with its warden.
    until(lambda: len(members(group)) == 6, "all processes")
    first = supervisor.fiber().pid
    assert first in members(group)
    assert not members(group) & {supervisor.pid, os.getpid()}
    before = members(group)
    supervisor.control.shutdown(phoenix=True)
    until(lambda: supervisor.fiber().lives == 2, "the life after Phoenix")
    until(lambda: supervisor.fiber().state == FiberState.ALIVE, "that it is alive")
    until(lambda: len(members(group)) == 6, "all processes after Phoenix")
    assert supervisor.fiber().pid in members(group)
    assert not before & members(group)


def test_what_is_no_cgroup_fails_the_start_at_its_stage(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(StartError, match="clone") as caught:
        supervisor.start(descriptor)
    assert caught.value.errno == errno.EBADF
    os.close(descriptor)


def test_a_group_that_was_removed_fails_the_start(group: Path, supervisor: Supervisor) -> None:
    gone = group / "gone"
    gone.mkdir()
    descriptor = os.open(gone, os.O_PATH | os.O_DIRECTORY)
    gone.rmdir()
    with pytest.raises(StartError, match="clone") as caught:
        supervisor.start(descriptor)
    assert caught.value.errno in (errno.ENOENT, errno.ENODEV)
    os.close(descriptor)


@pytest.mark.parametrize("flags", [CGROUP, CGROUP << 1])
def test_a_start_without_the_directory_or_with_an_unknown_flag_is_refused(
    supervisor: Supervisor, flags: int
) -> None:
    posted = Request(Operation.START, flags, descriptors=supervisor.descriptors())
    with pytest.raises(RefusedError, match="EINVAL"):
        supervisor.control.finish(supervisor.control.post(posted))


@pytest.mark.slow
def test_a_node_that_can_have_no_cgroup_says_whose_limits_are_each_process_s(
    tmp_path: Path,
) -> None:
    why = obstacle(find_cgroup(), os.getpid())
    if not why:
        pytest.skip("the boot without cgroups not checked: this process can have them")
    facts = host_facts()
    if not facts["filter"] or not facts["namespaces"] or facts["landlock"] < 6:
        pytest.skip(f"the boot without cgroups not checked, this host lacks layers: {facts}")
    (tmp_path / "node").mkdir(mode=0o700)
    (tmp_path / "node" / "node.kdl").write_text(NODE)
    words = [sys.executable, "-m", "nexus.cli", "boot", "--json", "--node", str(tmp_path / "node")]
    child = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        (one,) = told["per_process"]
        assert one["fiber"] == "limited"
        assert one["why"]
        policy = json.loads((tmp_path / "node" / "policy" / "limited").read_text())
        assert {(each["name"], each["by"]) for each in policy["limits"]} == {
            ("memory", "rlimit"), ("files", "rlimit"),
        }  # fmt: skip
    finally:
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=WAIT_S)
    assert child.returncode == 0

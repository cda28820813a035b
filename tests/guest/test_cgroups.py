"""Limits of a whole fiber: what its processes have together, where the node has cgroups.

Each limit has its control: the same fiber on a node that sees no cgroup is not stopped. A kernel
whose memory is to run out, and who may make cgroups at all, are a guest's alone.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nexus.cli import main
from nexus.logic.control import Control
from nexus.membrane.directory import NodeDirectory
from nexus.physics.control import connect_node
from nexus.seams.supervisor import FiberEntry, FiberState

pytestmark = pytest.mark.guest("edu")

WAIT_S = 120  # everything takes ten to twenty times as long here
ROOT = Path("/sys/fs/cgroup")
WAIVED = ("--waive", "landlock-network", "--waive", "landlock-scopes")
# tail keeps what may be the end of its input until there is no more input: four times 12 MiB. The
# four run side by side, and their ends lie closer together than they wait.
HUNGRY = """
for i in 1 2 3 4; do
    (head -c 12M /dev/zero; sleep 10) | tail -c 12M | wc -c &
done
wait
echo done
"""
BOMB = """
i=0
while [ $i -lt 40 ]; do sleep 1000 & i=$((i + 1)); done
echo made $i
wait
"""
NODE = """
fiber "hungry" {{
    program "/bin/sh" "-c" {hungry}
    pledge "stdio" "rpath" "proc" "exec"
    limit memory="32M"
}}
fiber "bomb" {{
    program "/bin/sh" "-c" {bomb}
    pledge "stdio" "rpath" "proc" "exec"
    limit processes=20
    restart "never"
}}
fiber "lasting" {{
    program "/bin/sleep" "1000"
    pledge "stdio" "rpath"
    limit memory="64M" processes=1
    restart "always"
}}
fiber "free" {{ program "/bin/sleep" "1000"; pledge "stdio" "rpath"; limit files=16 }}
"""
LATE = """
fiber "late" {
    program "/bin/sleep" "1000"
    pledge "stdio" "rpath"
    limit processes=3
    waive "landlock-network" "landlock-scopes"
}
"""
# The mount goes in a namespace of its own, so that this node alone has no cgroup.
BLIND = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup && exec "$@"', "sh")


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, f"{what}: not in {WAIT_S} s"
        time.sleep(0.1)


class Node:
    """A node in the foreground of this guest."""

    def __init__(self, folder: Path, before: tuple[str, ...]) -> None:
        self.directory = NodeDirectory(folder)
        folder.mkdir(mode=0o700)
        text = NODE.format(hungry=json.dumps(HUNGRY), bomb=json.dumps(BOMB))
        (folder / "node.kdl").write_text(text)
        words = ("boot", "--json", "--node", str(folder), *WAIVED)
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "nexus.cli", *words], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline())
        self.control = Control(connect_node(self.directory.control))
        self.table = self.control.hello()

    def fiber(self, name: str) -> FiberEntry:
        (found,) = [one for one in self.table.fibers() if one.name == name]
        return found

    def log(self, name: str) -> list[str]:
        return self.directory.log(name).read_text().splitlines()

    def limits(self, name: str) -> dict[str, str]:
        policy = self.directory.read_policy(name)
        assert policy is not None
        return {one["name"]: one["by"] for one in policy["limits"]}

    def end(self) -> None:
        self.control.close()
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=WAIT_S)


@contextmanager
def booted(folder: Path, before: tuple[str, ...] = ()) -> Iterator[Node]:
    node = Node(folder, before)
    try:
        yield node
    finally:
        node.end()
    assert node.process.returncode == 0


def over(node: Node, name: str) -> bool:
    return node.fiber(name).state == FiberState.OVER


def events(name: str, file: str) -> dict[str, int]:
    lines = (ROOT / f"fiber-{name}" / file).read_text().splitlines()
    return {word: int(number) for word, number in (line.split() for line in lines)}


def members(name: str) -> set[int]:
    return {int(one) for one in (ROOT / name / "cgroup.procs").read_text().split()}


def fork_bomb_is_over(node: Node) -> bool:
    return over(node, "bomb") or any("made" in line for line in node.log("bomb"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One for the tests of limits that hold, with what they stop: a node is half a minute here."""
    with booted(tmp_path_factory.mktemp("limits") / "node") as made:
        until(lambda: fork_bomb_is_over(made), "the end of the fork bomb")
        until(lambda: over(made, "hungry"), "the end of what is hungry")
        yield made
    # When it ends nothing of its own is left.
    assert not list(ROOT.glob("fiber-*"))
    assert not (ROOT / "supervisor").exists()
    assert not {"memory", "pids"} & set((ROOT / "cgroup.subtree_control").read_text().split())


def test_what_is_below_each_process_limit_but_not_below_the_fibers_is_stopped(node: Node) -> None:
    assert node.told["per_process"] == []
    assert (node.limits("hungry"), node.limits("bomb"), node.limits("free")) == (
        {"memory": "cgroup"}, {"processes": "cgroup"}, {"files": "rlimit"},
    )  # fmt: skip
    assert {node.process.pid, node.told["pid"], node.fiber("free").pid} <= members("supervisor")
    # All of a fiber is inside: its template, its warden and its life at the least.
    inside = members("fiber-lasting")
    assert node.fiber("lasting").pid in inside
    assert len(inside) > 2
    assert not inside & members("supervisor")
    assert not (ROOT / "fiber-free").exists()
    assert "made 40" not in node.log("bomb")
    assert events("bomb", "pids.events")["max"] > 0
    assert events("hungry", "memory.events")["oom_kill"] > 0
    assert node.log("hungry").count(str(12 << 20)) < 4
    assert int((ROOT / "fiber-hungry" / "memory.max").read_text()) == 32 << 20


def test_lives_after_phoenix_are_inside_and_a_late_fiber_gets_a_group(node: Node) -> None:
    before = node.fiber("lasting")
    node.control.shutdown(phoenix=True)
    until(lambda: node.fiber("lasting").lives > before.lives, "the life after Phoenix")
    until(lambda: node.fiber("lasting").state == FiberState.ALIVE, "that it is alive")
    after = node.fiber("lasting")
    assert after.pid != before.pid
    assert after.pid in members("fiber-lasting")
    with node.directory.node_file.open("a") as file:
        file.write(LATE)
    folder = str(node.directory.path)
    assert main(["fiber", "start", "late", "--node", folder]) == 0
    assert node.limits("late") == {"processes": "cgroup"}
    assert node.fiber("late").pid in members("fiber-late")
    assert int((ROOT / "fiber-late" / "pids.max").read_text()) == 3 + 4


def test_the_control_without_a_cgroup_is_not_stopped_and_says_so(tmp_path: Path) -> None:
    with booted(tmp_path / "node", BLIND) as node:
        assert [one["fiber"] for one in node.told["per_process"]] == ["hungry", "bomb", "lasting"]
        assert "no cgroup2" in node.told["per_process"][0]["why"]
        assert (node.limits("hungry"), node.limits("bomb")) == (
            {"memory": "rlimit"}, {"processes": "rlimit"},
        )  # fmt: skip
        until(lambda: "made 40" in node.log("bomb"), "all of the fork bomb")
        until(lambda: over(node, "hungry"), "the end of what is hungry")
        assert node.log("hungry") == [str(12 << 20)] * 4 + ["done"]

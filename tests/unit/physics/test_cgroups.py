"""Where a node can have cgroups, over made-up trees: files that take what is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexus.physics.cgroups import CONTROLLERS, NodeCgroups, find_cgroup, obstacle

LIMITS = {"memory": 1 << 20, "processes": 9, "files": 5}


class Tree:
    """A process's directory in /proc, and the cgroup mount that it tells of."""

    def __init__(self, folder: Path, own: str, *, root: str = "/", kind: str = "cgroup2") -> None:
        self.process = folder / "proc"
        self.mount = folder / "a mount"
        self.process.mkdir()
        self.mount.mkdir()
        place = str(self.mount).replace(" ", "\\040")
        (self.process / "cgroup").write_text(f"4:memory:/elsewhere\n0::{own}\n")
        (self.process / "mountinfo").write_text(
            "30 1 0:1 / /proc rw shared:1 - proc proc rw\n"
            f"31 1 0:2 {root} {place} rw,relatime shared:4 master:1 - {kind} none rw\n"
        )

    def fill(self, group: Path, controllers: str, *members: int) -> Path:
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.controllers").write_text(controllers)
        (group / "cgroup.procs").write_text("\n".join(map(str, members)))
        (group / "cgroup.subtree_control").write_text("")
        return group


@pytest.mark.parametrize(
    ("own", "root", "found"),
    [
        ("/", "/", "."),
        ("/user.slice/one", "/", "user.slice/one"),
        ("/user.slice/one", "/user.slice", "one"),
        ("/user.slice", "/user.slice", "."),
        ("/user.slices/one", "/user.slice", None),
        ("/other", "/user.slice", None),
        ("/../outside", "/", None),
    ],
)
def test_the_own_group_is_found_below_the_mount(
    tmp_path: Path, own: str, root: str, found: str | None
) -> None:
    tree = Tree(tmp_path, own, root=root)
    assert find_cgroup(tree.process) == (None if found is None else tree.mount / found)


def test_version_1_alone_is_no_place(tmp_path: Path) -> None:
    assert find_cgroup(Tree(tmp_path, "/", kind="cgroup").process) is None
    assert find_cgroup(tmp_path / "no process") is None
    assert "no cgroup2" in obstacle(None, 1)


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/here")
    group = tree.fill(tree.mount / "here", "cpu pids", 7)
    assert obstacle(group, 7).endswith("has no controller memory")
    tree.fill(group, "cpu memory pids", 7, 8)
    assert obstacle(group, 7) == "", "the root of all may have processes"
    (group / "cgroup.type").write_text("domain\n")
    assert "1 more processes" in obstacle(group, 7)
    tree.fill(group, "cpu memory pids", 7)
    assert obstacle(group, 7) == ""
    (group / "cgroup.subtree_control").unlink()
    assert obstacle(group, 7).endswith("cgroup.subtree_control is not writable")


def test_without_controllers_nothing_is_made(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/")
    tree.fill(tree.mount, "cpu")
    groups = NodeCgroups.enter(tree.process)
    assert groups.gap.endswith("has no controller memory or pids")
    assert sorted(one.name for one in tree.mount.iterdir()) == [
        "cgroup.controllers", "cgroup.procs", "cgroup.subtree_control",
    ]  # fmt: skip
    made = groups.make("one", LIMITS)
    assert (made.descriptor, made.held, made.gap) == (None, frozenset(), groups.gap)


def test_a_refusal_to_enable_is_told_and_the_process_goes_back(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/")
    tree.fill(tree.mount, "memory pids")
    control = tree.mount / "cgroup.subtree_control"
    control.unlink()
    control.mkdir()  # what cannot be written, even by root
    groups = NodeCgroups.enter(tree.process)
    assert "+pids in " in groups.gap
    assert (tree.mount / "cgroup.procs").read_text() == str(os.getpid())
    assert groups.make("one", LIMITS).descriptor is None


def test_a_group_has_the_limits_that_its_controllers_hold(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/supervisor")
    aside = tree.fill(tree.mount / "supervisor", "memory pids")
    control = tree.mount / "cgroup.subtree_control"
    groups = NodeCgroups(aside.parent, "")
    for enabled, held in (("cpu memory pids", set(CONTROLLERS)), ("pids", {"processes"})):
        control.write_text(enabled)
        made = groups.make("odd name/" + enabled[:1], LIMITS)
        place = tree.mount / ("fiber-odd%20name%2f" + enabled[:1])
        assert made.descriptor is not None
        assert os.path.samestat(os.fstat(made.descriptor), place.stat())
        os.close(made.descriptor)
        assert made.held == held
        assert (place / "pids.max").read_text() == "13"
        assert (place / "memory.max").exists() == ("memory" in held)
    assert groups.make("none", {"files": 5}).gap == ""
    control.write_text("cpu")
    refused = groups.make("none", LIMITS)
    assert refused.descriptor is None
    assert "hands no controllers on" in refused.gap


def test_a_group_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/")
    (tree.mount / "cgroup.subtree_control").write_text("pids")
    taken = tree.mount / "fiber-one"
    taken.mkdir()
    (taken / "in use").write_text("")  # as a cgroup with processes is, it cannot be removed
    made = NodeCgroups(tree.mount, "").make("one", LIMITS)
    assert made.descriptor is None
    assert str(taken) in made.gap
    assert [one.name for one in taken.iterdir()] == ["in use"]


def test_an_end_removes_what_is_empty_and_disables_what_it_enabled(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/")
    tree.fill(tree.mount, "memory pids")
    for name in ("fiber-gone", "fiber-used/x", "other", "supervisor"):
        (tree.mount / name).mkdir(parents=True)
    groups = NodeCgroups(tree.mount, "", ("pids",))
    groups.leave()
    names = {one.name for one in tree.mount.iterdir() if one.is_dir()}
    assert names == {"fiber-used", "other"}
    assert (tree.mount / "cgroup.subtree_control").read_text() == "-pids"
    assert (tree.mount / "cgroup.procs").read_text() == str(os.getpid())
    (tree.mount / "cgroup.procs").write_text("")
    groups.leave()
    assert (tree.mount / "cgroup.procs").read_text() == ""


def test_a_node_without_groups_gives_a_late_fiber_none() -> None:
    groups = NodeCgroups.beside(os.getpid())
    assert groups.gap == "the node was booted without cgroups"
    assert groups.make("late", LIMITS).descriptor is None

"""Cgroups of a node: where this process may make some, and one for each fiber with such a limit.

docs/spec/node.md ("Cgroup of a fiber") has the steps. A cgroup of version 2 that has processes
hands no controllers on, so whoever boots a node first goes into a child, `supervisor`, and its
supervisor with it; then the controllers are enabled and the fibers' groups made beside.

Guarantees. Nothing is written in a cgroup that was not made here, but for its own process and
`cgroup.subtree_control`, and what was enabled there is disabled at the end. A refusal of the
kernel is an outcome: the text says what was refused, and the limits stay rlimits.

Not handled: cgroups of version 1; threaded cgroups, whose refusals are outcomes, too.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONTROLLERS", "PROC", "REMEDY", "FiberCgroup", "NodeCgroups", "find_cgroup", "obstacle"]

PROC = Path("/proc")
# The controller that holds a limit of a manifest for all processes of a fiber together.
CONTROLLERS = {"memory": "memory", "processes": "pids"}
SUPERVISOR = "supervisor"
PREFIX = "fiber-"
# Template, two wardens, and what waits to become the next life: docs/spec/node.md.
OWN_PROCESSES = 4
REMEDY = "start it in a cgroup of its own: systemd-run --scope -p Delegate=yes nexus boot"
_PLAIN = re.compile(rb"[^A-Za-z0-9._-]")
_OCTAL = re.compile(r"\\([0-7]{3})")


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def find_cgroup(process: Path = PROC / "self") -> Path | None:
    """The directory of a process's cgroup v2, as far as a mount that we see has it.

    Args:
        process: its directory in /proc.
    """
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in groups if line.startswith("0::/")), None)
    if own is None or own.startswith("/.."):  # outside of our cgroup namespace
        return None
    for line in mounts:
        before, _, after = line.partition(" - ")
        if after.split()[0] != "cgroup2":
            continue
        root, place = (_unescape(word) for word in before.split()[3:5])
        if root == "/" or own == root or own.startswith(root + "/"):
            return Path(place, own.removeprefix(root).lstrip("/"))
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _refusal(error: OSError, path: Path) -> str:
    return f"{path}: {error.strerror}"


def obstacle(group: Path | None, pid: int) -> str:
    """Why a process cannot hand controllers of its cgroup on; nothing is tried, empty for nothing.

    Args:
        group: as `find_cgroup` found it.
        pid: of the process, which is not in its own way.
    """
    if group is None:
        return "no cgroup2 is mounted that has this process"
    offered = set(_words(group / "cgroup.controllers"))
    missing = sorted(set(CONTROLLERS.values()) - offered)
    if missing:
        return f"{group} has no controller {' or '.join(missing)}"
    for name in ("", "cgroup.procs", "cgroup.subtree_control"):
        if not os.access(group / name, os.W_OK):
            return f"{group / name} is not writable"
    # The root has no type, and may have processes.
    others = set(_words(group / "cgroup.procs")) - {str(pid)}
    if (group / "cgroup.type").exists() and others:
        return f"{group} has {len(others)} more processes, and hands no controllers on"
    return ""


def _directory(group: Path, name: str) -> Path:
    plain = _PLAIN.sub(lambda found: b"%%%02x" % found[0][0], os.fsencode(name))
    return group / (PREFIX + plain.decode())


@dataclass(frozen=True, slots=True)
class FiberCgroup:
    """What came of asking for a fiber's group.

    Attributes:
        descriptor: of its directory, the receiver's to close; None: there is none.
        held: the limits that it holds.
        gap: why it does not hold the others; empty when it does.
    """

    descriptor: int | None
    held: frozenset[str]
    gap: str


class NodeCgroups:
    """The cgroup below which a node's fibers have theirs.

    Args:
        path: its directory; None: there is none.
        gap: why some controller is not there for fibers.
        mine: controllers that this object enabled.

    Attributes:
        gap: see there.
    """

    def __init__(self, path: Path | None, gap: str, mine: tuple[str, ...] = ()) -> None:
        self._path = path
        self._mine = mine
        self.gap = gap

    @classmethod
    def enter(cls, process: Path = PROC / "self") -> NodeCgroups:
        """Move this process aside and enable what there is; what failed is undone, and told."""
        group = find_cgroup(process)
        if group is None:
            return cls(None, obstacle(None, 0))
        wanted = set(CONTROLLERS.values())
        offered = wanted & set(_words(group / "cgroup.controllers"))
        if not offered:
            return cls(None, f"{group} has no controller {' or '.join(sorted(wanted))}")
        aside = group / SUPERVISOR
        try:
            aside.mkdir(exist_ok=True)
            (aside / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.rmdir()
            return cls(None, _refusal(error, aside))
        control = group / "cgroup.subtree_control"
        enabled = set(_words(control))
        mine, gap = [], ""
        for name in sorted(wanted - enabled):
            try:
                control.write_text(f"+{name}")
                mine.append(name)
            except OSError as error:
                gap = f"+{name} in {_refusal(error, control)}"
        made = cls(group, gap, tuple(mine))
        made._sweep()
        if not wanted & set(_words(control)):
            made.leave()
        return made

    @classmethod
    def beside(cls, pid: int) -> NodeCgroups:
        """Where the fibers of a node have theirs whose supervisor runs already."""
        aside = find_cgroup(PROC / str(pid))
        if aside is None or aside.name != SUPERVISOR:
            return cls(None, "the node was booted without cgroups")
        return cls(aside.parent, "")

    def make(self, fiber: str, limits: Mapping[str, int]) -> FiberCgroup:
        """The group of a fiber, empty and with its limits; for none of these limits there is none.

        Args:
            fiber: its name.
            limits: those of its manifest.
        """
        wanted = {name: CONTROLLERS[name] for name in CONTROLLERS if name in limits}
        if self._path is None or not wanted:
            return FiberCgroup(None, frozenset(), self.gap if wanted else "")
        there = _words(self._path / "cgroup.subtree_control")
        held = frozenset(name for name, controller in wanted.items() if controller in there)
        if not held:
            return FiberCgroup(None, held, self.gap or f"{self._path} hands no controllers on")
        place = _directory(self._path, fiber)
        try:
            with contextlib.suppress(FileNotFoundError):
                place.rmdir()  # one that has processes is another node's
            place.mkdir()
            if "memory" in held:
                (place / "memory.max").write_text(str(limits["memory"]))
                if (place / "memory.swap.max").exists():
                    (place / "memory.swap.max").write_text("0")
            if "processes" in held:
                (place / "pids.max").write_text(str(limits["processes"] + OWN_PROCESSES))
            descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            with contextlib.suppress(OSError):
                place.rmdir()
            return FiberCgroup(None, frozenset(), _refusal(error, place))
        return FiberCgroup(descriptor, held, self.gap if len(held) < len(wanted) else "")

    def _sweep(self) -> None:
        """Remove the groups of fibers that are gone; what has processes stays by itself."""
        assert self._path is not None
        for place in self._path.glob(PREFIX + "*"):
            with contextlib.suppress(OSError):
                place.rmdir()

    def leave(self) -> None:
        """Undo what `enter` did, as far as nobody else is there; a second time does nothing."""
        if self._path is None:
            return
        self._sweep()
        for name in self._mine:
            with contextlib.suppress(OSError):
                (self._path / "cgroup.subtree_control").write_text(f"-{name}")
        with contextlib.suppress(OSError):
            (self._path / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.suppress(OSError):
            (self._path / SUPERVISOR).rmdir()
        self._path = None

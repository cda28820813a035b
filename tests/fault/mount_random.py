"""Random operations on a mounted volume, and on a model of it in memory, which must agree.

    python -m tests.fault.mount_random --operations 1000000 --seed 1

Every operation must end alike, with the same errno. The whole tree is compared every so many
operations, before and behind a commit, and after it was unmounted and mounted again.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from nexus.fs import Volume
from tests.host.mounts import Mounted

NAMES = [f"n{i}" for i in range(14)] + ["long" * 60, "\udcff", "later.txt"]
DEPTH_MAX = 4
THIN_EVERY = 200
NODES_MAX = 150
DEPTH_LAST = 9  # with what renames add
SIZE_MAX = 400_000
COMPARE_EVERY = 20_000
REMOUNT_EVERY = 50_000
_EXCHANGE, _NOREPLACE = 2, 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# What the model says, an errno or 0, and the call that does the same.
Operation: TypeAlias = tuple[int, Callable[[], object]]


class DifferentError(AssertionError):
    """The volume is not what the model says."""


class Node:
    """A file, directory or link of the model."""

    def __init__(self, kind: int, mode: int) -> None:
        self.kind = kind
        self.mode = mode
        self.data = bytearray()
        self.target = ""
        self.children: dict[str, Node] = {}
        self.links = 1
        self.xattrs: dict[str, bytes] = {}
        self.mtime_ns: int | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return self.kind == stat.S_IFDIR


def below(node: Node, wanted: Node) -> bool:
    """Whether a directory is another one, or lies in it."""
    return node is wanted or any(
        child.is_folder and below(child, wanted) for child in node.children.values()
    )


def height(node: Node) -> int:
    """Directories in one another."""
    return 1 + max(
        (height(child) for child in node.children.values() if child.is_folder), default=0
    )


class Campaign:
    """One model and one mount.

    Args:
        mounted: what the operations are done on.
        seed: of the choices.
        planted: the model forgets that a punched hole is zeros; the canary.
    """

    def __init__(self, mounted: Mounted, seed: int, *, planted: bool = False) -> None:
        self.mounted = mounted
        self.random = random.Random(seed)
        self.root = Node(stat.S_IFDIR, 0o755)
        self.planted = planted
        self.count = self.nodes = 0
        self.ended: dict[str, int] = {}
        self.verbs = [
            name.removeprefix("do_") for name in sorted(dir(self)) if name.startswith("do_")
        ]

    def folder(self) -> tuple[Node, str]:
        """Any directory, and its path."""
        node, path = self.root, str(self.mounted.place)
        while self.random.random() < 0.6:
            folders = [name for name, child in node.children.items() if child.is_folder]
            if not folders:
                break
            name = self.random.choice(folders)
            node, path = node.children[name], f"{path}/{name}"
        return node, path

    def place(self, *, there: float = 0.8) -> tuple[Node, str, str]:
        """A directory, a name that is probably in it, and the path of that."""
        node, path = self.folder()
        if node.children and self.random.random() < there:
            name = self.random.choice(list(node.children))
        else:
            name = self.random.choice(NAMES)
        return node, name, f"{path}/{name}"

    def step(self) -> None:
        """One operation; both must end alike."""
        verb = self.random.choice(self.verbs)
        wanted, call = getattr(self, f"do_{verb}")()
        try:
            call()
            got = 0
        except OSError as error:
            got = error.errno or -1
        self.count += 1
        self.ended[verb] = self.ended.get(verb, 0) + (got == 0)
        if got != wanted:
            raise DifferentError(
                f"operation {self.count}, {verb}: {errno.errorcode.get(got, got)}, "
                f"the model says {errno.errorcode.get(wanted, wanted)}"
            )

    # Each has changed the model when it returns.

    def file(self, *, there: float = 0.95) -> tuple[Node | None, str, int]:
        """A file, or the errno of opening what is there instead."""
        node, name, path = self.place(there=there)
        child = node.children.get(name)
        if child is None:
            return None, path, errno.ENOENT
        if child.is_folder:
            return None, path, errno.EISDIR
        if child.kind == stat.S_IFLNK:
            return None, path, errno.ELOOP
        return child, path, 0

    def do_create(self) -> Operation:
        node, name, path = self.place(there=0.2)
        mode = self.random.choice([0o600, 0o644, 0o755, 0o7777])

        def call() -> None:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            os.fchmod(descriptor, mode)
            os.close(descriptor)

        if name in node.children:
            return errno.EEXIST, call
        node.children[name] = Node(stat.S_IFREG, mode)
        node.mtime_ns = None
        return 0, call

    def do_mkdir(self) -> Operation:
        node, name, path = self.place(there=0.2)
        if path.count("/") - str(self.mounted.place).count("/") > DEPTH_MAX:
            return self.do_create()
        if name in node.children:
            return errno.EEXIST, lambda: os.mkdir(path)
        node.children[name] = Node(stat.S_IFDIR, 0o755)
        node.mtime_ns = None
        return 0, lambda: os.mkdir(path, 0o755)

    def do_symlink(self) -> Operation:
        node, name, path = self.place(there=0.2)
        target = "to/" * self.random.randrange(1, 300)
        if name in node.children:
            return errno.EEXIST, lambda: os.symlink(target, path)
        child = node.children[name] = Node(stat.S_IFLNK, 0o777)
        child.target = target
        node.mtime_ns = None
        return 0, lambda: os.symlink(target, path)

    def do_unlink(self) -> Operation:
        node, name, path = self.place()
        child = node.children.get(name)
        if child is None or child.is_folder:
            wanted = errno.ENOENT if child is None else errno.EISDIR
            return wanted, lambda: os.unlink(path)
        child.links -= 1
        del node.children[name]
        node.mtime_ns = None
        return 0, lambda: os.unlink(path)

    def do_rmdir(self) -> Operation:
        node, name, path = self.place()
        child = node.children.get(name)
        if child is None or not child.is_folder or child.children:
            wanted = errno.ENOTEMPTY if child is not None and child.is_folder else errno.ENOTDIR
            return errno.ENOENT if child is None else wanted, lambda: os.rmdir(path)
        del node.children[name]
        node.mtime_ns = None
        return 0, lambda: os.rmdir(path)

    def do_link(self) -> Operation:
        node, name, path = self.place()
        other, new, target = self.place(there=0.2)
        child = node.children.get(name)

        def call() -> None:
            os.link(path, target, follow_symlinks=False)

        if child is None or new in other.children:
            return errno.ENOENT if child is None else errno.EEXIST, call
        if child.is_folder:
            return errno.EPERM, call
        other.children[new] = child
        child.links += 1
        other.mtime_ns = None
        return 0, call

    def do_rename(self) -> Operation:
        flags = self.random.choice([0, 0, 0, _NOREPLACE, _EXCHANGE])
        node, name, path = self.place()
        other, new, target = self.place(there=0.4)

        def call() -> None:
            code = _LIBC.renameat2(-100, os.fsencode(path), -100, os.fsencode(target), flags)
            if code != 0:
                raise OSError(ctypes.get_errno(), "rename")

        child, over = node.children.get(name), other.children.get(new)
        if max(self.deep(child, target), self.deep(over, path)) > DEPTH_LAST:
            return self.do_list()
        wanted = self.rename_ends(child, over, other, node, flags)
        if wanted != 0 or child is None or child is over:
            return wanted, call
        if flags == _EXCHANGE and over is not None:
            node.children[name], other.children[new] = over, child
        else:
            if over is not None:
                over.links -= 1
            del node.children[name]
            other.children[new] = child
        node.mtime_ns = other.mtime_ns = None
        return 0, call

    def deep(self, node: Node | None, path: str) -> int:
        """How deep the lowest of a directory would lie at a path."""
        if node is None or not node.is_folder:
            return 0
        return path.count("/") - str(self.mounted.place).count("/") + height(node)

    @staticmethod
    def rename_ends(
        child: Node | None, over: Node | None, other: Node, node: Node, flags: int
    ) -> int:
        """In the order in which the kernel looks."""
        if child is None:
            return errno.ENOENT
        if over is not None and flags == _NOREPLACE:
            return errno.EEXIST
        if over is None and flags == _EXCHANGE:
            return errno.ENOENT
        if child.is_folder and below(child, other):
            return errno.EINVAL
        if over is not None and over.is_folder and below(over, node):
            return errno.EINVAL if flags == _EXCHANGE else errno.ENOTEMPTY
        if over is None or over is child or flags == _EXCHANGE:
            return 0
        if child.is_folder != over.is_folder:
            return errno.ENOTDIR if child.is_folder else errno.EISDIR
        return errno.ENOTEMPTY if over.children else 0

    def do_write(self) -> Operation:
        child, path, wanted = self.file()
        at = self.random.randrange(SIZE_MAX) if self.random.random() < 0.3 else 0
        size = self.random.choice([1, 10, 700, 4096, 5000, 70_000])
        data = self.random.randbytes(size)
        appends = self.random.random() < 0.3

        def call() -> None:
            flags = os.O_WRONLY | os.O_NOFOLLOW | (os.O_APPEND if appends else 0)
            descriptor = os.open(path, flags)
            try:
                if os.pwrite(descriptor, data, at) != len(data):
                    raise OSError(errno.EIO, "short")
            finally:
                os.close(descriptor)

        if child is not None and appends and len(child.data) > SIZE_MAX:
            return 0, lambda: None
        if child is not None:
            at_ = len(child.data) if appends else at
            child.data.extend(bytes(max(0, at_ + size - len(child.data))))
            child.data[at_ : at_ + size] = data
            child.mtime_ns = None
        return wanted, call

    def do_truncate(self) -> Operation:
        child, path, wanted = self.file()
        size = self.random.choice([0, 1, 100, 4096, 65_536, self.random.randrange(SIZE_MAX)])

        def call() -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)

        if child is not None:
            del child.data[size:]
            child.data.extend(bytes(size - len(child.data)))
            child.mtime_ns = None
        return wanted, call

    def do_punch(self) -> Operation:
        child, path, wanted = self.file()
        at, size = self.random.randrange(SIZE_MAX), self.random.randrange(1, 150_000)

        def call() -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
            try:
                if _LIBC.fallocate(descriptor, 3, ctypes.c_long(at), ctypes.c_long(size)) != 0:
                    raise OSError(ctypes.get_errno(), "fallocate")
            finally:
                os.close(descriptor)

        if child is not None:
            end = min(at + size, len(child.data))
            if end > at and not self.planted:
                child.data[at:end] = bytes(end - at)
            child.mtime_ns = None
        return wanted, call

    def do_read(self) -> Operation:
        child, path, wanted = self.file()
        at, size = self.random.randrange(SIZE_MAX), self.random.choice([1, 4096, 100_000])

        def call() -> None:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                got = os.pread(descriptor, size, at)
            finally:
                os.close(descriptor)
            if child is not None and got != child.data[at : at + size]:
                raise DifferentError(f"operation {self.count}: {path} reads otherwise at {at}")

        return wanted, call

    def do_chmod(self) -> Operation:
        node, name, path = self.place()
        child = node.children.get(name)
        mode = self.random.choice([0o700, 0o755, 0o777])
        if child is not None and child.kind == stat.S_IFLNK:
            return 0, lambda: None
        if child is not None:
            child.mode = mode
        return 0 if child is not None else errno.ENOENT, lambda: os.chmod(path, mode)

    def do_utime(self) -> Operation:
        node, name, path = self.place()
        child = node.children.get(name)
        when = self.random.randrange(1 << 61) - (1 << 60)
        if child is not None:
            child.mtime_ns = when

        def call() -> None:
            os.utime(path, ns=(1, when), follow_symlinks=False)

        return 0 if child is not None else errno.ENOENT, call

    def do_xattr(self) -> Operation:
        child, path, wanted = self.file()
        key = f"user.{self.random.randrange(4)}"
        value = self.random.randbytes(self.random.choice([0, 5, 500]))
        if child is None:
            return 0, lambda: None
        if self.random.random() < 0.4:
            there = child.xattrs.pop(key, None) is not None
            return 0 if there else errno.ENODATA, lambda: os.removexattr(path, key)
        child.xattrs[key] = value
        return wanted, lambda: os.setxattr(path, key, value)

    def do_list(self) -> Operation:
        node, path = self.folder()

        def call() -> None:
            got = sorted(os.listdir(path))
            if got != sorted(node.children):
                raise DifferentError(f"operation {self.count}: {path} has {got}")

        return 0, call

    def do_sync(self) -> Operation:
        if self.random.random() > 0.02:
            return self.do_read()
        _, path = self.folder()

        def call() -> None:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

        return 0, call

    def walk(self, node: Node, path: str) -> Iterator[tuple[Node, str]]:
        """All of the model."""
        yield node, path
        for name, child in node.children.items():
            yield from self.walk(child, f"{path}/{name}")

    def compare(self) -> int:
        """Every name, byte and attribute; how many nodes."""
        count = 0
        inodes: dict[int, Node] = {}
        for node, path in self.walk(self.root, str(self.mounted.place)):
            status = os.lstat(path)
            links = 2 + sum(child.is_folder for child in node.children.values())
            wanted = (node.kind, node.mode, links if node.is_folder else node.links)
            got = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_nlink)
            if node is self.root:
                wanted, got = wanted[:1], got[:1]
            if inodes.setdefault(status.st_ino, node) is not node:
                raise DifferentError(f"{path}: number {status.st_ino} is another file's, too")
            if node.mtime_ns is not None and status.st_mtime_ns != node.mtime_ns:
                raise DifferentError(f"{path}: {status.st_mtime_ns}, not {node.mtime_ns}")
            if got != wanted or self.content(node, path) is not True:
                raise DifferentError(f"operation {self.count}: {path} is {got}, not {wanted}")
            count += 1
        return count

    @staticmethod
    def content(node: Node, path: str) -> bool:
        """Whether what is in it is the same."""
        if node.is_folder:
            return sorted(os.listdir(path)) == sorted(node.children)
        if node.kind == stat.S_IFLNK:
            return os.readlink(path) == node.target
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
        return (
            Path(path).read_bytes() == node.data
            and {name: os.getxattr(path, name) for name in names} == node.xattrs
        )

    def thin(self) -> None:
        """Takes away one of the top, with all below, where the tree has become large."""
        if sum(1 for _ in self.walk(self.root, "")) < NODES_MAX:
            return
        name = self.random.choice(list(self.root.children))
        path = f"{self.mounted.place}/{name}"
        for node, _ in self.walk(self.root.children.pop(name), ""):
            node.links -= 1
        self.root.mtime_ns = None
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def run(self, operations: int, *, compare_every: int, remount_every: int) -> None:
        """So many operations, with all that is between."""
        while self.count < operations:
            self.step()
            if self.count % THIN_EVERY == 0:
                self.thin()
            if self.count % compare_every == 0 or self.count == operations:
                self.compare()
            if self.count % remount_every == 0 or self.count == operations:
                self.mounted.again()
                self.nodes += self.compare()
                print(f"{self.count} operations, {self.nodes} nodes compared", flush=True)


def main() -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "mounted").mkdir()
        with Volume.create(place / "box"):
            pass
        with Mounted(place / "box", place / "mounted", "--commit-interval", "1") as mounted:
            campaign = Campaign(mounted, arguments.seed)
            campaign.run(
                arguments.operations, compare_every=COMPARE_EVERY, remount_every=REMOUNT_EVERY
            )
            print(f"{campaign.count} operations in {time.monotonic() - start:.0f} s; succeeded:")
            print(" ".join(f"{verb} {count}" for verb, count in sorted(campaign.ended.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())

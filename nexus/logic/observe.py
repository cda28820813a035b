"""What a system call would do to paths: its arguments as touches of a file tree.

A touch is a path without symbolic links, the rights of unveil that the call takes there, and the
links on the way. Paths that are not there leave no touch: a fiber that is not shown them meets the
same answer.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import Protocol

from nexus.logic.unveil import resolve
from nexus.seams.files import FileTree

__all__ = ["Caller", "Touch", "socket_path", "touches"]

_O_ACCESS, _O_CREAT, _O_EXCL, _O_TRUNC, _O_NOFOLLOW, _O_TMPFILE = (
    3, 0o100, 0o200, 0o1000, 0o400000, 0o20000000,
)  # fmt: skip
_AT_NOFOLLOW, _AT_FOLLOW, _AT_EMPTY = 0x100, 0x400, 0x1000
_CWD = 0xFFFFFF9C
_PROT_EXEC, _AF_UNIX = 4, 1


class Caller(Protocol):
    """Who made the call, as far as its arguments point to something."""

    def string(self, address: int) -> str | None:
        """The path at an address; None where its memory cannot be read."""
        ...

    def place(self, descriptor: int) -> str | None:
        """The path behind a descriptor, or of the working directory; None where there is none."""
        ...

    def memory(self, address: int, size: int) -> bytes | None:
        """Bytes at an address; None where they cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Touch:
    """What a call does to one path.

    Attributes:
        path: absolute, without links.
        rights: what it takes there, of rwxc; none where it is only asked about.
        directory: whether a directory is there.
        moves: the path's entry itself is made, removed or renamed, in its folder.
        used: the path as it was named, where links led from there to `path`, else the same.
    """

    path: str
    rights: str
    directory: bool
    moves: bool = False
    used: str = ""


# Where a call names paths: index of the descriptor they start from (None: the working directory),
# index of the path, rights there, whether a last link is followed (or the index of at-flags), and
# what becomes of the entry: nothing, or it is made, taken, either, or only linked.
_Row = tuple[int | None, int, str, "bool | str", str]
_NAMED: dict[str, tuple[_Row, ...]] = {}


def _rows(names: str, *rows: _Row) -> None:
    for name in names.split():
        _NAMED[name] = rows


_rows("stat statfs access getxattr listxattr chdir", (None, 0, "", True, ""))
_rows("lstat lgetxattr llistxattr readlink", (None, 0, "", False, ""))
_rows("inotify_add_watch", (None, 1, "r", True, ""))
_rows("newfstatat faccessat2 getxattrat", (0, 1, "", "flags 3", ""))
_rows("statx listxattrat", (0, 1, "", "flags 2", ""))
_rows("faccessat", (0, 1, "", True, ""))
_rows("readlinkat", (0, 1, "", False, ""))
_rows("truncate chmod chown utime utimes setxattr removexattr", (None, 0, "w", True, ""))
_rows("lchown lsetxattr lremovexattr", (None, 0, "w", False, ""))
_rows("fchmodat futimesat", (0, 1, "w", True, ""))
_rows("fchmodat2 utimensat", (0, 1, "w", "flags 3", ""))
_rows("setxattrat removexattrat", (0, 1, "w", "flags 2", ""))
_rows("fchownat", (0, 1, "w", "flags 4", ""))
_rows("mkdir mknod", (None, 0, "c", False, "made"))
_rows("mkdirat mknodat", (0, 1, "c", False, "made"))
_rows("symlink", (None, 1, "c", False, "made"))
_rows("symlinkat", (1, 2, "c", False, "made"))
_rows("unlink rmdir", (None, 0, "c", False, "taken"))
_rows("unlinkat", (0, 1, "c", False, "taken"))
_rows("rename", (None, 0, "c", False, "taken"), (None, 1, "c", False, "either"))
_rows("renameat renameat2", (0, 1, "c", False, "taken"), (2, 3, "c", False, "either"))
_rows("link", (None, 0, "", False, "linked"), (None, 1, "c", False, "made"))
_rows("linkat", (0, 1, "", False, "linked"), (2, 3, "c", False, "made"))
_rows("execve", (None, 0, "x", True, ""))
_rows("execveat", (0, 1, "x", "flags 4", ""))
# Of a descriptor that may have been opened for reading.
_OF_DESCRIPTOR = {"fchmod": "w", "fchown": "w", "fsetxattr": "w", "fremovexattr": "w"}
_ASKED = ((4, "r"), (2, "w"), (1, "x"))  # R_OK, W_OK, X_OK


class _Unread(Exception):
    """The caller's memory cannot be read."""


def _named(caller: Caller, descriptor: int, address: int) -> str | None:
    """The absolute path that a call names, as it is written; None for none."""
    text = caller.string(address)
    if text is None:
        raise _Unread
    if not text:
        return None
    if text.startswith("/"):
        return text
    start = caller.place(descriptor)
    return None if start is None else f"{start.rstrip('/')}/{text}"


def _touch(files: FileTree, named: str, rights: str, *, follow: bool, fate: str) -> Touch | None:
    """The touch of a named path; None where it is not there, and is not made either."""
    head, name = posixpath.split(named.rstrip("/"))
    whole = (follow and fate in ("", "opened")) or name in ("", ".", "..")
    links: dict[str, str] = {}
    path = resolve(files, named, links) if whole else None
    if path is None and name not in ("", ".", ".."):
        links = {}
        folder = resolve(files, head or "/", links)
        path = None if folder is None else posixpath.join(folder, name)
    kind = None if path is None else files.kind(path)
    if path is None or (kind is None and fate in ("", "taken", "linked")):
        return None
    if fate == "made" and kind is not None:
        rights, fate = "", ""  # it is there already, and the call says so
    if fate == "opened":
        rights, fate = (rights, "") if kind is not None else (rights + "c", "made")
    if kind == "link" and not fate:
        # A rule for a link shows where it leads; what is done to itself takes its folder.
        target = None if rights else resolve(files, path, {})
        if target is None:
            return Touch(path, rights or "r", False, moves=True, used=path)
        return Touch(target, "", files.kind(target) == "directory", used=path)
    used = posixpath.normpath(named) if links and "/.." not in named else path
    return Touch(path, rights, kind == "directory", moves=bool(fate), used=used)


def _opened(name: str, arguments: tuple[int, ...]) -> tuple[int, int, int]:
    """Descriptor, path and flags of an open."""
    if name == "openat":
        return arguments[0], arguments[1], arguments[2]
    return _CWD, arguments[0], _O_CREAT | _O_TRUNC | 1 if name == "creat" else arguments[1]


def _open(name: str, arguments: tuple[int, ...], caller: Caller, files: FileTree) -> list[Touch]:
    descriptor, address, flags = _opened(name, arguments)
    named = _named(caller, descriptor, address)
    if named is None:
        return []
    rights = {0: "r", 1: "w", 2: "rw"}.get(flags & _O_ACCESS, "rw")
    if flags & _O_TRUNC and "w" not in rights:
        rights += "w"
    if flags & _O_TMPFILE:
        rights += "c"
    follow = not flags & _O_NOFOLLOW and flags & (_O_CREAT | _O_EXCL) != _O_CREAT | _O_EXCL
    fate = "opened" if flags & _O_CREAT else ""
    found = _touch(files, named, rights, follow=follow, fate=fate)
    return [] if found is None else [found]


def socket_path(arguments: tuple[int, ...], caller: Caller) -> str | None:
    """The path in the address of a connect or bind; None for another address."""
    address = caller.memory(arguments[1], min(arguments[2] & 0xFFFFFFFF, 110))
    if address is None:
        raise _Unread
    if len(address) < 3 or int.from_bytes(address[:2], "little") != _AF_UNIX or not address[2]:
        return None
    text = address[2:].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return text if text.startswith("/") else f"{caller.place(_CWD) or '/'}/{text}"


def _follows(mark: bool | str, name: str, arguments: tuple[int, ...]) -> bool:
    if isinstance(mark, bool):
        return mark
    flags = arguments[int(mark.split()[1])]
    return bool(flags & _AT_FOLLOW) if name == "linkat" else not flags & _AT_NOFOLLOW


def _by_descriptor(
    descriptor: int, rights: str, caller: Caller, files: FileTree
) -> list[Touch]:  # fmt: skip
    path = caller.place(descriptor)
    kind = None if path is None else files.kind(path)
    if path is None or kind is None:
        return []
    return [Touch(path, rights, kind == "directory", used=path)]


def touches(
    name: str, arguments: tuple[int, ...], caller: Caller, files: FileTree
) -> list[Touch] | None:
    """What a call does to paths; None where the caller's memory cannot be read.

    Args:
        name: of the call.
        arguments: six.
        caller: reads what they point to.
        files: the tree that the caller sees.
    """
    try:
        return _touches(name, arguments, caller, files)
    except _Unread:
        return None


def _touches(
    name: str, arguments: tuple[int, ...], caller: Caller, files: FileTree
) -> list[Touch]:  # fmt: skip
    if name in ("open", "openat", "creat"):
        return _open(name, arguments, caller, files)
    if name in _OF_DESCRIPTOR:
        return _by_descriptor(arguments[0], _OF_DESCRIPTOR[name], caller, files)
    if name in ("mmap", "mprotect", "pkey_mprotect"):
        # An image that is mapped for execution takes a folder from which it may be.
        mapped = name == "mmap" and arguments[2] & _PROT_EXEC and not arguments[3] & 0x20
        return _by_descriptor(arguments[4], "x", caller, files) if mapped else []
    if name == "getcwd":
        return _by_descriptor(_CWD, "", caller, files)
    if name in ("connect", "bind"):
        path = socket_path(arguments, caller)
        if path is None:
            return []
        rights, fate = ("c", "made") if name == "bind" else ("r", "")
        touch = _touch(files, path, rights, follow=True, fate=fate)
        return [] if touch is None else [touch]
    return _by_name(name, arguments, caller, files)


def _by_name(
    name: str, arguments: tuple[int, ...], caller: Caller, files: FileTree
) -> list[Touch]:  # fmt: skip
    found_all = []
    for descriptor, index, rights, mark, fate in _NAMED.get(name, ()):
        if name == "utimensat" and arguments[1] == 0:
            return _by_descriptor(arguments[0], "w", caller, files)
        start = _CWD if descriptor is None else arguments[descriptor]
        named = _named(caller, start, arguments[index])
        if named is None:
            if rights == "x" and descriptor is not None:  # execveat of a descriptor
                return _by_descriptor(start, rights, caller, files)
            continue
        if "access" in name:
            mode = arguments[1] if name == "access" else arguments[2]
            rights = "".join(right for bit, right in _ASKED if mode & bit)
        follow = _follows(mark, name, arguments)
        touch = _touch(files, named, rights, follow=follow, fate=fate)
        if touch is None:
            continue
        if "access" in name and touch.directory and "w" not in rights:
            touch = replace(touch, rights="")  # every folder may be listed and searched
        found_all.append(touch)
    return found_all

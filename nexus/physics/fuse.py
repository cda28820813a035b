"""A mount of /dev/fuse: by mount(2) where this process may, else by the setuid fusermount3."""

from __future__ import annotations

import array
import errno
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from nexus._core.mount import LiveMount, Mount, attach, detach
from nexus.errors import AbsentError

__all__ = [
    "LiveMount",
    "Mount",
    "guard",
    "mount_fuse",
    "mounted_on",
    "scratch_place",
    "spare_bytes",
    "unmount_fuse",
]

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_DETACH = 2
_HELPER = "fusermount3"
_HINT = "as root: apt-get install fuse3   (or run it as root, or below unshare --user --mount -r)"


def mount_fuse(source: str, target: Path, *, allow_other: bool, writes: bool) -> int:
    """Mounts a filesystem of this process; the descriptor that its requests come from.

    Raises:
        AbsentError: no /dev/fuse, or neither the right to mount nor fusermount3.
        OSError: the target is no directory, or cannot be mounted on.
    """
    if not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no directory to mount on", os.fspath(target))
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        raise AbsentError(
            "/dev/fuse: this user may not open it, and fusermount3 refuses such a one, too",
            hint="as root: chmod 0666 /dev/fuse, which it is on most hosts",
        ) from None
    except OSError as error:
        raise AbsentError(
            f"/dev/fuse: {error.strerror}: no filesystem of a process can be mounted",
            hint="modprobe fuse, and in a container give it the device: --device /dev/fuse",
        ) from None
    options = (
        f"fd={descriptor},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},"
        "default_permissions,max_read=1048576"
    )
    if allow_other:
        options += ",allow_other"
    try:
        attach(
            os.fsencode(source),
            os.fsencode(target),
            options.encode(),
            (0 if writes else _MS_RDONLY) | _MS_NOSUID | _MS_NODEV,
        )
    except PermissionError:
        os.close(descriptor)
        return _by_helper(source, target, allow_other=allow_other, writes=writes)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _by_helper(source: str, target: Path, *, allow_other: bool, writes: bool) -> int:
    helper = shutil.which(_HELPER)
    if helper is None:
        raise AbsentError(
            f"this user may not mount, and {_HELPER}, which does it for users, is not installed",
            hint=_HINT,
        )
    # A comma or a backslash would end the option.
    name = source.replace("\\", "\\\\").replace(",", "\\,")
    options = (
        f"{'rw' if writes else 'ro'},nosuid,nodev,default_permissions,subtype=nexus,"
        f"fsname={name},max_read=1048576"
    )
    if allow_other:
        options += ",allow_other"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            [helper, "-o", options, "--", os.fspath(target)],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise OSError(errno.EPERM, done.stderr.strip(), os.fspath(target))
        room = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
        _, messages, _, _ = ours.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for _, _, data in messages:
        numbers.frombytes(data)
    return numbers[0]


def unmount_fuse(target: Path, *, lazy: bool) -> None:
    """Unmounts; `lazy`: also while it is in use.

    Raises:
        OSError: it is in use, or nothing is mounted there.
    """
    try:
        detach(os.fsencode(target), _MNT_DETACH if lazy else 0)
    except PermissionError:
        helper = shutil.which(_HELPER)
        if helper is None:
            raise
        words = [helper, "-u", *(["-z"] if lazy else []), "--", os.fspath(target)]
        done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise OSError(errno.EBUSY, done.stderr.strip(), os.fspath(target)) from None


def guard(target: Path) -> subprocess.Popen[bytes]:
    """A process that unmounts when this one is gone, however it ended.

    It waits at the end of a pipe; a line through it means that there is nothing left to do.
    """
    command = f'umount -l -- "$1" 2>/dev/null || {_HELPER} -u -z -- "$1" 2>/dev/null'
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read line || {command}", "sh", os.fspath(target)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def spare_bytes(place: Path) -> int:
    """What the medium below a directory has room for."""
    return shutil.disk_usage(place).free


def scratch_place(volume: Path) -> Path:
    """Where what is not committed lies: in a volume's directory, else where temporary files do."""
    return volume if volume.is_dir() else Path(tempfile.gettempdir())


def _unescaped(word: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), word)


def mounted_on(source: str) -> Path | None:
    """Where a volume is mounted to be written, as this process sees it; None: nowhere."""
    for line in Path("/proc/self/mounts").read_bytes().splitlines():
        what, where, kind, options = line.split(b" ")[:4]
        writes = b"rw" in options.split(b",")
        if kind == b"fuse.nexus" and writes and _unescaped(what) == os.fsencode(source):
            return Path(os.fsdecode(_unescaped(where)))
    return None

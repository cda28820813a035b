"""Media for NexFS on this host: opened by path, which decides what they are.

`open_flash` takes a file, a block device or /dev/mtdN; `create_flash` makes a file. What comes of
either is a `nexus.seams.flash.Flash`; docs/spec/flash.md says what it promises.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from nexus import errors
from nexus._core.flash import Flash

if TYPE_CHECKING:
    from nexus.seams import flash as seam

    _is_a_medium: type[seam.Flash] = Flash

__all__ = ["Flash", "create_flash", "open_flash"]

MTD_MAJOR = 90
BLOCK_SIZE = 1 << 20
PAGE_SIZE = 4096


def open_flash(
    path: str | os.PathLike[str],
    *,
    writable: bool = True,
    block_size: int | None = None,
    page_size: int | None = None,
) -> Flash:
    """Open a medium, and lock it against other writers.

    Args:
        path: a file, a block device, or the character device of an MTD.
        writable: False opens it beside other readers.
        block_size: bytes that one erase sets, of a file or block device alone; None: 1 MiB.
        page_size: bytes of a program, of a file or block device alone; None: 4,096, or the
            device's physical block if that is larger.

    Raises:
        OSError: it cannot be opened; a block device that is mounted is busy.
        MediumBusyError: another program has it.
        AbsentError: a character device that is no MTD, or an MTD that cannot be erased.
        ValueError: sizes that contradict each other, or sizes for an MTD, which has its own.
    """
    name = os.fspath(path)
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
    mode = Path(name).stat().st_mode
    if stat.S_ISBLK(mode) and writable:
        flags |= os.O_EXCL  # refuses what is mounted, as well as a second opener
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(f"{name} is neither a file nor a device")
    descriptor = os.open(name, flags)
    try:
        now = os.fstat(descriptor)
        if not stat.S_ISCHR(now.st_mode):
            return Flash.file(
                os.dup(descriptor),
                name,
                writable=writable,
                block_size=block_size or 0,
                page_size=page_size or 0,
            )
        if os.major(now.st_rdev) != MTD_MAJOR:
            raise errors.AbsentError(f"{name} is no MTD device", hint="name /dev/mtdN")
        if block_size is not None or page_size is not None:
            raise ValueError(f"{name} has a block and a page size of its own")
        return Flash.mtd(os.dup(descriptor), name, writable=writable)
    finally:
        os.close(descriptor)


def create_flash(
    path: str | os.PathLike[str],
    size: int,
    *,
    block_size: int = BLOCK_SIZE,
    page_size: int = PAGE_SIZE,
) -> Flash:
    """Make a file that is all erased and takes no room yet, and open it.

    It and its name are on the disk when this returns; where it fails no file is left.

    Args:
        path: of the file, which must not exist.
        size: bytes, a multiple of the block size.
        block_size: bytes that one erase sets.
        page_size: bytes of a program.

    Raises:
        FileExistsError: there is something at this path.
        ValueError: sizes that contradict each other.
    """
    place = Path(path)
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
        flash = Flash.file(
            os.dup(descriptor),
            os.fspath(place),
            writable=True,
            block_size=block_size,
            page_size=page_size,
        )
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:  # whatever it was, half a medium must not stay
        place.unlink()
        raise
    finally:
        os.close(descriptor)
    return flash

"""The medium of a volume: which of its forms a path is, and how a file is divided into blocks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nexus.errors import NoVolumeError
from nexus.physics.flash import Flash, create_flash, open_flash

__all__ = ["SIZE_MIN", "make_medium", "medium_size", "open_medium"]

SIZE_MIN = 8 << 20
BLOCK_MIN = 64 << 10
BLOCK_MAX = 1 << 20
BLOCKS = 256  # at least so many, where the size lets it
PAGE = 4096
MAGIC = b"NXNEXFS\n"
SUPERBLOCK = 256


def _block_size(size: int) -> int:
    block = BLOCK_MAX
    while block > BLOCK_MIN and size < block * BLOCKS:
        block >>= 1
    return block


def _kind(path: str | os.PathLike[str]) -> int:
    try:
        return stat.S_IFMT(Path(path).stat().st_mode)
    except FileNotFoundError:
        return 0


def medium_size(path: str | os.PathLike[str], size: int | None) -> int | None:
    """Bytes of the medium that a new volume will have; None when it becomes a directory."""
    if _kind(path) in (stat.S_IFCHR, stat.S_IFBLK):
        with open_flash(path, writable=False) as flash:
            return flash.size
    return size


def make_medium(path: str | os.PathLike[str], size: int | None) -> Flash | None:
    """A medium for a new volume: a file of this size, or the device at the path; else None.

    Raises:
        ValueError: no file can be of this size.
        FileExistsError: a file is to be made, and something is there.
        MediumBusyError: somebody else has the device.
    """
    kind = _kind(path)
    if kind == stat.S_IFCHR:
        return open_flash(path)
    if kind == stat.S_IFBLK:
        with open_flash(path) as flash:
            block = _block_size(flash.size)
        return open_flash(path, block_size=block)
    if size is None:
        return None
    if size < SIZE_MIN:
        raise ValueError(f"{size} bytes are too few; at least {SIZE_MIN}")
    block = _block_size(size)
    return create_flash(path, size - size % block, block_size=block, page_size=PAGE)


def _geometry(name: str) -> tuple[int, int]:
    """Block and page of the log in a file or block device, as its superblocks say."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        for at in (0, *(1 << shift for shift in range(12, 27))):
            found = os.pread(descriptor, SUPERBLOCK, at) if at < end else b""
            if found.startswith(MAGIC) and len(found) == SUPERBLOCK:
                block, page = (int.from_bytes(found[i : i + 4], "little") for i in (72, 76))
                if page >= SUPERBLOCK and block % page == 0 and at in (0, block):
                    return block, page
    finally:
        os.close(descriptor)
    raise NoVolumeError(f"{name}: no volume", hint=f"nexus fs create {name} --size 8GiB")


def open_medium(path: str | os.PathLike[str], *, writable: bool) -> Flash | None:
    """The medium at a path, or None where a directory or nothing is.

    Raises:
        NoVolumeError: no log is on it.
        MediumBusyError: somebody else has it.
        OSError: it cannot be read.
    """
    kind = _kind(path)
    if kind == stat.S_IFCHR:
        return open_flash(path, writable=writable)
    if kind not in (stat.S_IFBLK, stat.S_IFREG):
        return None
    block, page = _geometry(os.fspath(path))
    try:
        return open_flash(path, writable=writable, block_size=block, page_size=page)
    except ValueError:
        raise NoVolumeError(f"{os.fspath(path)}: its superblock is not of this medium") from None

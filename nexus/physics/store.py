"""The store of content on this host: in a directory, or in the log of one medium."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nexus._core import store as _store
from nexus._core.onlog import format_log, read_log_state
from nexus.errors import (
    AbsentError,
    EmptyError,
    MediumBusyError,
    NoVolumeError,
    VolumeBusyError,
    VolumeExistsError,
)
from nexus.physics.flash import open_flash
from nexus.physics.medium import make_medium, medium_size, open_medium
from nexus.physics.zstd import zstd_functions
from nexus.seams.store import ContentStore, Entry, Issue, Row

__all__ = [
    "StoreSettings",
    "create_store",
    "erase_store",
    "holds",
    "medium_size",
    "new_volume_id",
    "open_store",
    "pack_size",
    "put_path",
    "read_copy",
    "read_settings",
    "take_path",
    "take_stream",
    "user",
]

MIB = 1 << 20


class StoreSettings(NamedTuple):
    """How new blocks are made; what is there already is read whatever was set then.

    Attributes:
        volume: the volume's id, 16 bytes.
        level: of zstd, -7 to 22.
        depth: how many deltas may rest on one another, 0 to 8; 0: none.
        block_raw: bytes of objects in a block.
        pack_bytes: from which on a pack is closed.
        profile: of the chunker, 1 fastcdc2020, 2 nx1.
        seed: of the chunker.
        next_pack: number of the next pack.
        next_segment: number of the next segment of the index.
    """

    volume: bytes
    level: int = 3
    depth: int = 3
    block_raw: int = 256 << 10
    pack_bytes: int = 64 * MIB
    profile: int = 1
    seed: int = 0
    next_pack: int = 1
    next_segment: int = 1

    def options(self, *, writes: bool) -> Mapping[str, object]:
        """As the store in C takes them; who writes needs memory for what it compresses."""
        return {
            "volume": self.volume,
            "pack_bytes": self.pack_bytes,
            "cache_bytes": (4 if writes else 16) * MIB,
            "next_pack": self.next_pack,
            "next_segment": self.next_segment,
            "block_raw": self.block_raw,
            "window": min(self.block_raw, 256 << 10),
            "depth": self.depth,
            "threads": min(len(os.sched_getaffinity(0)), 16),
            "level": self.level,
            # What continues a base is short, and worth a closer search.
            "delta_level": min(self.level + 2, 22),
            "profile": self.profile,
            "seed": self.seed,
        }


def _store_of(
    name: str,
    settings: StoreSettings,
    medium: object,
    *,
    writes: bool,
    create: bool = False,
) -> ContentStore:
    return _store.Store(
        os.fsencode(name),
        functions=zstd_functions(),
        options=settings.options(writes=writes),
        writes=writes,
        create=create,
        medium=medium,
    )


def _absent(name: str) -> NoVolumeError:
    return NoVolumeError(f"{name}: no volume", hint=f"nexus fs create {name}")


def _busy(name: str) -> VolumeBusyError:
    return VolumeBusyError(f"{name}: another process uses it", hint="wait until it is done")


def create_store(
    path: str | Path,
    settings: StoreSettings,
    *,
    size: int | None = None,
    storage_class: int | None = None,
) -> ContentStore:
    """Makes an empty store, and opens it for writing.

    Args:
        path: a name that is not there yet, or a device.
        settings: of the store.
        size: bytes of the file that it becomes; None for a directory, or all of a device.
        storage_class: 1 sovereign, 2 mesh; of a medium alone. None: 1.

    Raises:
        VolumeExistsError: something is there.
        AbsentError: no zstd on this host.
        OSError: it cannot be made.
    """
    name = os.fspath(path)
    zstd_functions()  # before anything is made that could not be used
    try:
        flash = make_medium(path, size)
        if flash is None:
            return _store_of(name, settings, None, writes=True, create=True)
    except (BufferError, FileExistsError):
        raise VolumeExistsError(
            f"{name} is there already", hint="choose another name, or delete it"
        ) from None
    except MediumBusyError:
        raise _busy(name) from None
    try:
        medium = flash.__flash__()
        format_log(medium, name, settings.volume, storage_class=storage_class or 1)
        return _store_of(name, settings, medium, writes=True)
    except BaseException:  # whatever it was, half a volume must not stay
        if size is not None:
            Path(name).unlink(missing_ok=True)
        raise


def open_store(path: str | Path, settings: StoreSettings, *, writes: bool = False) -> ContentStore:
    """Opens the store in a directory or on a medium.

    Raises:
        NoVolumeError: there is none.
        VolumeBusyError: another process writes to it.
        AbsentError: no zstd on this host.
        OSError: it cannot be opened.
    """
    name = os.fspath(path)
    try:
        flash = open_medium(path, writable=writes)
        medium = None if flash is None else flash.__flash__()
        return _store_of(name, settings, medium, writes=writes)
    except EmptyError:
        raise _absent(name) from None
    except (BufferError, MediumBusyError):
        raise _busy(name) from None


def erase_store(path: str | Path, store: ContentStore) -> None:
    """Removes a store that is open for writing, the state first: without it nothing is there.

    Raises:
        VolumeBusyError: somebody reads it.
        OSError: something that is not its own lies in the directory.
    """
    place = Path(path)
    if not store.alone():
        raise VolumeBusyError(
            f"{os.fspath(path)}: another process reads it", hint="wait until it is done"
        )
    if store.health() is not None:
        _erase_medium(place, store)
        return
    (place / "state").unlink()
    for name in ("state.copy", "state.new", "copy.new"):
        (place / name).unlink(missing_ok=True)
    for packs in (True, False):
        for number in store.files(packs):
            store.remove(packs, number)
    for name in ("packs", "index"):
        (place / name).rmdir()
    (place / "lock").unlink()
    place.rmdir()


def _erase_medium(place: Path, store: ContentStore) -> None:
    """A file goes; a device stays, without the blocks that say that a log is on it."""
    if place.is_file():
        place.unlink()
        return
    store.close()
    with open_flash(place) as flash:
        for at in (0, flash.block_size):
            if not flash.is_bad(at):
                flash.erase(at)
        flash.sync()


def read_settings(path: str | Path) -> bytes:
    """The state of a store, before it is opened.

    Raises:
        NoVolumeError: nothing there is a store.
        VolumeBusyError: another process writes to it.
    """
    name = os.fspath(path)
    try:
        flash = open_medium(path, writable=False)
        if flash is not None:
            with flash:
                return read_log_state(flash.__flash__(), name)
        descriptor = os.open(Path(path) / "state", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError, EmptyError, AbsentError):
        raise _absent(name) from None
    except MediumBusyError:
        raise _busy(name) from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoVolumeError(f"{name}: its state is no file")
        return file.read(1 << 30)


def read_copy(path: str | Path) -> bytes | None:
    """The second copy of the state; None where there is none, as on a medium."""
    try:
        return (Path(path) / "state.copy").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def pack_size(path: str | Path, number: int) -> int | None:
    """Bytes of a pack's file in a directory; None where there is none."""
    try:
        return (Path(path) / "packs" / f"{number:08x}").stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def user() -> tuple[int, int]:
    """Whose new files are: user and group."""
    return os.geteuid(), os.getegid()


def holds(source: str | Path, volume: Path) -> bool:
    """Whether a file or directory of the host is the volume, or holds it, or lies in it."""
    try:
        at, inside = Path(source).resolve(strict=True), volume.resolve(strict=True)
    except OSError:
        return False  # whoever reads the source says what is wrong
    below = at == inside or inside in at.parents
    return below or any(at.samefile(one) for one in inside.parents)


def take_path(
    store: ContentStore,
    source: str | Path,
    before: Entry | None,
    *,
    attributes: bool,
    one_device: bool,
) -> tuple[Entry, list[Issue]]:
    """Takes in a file or directory of the host. A link that is named is followed, one below is not.

    Raises:
        OSError: it cannot be read, or the store not written.
    """
    path = Path(source)
    place, name = (path, b".") if path.is_dir() else (path.parent, os.fsencode(path.name))
    parent = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        entry, issues = entry_and_issues(
            store.ingest(parent, name, before=before, attributes=attributes, one_device=one_device)
        )
        return entry, [one._replace(path=one.path.removeprefix(b"./")) for one in issues]
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        error.filename = "the volume" if full else os.fspath(source)
        raise
    finally:
        os.close(parent)


def take_stream(
    store: ContentStore, descriptor: int, before: Entry | None, seconds: int
) -> tuple[Entry, list[Issue]]:
    """Takes in all bytes that come out of a descriptor, as a file of this time.

    Raises:
        OSError: it cannot be read, or the store not written.
    """
    return entry_and_issues(store.ingest(descriptor, None, before=before, seconds=seconds))


def entry_and_issues(taken: tuple[Row, list[tuple[int, bytes]]]) -> tuple[Entry, list[Issue]]:
    """What an ingest gives, by names."""
    row, issues = taken
    return Entry._make(row), [Issue._make(issue) for issue in issues]


def put_path(
    store: ContentStore, entry: Entry, target: str | Path, *, owner: bool | None
) -> list[Issue]:
    """Makes a new name of the host what the entry says; `owner` None: as far as this user may.

    Raises:
        VolumeExistsError: something is there.
        OSError: it cannot be made.
    """
    place = Path(target).absolute()
    if os.path.lexists(place):
        raise VolumeExistsError(f"{target} is there already", hint="choose another name")
    parent = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        whose = os.geteuid() == 0 if owner is None else owner
        issues = store.restore(entry, parent, os.fsencode(place.name), owner=whose)
        return [Issue._make(issue) for issue in issues]
    finally:
        os.close(parent)


def new_volume_id() -> bytes:
    """Sixteen random bytes."""
    return os.urandom(16)

"""A volume as a directory of the host, to be read and written.

The mount in C answers the kernel; this is its other half, which commits: when somebody waits for
it (fsync), every few seconds, when a snapshot is asked for, and at the end.

What fsync acknowledged is there whatever happens then. A commit for which there is no room is
told to who waits for it, changes nothing, and is tried again; after any other failure to write
the mount stays readable and each further commit fails, for what reached the medium is not known.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from nexus.errors import FullError, NexusError, VolumeExistsError
from nexus.fs.volume import Volume
from nexus.physics.fuse import (
    LiveMount,
    guard,
    mount_fuse,
    mounted_on,
    scratch_place,
    spare_bytes,
    unmount_fuse,
)
from nexus.seams.clock import Clock
from nexus.seams.store import Entry

__all__ = ["LiveVolume", "ask_snapshot"]

TIMEWARP = ".timewarp"
_LOOK_MS = 200
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _reason(error: Exception) -> int:
    """The errno that a program is told."""
    if isinstance(error, FullError):
        return errno.ENOSPC
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    return (error.errno or errno.EIO) if isinstance(error, OSError) else errno.EIO


def ask_snapshot(path: str | Path, name: str) -> bool:
    """Has the process that has the volume mounted take a snapshot; False: nobody has.

    Raises:
        VolumeExistsError: the name is taken.
        ValueError: it is no name.
        OSError: it could not be taken.
    """
    place = mounted_on(str(Path(path).absolute()))
    if place is None:
        return False
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a snapshot")
    try:
        (place / TIMEWARP / name).mkdir()
    except FileExistsError:
        raise VolumeExistsError(f"snapshot {name!r} is there already") from None
    return True


class LiveVolume:
    """A volume that is mounted and can be changed; the end of `with` commits and unmounts it.

    Args:
        volume: opened for writing; it stays open as long, and nobody else changes it.
        target: a directory.
        clock: for the interval.
        interval_s: how long a change stays uncommitted at most, but for what a commit takes.
        allow_other: other users may enter, as far as permissions let them.
        threads: that answer the kernel.

    Raises:
        AbsentError: this host has no /dev/fuse, or this user no way to mount.
        OSError: the target cannot be mounted on.
    """

    def __init__(
        self,
        volume: Volume,
        target: str | Path,
        *,
        clock: Clock,
        interval_s: float = 5.0,
        allow_other: bool = False,
        threads: int = 2,
    ) -> None:
        self._volume = volume
        self._target = Path(target).absolute()
        self._clock = clock
        self._interval_ns = int(interval_s * 1e9)
        self._broken: int | None = None
        snapshots = [(one.name.encode(), one.root) for one in volume.snapshots]
        head = volume.state.head
        assert head is not None
        place = str(scratch_place(volume.path).absolute())
        self._mount = LiveMount(volume.store, head, place.encode(), snapshots=snapshots)
        self._measure()
        source = str(volume.path.absolute())
        descriptor = mount_fuse(source, self._target, allow_other=allow_other, writes=True)
        try:
            self._guard = guard(self._target)
            self._mount.serve(descriptor, threads)
        except BaseException:  # a mount that nobody serves must not stay
            unmount_fuse(self._target, lazy=True)
            self._mount.close()
            raise

    def _measure(self) -> None:
        self._mount.set_sizes(self._volume.stored, spare_bytes(self._volume.path))

    def _write(self) -> None:
        self._volume.set_root(Entry(*self._mount.gather()))
        self._volume.commit()

    def commit(self) -> int:
        """All that was changed is on the medium, and who waits for that is told; 0 or an errno."""
        if not self._mount.begin():
            return 0
        reason = self._broken or 0
        try:
            if not reason:
                self._write()
        except (OSError, NexusError, MemoryError, ValueError) as error:
            reason = _reason(error)
            self._recover(reason)
        finally:
            self._mount.settle(reason)
        self._measure()
        return reason

    def _recover(self, reason: int) -> None:
        try:
            self._volume.store.recover()
        except (OSError, NexusError):
            self._broken = reason

    def _take_snapshots(self) -> None:
        while (name := self._mount.asked()) is not None:
            reason = self.commit()
            try:
                if not reason:
                    snapshot = self._volume.take_snapshot(name.decode())
                    self._volume.commit()
                    self._mount.add_snapshot(name, snapshot.root)
            except VolumeExistsError:
                reason = errno.EEXIST
            except ValueError:
                reason = errno.EINVAL
            except (OSError, NexusError) as error:
                reason = _reason(error)
                self._recover(reason)
            self._mount.answer(reason)

    def wait(self, stops: Callable[[float], bool]) -> None:
        """Commits as it has to, until it is unmounted by somebody or `stops` says so."""
        due = self._clock.monotonic_ns() + self._interval_ns
        while not self._mount.ended() and not stops(0):
            asks = self._mount.wait(_LOOK_MS)
            if asks or self._clock.monotonic_ns() >= due:
                self.commit()
                self._take_snapshots()
                due = self._clock.monotonic_ns() + self._interval_ns

    def close(self) -> None:
        """Commits what is left, and unmounts it if it is mounted.

        Raises:
            OSError: what was changed since the last commit could not be written, and is lost.
        """
        try:
            self.commit()
            if not self._mount.ended():
                unmount_fuse(self._target, lazy=True)
            self._mount.stop()
            reason = 0
            while not reason and self._mount.changed():  # what was parked meanwhile, too
                reason = self.commit()
        finally:
            self._mount.close()
            self._guard.communicate(b"\n")
        if reason:
            raise OSError(reason, "what was changed last is lost", str(self._target))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

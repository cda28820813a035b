"""A volume as a directory of the host, to be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from nexus.fs.volume import Volume
from nexus.physics.fuse import Mount, guard, mount_fuse, spare_bytes, unmount_fuse

__all__ = ["MountedVolume"]

_LOOK_S = 0.2


class MountedVolume:
    """A volume that is mounted, as it was when it was opened; the end of `with` unmounts it.

    Args:
        volume: opened; it stays open as long.
        target: a directory.
        snapshot: as of which; of the tree when None.
        allow_other: other users may enter, as far as permissions let them.
        threads: that answer the kernel.

    Raises:
        NoVolumeError: no such snapshot.
        AbsentError: this host has no /dev/fuse, or this user no way to mount.
        OSError: the target cannot be mounted on.
    """

    def __init__(
        self,
        volume: Volume,
        target: str | Path,
        *,
        snapshot: str | None = None,
        allow_other: bool = False,
        threads: int = 2,
    ) -> None:
        self._target = Path(target).absolute()
        snapshots = [(one.name.encode(), one.root) for one in volume.state.snapshots]
        root = volume.state.head if snapshot is None else volume.snapshot(snapshot).root
        assert root is not None
        self._mount = Mount(volume.store, root, snapshots=snapshots)
        stored = sum(length for _, length in volume.store.packs())
        self._mount.set_sizes(stored, spare_bytes(volume.path))
        source = str(volume.path.absolute())
        descriptor = mount_fuse(source, self._target, allow_other=allow_other, writes=False)
        try:
            self._guard = guard(self._target)
            self._mount.serve(descriptor, threads)
        except BaseException:  # a mount that nobody serves must not stay
            unmount_fuse(self._target, lazy=True)
            self._mount.close()
            raise

    def wait(self, stops: Callable[[float], bool]) -> None:
        """Until it is unmounted by somebody, or `stops` says so, which waits so many seconds."""
        while not self._mount.ended() and not stops(_LOOK_S):
            pass

    def close(self) -> None:
        """Unmounts it if it is mounted; who still uses it gets ENOTCONN."""
        if not self._mount.ended():
            unmount_fuse(self._target, lazy=True)
        self._mount.close()
        self._guard.communicate(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

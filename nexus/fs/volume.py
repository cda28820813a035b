"""A volume: a tree that changes, and snapshots of it that do not."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from nexus.errors import (
    NoVolumeError,
    VolumeBusyError,
    VolumeCorruptError,
    VolumeExistsError,
)
from nexus.fs import tree
from nexus.fs.differences import Change, differences
from nexus.fs.settings import CHUNKERS, pack_bytes, store_settings, zigzag
from nexus.fs.state import SIGNABLE, Snapshot, State, decode_state, encode_state
from nexus.physics.clock import HostClock
from nexus.physics.store import (
    create_store,
    erase_store,
    holds,
    medium_size,
    new_volume_id,
    open_store,
    put_path,
    read_copy,
    read_settings,
    take_path,
    take_stream,
    user,
)
from nexus.seams.clock import Clock
from nexus.seams.store import SIGNATURE, ContentStore, Entry, Issue

__all__ = ["CHUNKERS", "CLASSES", "Report", "Volume"]

_TRIES, _NAME_MAX = 8, 255
CLASSES = {"sovereign": 1, "mesh": 2}


class Report(NamedTuple):
    """What an import or an export came to.

    Attributes:
        files: how many.
        bytes: in them.
        new_bytes: of these, what the volume did not have.
        stored_bytes: that were written for them.
        issues: what was left out.
    """

    files: int
    bytes: int
    new_bytes: int
    stored_bytes: int
    issues: tuple[Issue, ...]


class Volume:
    """An opened volume; use `create` or `open`. One process writes at a time, any number read.

    What is imported or taken away is kept by `commit`, which the `with` statement calls when its
    block ends without an exception; without a commit the volume is as it was.
    """

    def __init__(self, path: Path, store: ContentStore, state: State, clock: Clock) -> None:
        self._path = path
        self._store = store
        self._state = state
        self._clock = clock
        self._writes = False
        self._dirty = False

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        level: int = 3,
        size: int | None = None,
        storage_class: str | None = None,
        chunker: str = "fastcdc2020",
        keyed: bool = False,
        clock: Clock | None = None,
    ) -> Volume:
        """Makes an empty volume, and opens it for writing.

        Args:
            path: a name that is not there yet, or a device, all of which it becomes.
            level: of zstd, -7 to 22.
            size: bytes of the one file that it lies in; None: a directory, or a device.
            storage_class: of a file or device, one of CLASSES; None: sovereign.
            chunker: where files are cut, one of CHUNKERS.
            keyed: cut by a random number of this volume's own, so that the same file has other
                chunks elsewhere; this is no secret key.
            clock: what snapshots take their time from.

        Raises:
            VolumeExistsError: something is there.
            ValueError: a level, size, class or chunker that is none.
            OSError: it cannot be made.
        """
        if not -7 <= level <= 22:
            raise ValueError(f"{level} is no level; -7 to 22")
        if storage_class is not None and storage_class not in CLASSES:
            raise ValueError(f"{storage_class} is no class of a store; {' or '.join(CLASSES)}")
        if chunker not in CHUNKERS:
            raise ValueError(f"{chunker} is no chunker; {' or '.join(CHUNKERS)}")
        settings = {"level": zigzag(level)}
        if chunker != "fastcdc2020":
            settings["profile"] = CHUNKERS[chunker]
        if keyed:
            settings["seed"] = int.from_bytes(new_volume_id()[:8], "little")
        room = medium_size(path, size)
        if room is not None:
            settings["pack_bytes"] = pack_bytes(room)
        elif storage_class is not None:
            raise ValueError("a directory has no class; give a size, or a device")
        state = State(new_volume_id(), settings=settings)
        store = create_store(
            path,
            store_settings(state),
            size=size,
            storage_class=CLASSES[storage_class] if storage_class is not None else None,
        )
        volume = cls(Path(path), store, state, clock or HostClock())
        volume._writes = volume._dirty = True
        root = tree.empty_root(*user())
        volume.set_root(root)
        volume.commit()
        return volume

    @classmethod
    def open(cls, path: str | Path, *, writes: bool = False, clock: Clock | None = None) -> Volume:
        """Opens a volume.

        Raises:
            NoVolumeError: there is none.
            VolumeBusyError: with `writes`, another process writes to it.
            CorruptError: it is damaged where it must not be.
            OSError: it cannot be read.
        """
        for _ in range(_TRIES):
            state = decode_state(read_settings(path))
            store = open_store(path, store_settings(state), writes=writes)
            try:
                if decode_state(store.read_state()) == state:
                    volume = cls(Path(path), store, state, clock or HostClock())
                    volume._writes = writes
                    volume._load()
                    if writes:
                        volume._give_back()
                    return volume
            except BaseException:  # whatever it is, the lock must not stay
                store.close()
                raise
            store.close()  # it was committed in between
        raise VolumeBusyError(f"{path}: it changes faster than it can be opened")

    def _load(self) -> None:
        for number, length, _ in self._state.packs:
            self._store.add_pack(number, length)
        for number in self._state.segments:
            self._store.add_segment(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._dirty:
                self.commit()
        finally:
            self.close()

    def close(self) -> None:
        """Closes it; what was not committed is forgotten."""
        self._store.close()

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    @property
    def state(self) -> State:
        """What it has, as of the last commit but for the head."""
        return self._state

    @property
    def store(self) -> ContentStore:
        """The objects."""
        return self._store

    @property
    def level(self) -> int:
        """How hard new blocks are compressed, as zstd counts."""
        return store_settings(self._state).level

    @property
    def chunker(self) -> str:
        """Where new files are cut, one of CHUNKERS."""
        profile = store_settings(self._state).profile
        return next(name for name, number in CHUNKERS.items() if number == profile)

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """In the order in which they were taken."""
        return self._state.snapshots

    @property
    def stored(self) -> int:
        """Bytes of all packs."""
        return sum(length for _, length in self._store.packs())

    @property
    def waiting(self) -> int:
        """Packs that the state does not name, and that somebody may still read."""
        return len(set(self._store.files(True)) - {number for number, _, _ in self._state.packs})

    def _root_id(self, snapshot: str | None) -> bytes:
        if snapshot is not None:
            return self.snapshot(snapshot).root
        if self._state.head is None:
            raise VolumeCorruptError("the volume has no tree")
        return self._state.head

    def root(self, snapshot: str | None = None) -> Entry:
        """The root of the tree, or of a snapshot's."""
        return tree.open_root(self._store, self._root_id(snapshot))

    def find(self, path: str | bytes, *, snapshot: str | None = None) -> Entry:
        """What is at a path.

        Raises:
            NoVolumeError: nothing is.
        """
        entry = tree.lookup(self._store, self.root(snapshot), tree.split(path))
        if entry is None:
            shown = path if isinstance(path, str) else path.decode(errors="replace")
            raise NoVolumeError(f"{shown}: not in the volume", hint="nexus fs list shows what is")
        return entry

    def entries(self, path: str | bytes = "", *, snapshot: str | None = None) -> Iterator[Entry]:
        """The entries of a directory, or the one entry of anything else."""
        entry = self.find(path, snapshot=snapshot)
        if stat.S_ISDIR(entry.mode):
            yield from tree.children(self._store, entry)
        else:
            yield entry

    def walk(
        self, path: str | bytes = "", *, snapshot: str | None = None
    ) -> Iterator[tuple[bytes, Entry]]:
        """The entry at a path and all below it, each with its path from there."""
        yield from tree.walk(self._store, self.find(path, snapshot=snapshot))

    def read(self, path: str | bytes, *, snapshot: str | None = None) -> Iterator[bytes]:
        """The content of a file, piece by piece, verified.

        Raises:
            NoVolumeError: nothing is there.
            IsADirectoryError: it is no file.
        """
        entry = self.find(path, snapshot=snapshot)
        if not stat.S_ISREG(entry.mode):
            raise IsADirectoryError(errno.EISDIR, "no file", str(path))
        for size, identity in tree.pieces(self._store, entry):
            if identity is not None:
                yield self._store.get(identity)
            else:
                for at in range(0, size, 1 << 20):
                    yield bytes(min(size - at, 1 << 20))

    def set_root(self, root: Entry) -> None:
        """The tree becomes what this entry says, whose content was put."""
        head = tree.put_root(self._store, root)
        self._store.flush()  # what is in no segment cannot be read
        self._state = self._state._replace(head=head, logical=root.size)
        self._dirty = True

    def take_in(
        self,
        source: str | Path | int,
        path: str | bytes,
        *,
        attributes: bool = True,
        one_device: bool = False,
    ) -> Report:
        """Imports a file or directory of the host, or what a descriptor gives, under a path.

        What was there is replaced; what did not change is neither stored nor written again.

        Raises:
            ValueError: the path is the root, and the source is no directory; or the source has
                the volume in it.
            OSError: the source cannot be read, or the volume not written.
        """
        names = tree.split(path)
        if not isinstance(source, int) and holds(source, self._path):
            raise ValueError(f"{source} is the volume itself, or holds it, or is in it")
        root = self.root()
        before = tree.lookup(self._store, root, names)
        start = self._store.counters()
        if isinstance(source, int):
            seconds = self._clock.wall_ns() // 1_000_000_000
            entry, issues = take_stream(self._store, source, before, seconds)
        else:
            entry, issues = take_path(
                self._store, source, before, attributes=attributes, one_device=one_device
            )
        if names:
            root = tree.graft(self._store, root, names, entry)
        elif stat.S_ISDIR(entry.mode):
            root = entry
        else:
            raise ValueError("only a directory can be the root of a volume")
        self.set_root(root)
        now = self._store.counters()
        return Report(
            now["files"] - start["files"],
            now["file_bytes"] - start["file_bytes"],
            now["new_bytes"] - start["new_bytes"],
            now["stored_bytes"] - start["stored_bytes"],
            tuple(issues),
        )

    def put_out(
        self,
        path: str | bytes,
        target: str | Path,
        *,
        snapshot: str | None = None,
        owner: bool | None = None,
    ) -> Report:
        """Exports what is at a path to a new name of the host; every byte is verified before.

        Args:
            path: what.
            target: a name that is not there yet.
            snapshot: as of which; of the tree that changes when None.
            owner: give files to whom they belonged; when None, if this process may.

        Raises:
            VolumeExistsError: something is at the target.
            NoVolumeError: nothing is at the path.
            OSError: the target cannot be made.
        """
        entry = self.find(path, snapshot=snapshot)
        start = self._store.counters()
        issues = put_path(self._store, entry, target, owner=owner)
        now = self._store.counters()
        files, size = (now[name] - start[name] for name in ("files", "file_bytes"))
        return Report(files, size, 0, 0, tuple(issues))

    def take_away(self, path: str | bytes) -> None:
        """Takes a name out of the tree; snapshots keep it.

        Raises:
            NoVolumeError: nothing is there.
            ValueError: it is the root.
        """
        names = tree.split(path)
        if not names:
            raise ValueError("the root of a volume stays")
        self._store.lean(True)
        self.set_root(tree.graft(self._store, self.root(), names, None))

    def snapshot(self, name: str) -> Snapshot:
        """The snapshot of this name.

        Raises:
            NoVolumeError: there is none.
        """
        for one in self._state.snapshots:
            if one.name == name:
                return one
        raise NoVolumeError(f"no snapshot {name!r}", hint="nexus snap list shows those there are")

    def take_snapshot(self, name: str) -> Snapshot:
        """Names the tree as it is now, for good.

        Raises:
            VolumeExistsError: the name is taken.
            ValueError: it is no name.
        """
        size = len(name.encode())
        if not 0 < size <= _NAME_MAX or not name.isprintable() or "/" in name:
            raise ValueError(f"{name!r} is no name of a snapshot")
        if any(one.name == name for one in self._state.snapshots):
            raise VolumeExistsError(f"snapshot {name!r} is there already")
        last = max(self._state.snapshots, key=lambda one: one.number, default=None)
        snapshot = Snapshot(
            name,
            self._state.next_snapshot,
            self._clock.wall_ns(),
            self._root_id(None),
            bytes(32) if last is None else last.identity,
            self._state.logical,
            SIGNABLE,
        )
        self._state = self._state._replace(
            snapshots=(*self._state.snapshots, snapshot),
            next_snapshot=snapshot.number + 1,
        )
        self._dirty = True
        return snapshot

    def roll_back(self, name: str) -> Snapshot:
        """The tree becomes what it was at a snapshot; one write at the commit."""
        snapshot = self.snapshot(name)
        self._state = self._state._replace(head=snapshot.root, logical=snapshot.logical)
        self._dirty = True
        return snapshot

    def forget_snapshot(self, name: str) -> Snapshot:
        """Takes a snapshot's name away; what only it had is garbage then."""
        snapshot = self.snapshot(name)
        self._state = self._state.without(snapshot)
        self._dirty = True
        return snapshot

    def add_signature(self, snapshot: Snapshot, data: bytes) -> None:
        """Keeps an object that signs a snapshot; `nexus.fs.signature` makes it."""
        identity = self._store.put(SIGNATURE, data)
        self._store.flush()  # what is in no segment cannot be read
        self._state = self._state.signed(snapshot, identity)
        self._dirty = True

    def differences(self, old: str | None, new: str | None) -> Iterator[Change]:
        """What is different between two snapshots; None is the tree that changes."""
        yield from differences(self._store, b"", self.root(old), self.root(new))

    def commit(self) -> None:
        """All that was done since the last commit is on the medium, and the volume is that.

        Raises:
            OSError: it could not be written; the volume is as it was.
        """
        self._store.flush()
        dead = {number: bytes_ for number, _, bytes_ in self._state.packs}
        next_pack, next_segment = self._store.next_numbers()
        self._state = self._state.following()._replace(
            packs=tuple(
                (number, length, dead.get(number, 0)) for number, length in self._store.packs()
            ),
            segments=tuple(number for number, _ in self._store.segments()),
            next_pack=next_pack,
            next_segment=next_segment,
        )
        self._store.replace_state(encode_state(self._state))
        self._dirty = False
        self.tidy()

    def erase(self) -> None:
        """Removes the volume and all that it has; it is closed then.

        Raises:
            VolumeBusyError: somebody reads it.
            OSError: something else lies in its directory, which stays with that.
        """
        erase_store(self._path, self._store)
        self._dirty = False

    def _give_back(self) -> None:
        """Removes what an unfinished write has left, so that a full disk has room again."""
        copy = read_copy(self._path)
        if copy is not None and copy != encode_state(self._state):
            self._store.replace_state(encode_state(self._state))  # nothing goes that either names
        if self._state.packs:
            number, length, _ = self._state.packs[-1]  # no other pack grows
            self._store.trim(number, length)
        self.tidy()

    def tidy(self) -> None:
        """Removes files that no state names, unless somebody reads an older one."""
        named = {
            True: {number for number, _, _ in self._state.packs},
            False: set(self._state.segments),
        }
        spare = [
            (packs, number)
            for packs, numbers in named.items()
            for number in self._store.files(packs)
            if number not in numbers
        ]
        if spare and self._store.alone():
            for packs, number in spare:
                self._store.remove(packs, number)
            self._store.alone(False)

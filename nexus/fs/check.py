"""Whether a volume is whole: its packs, and every object that its trees reach.

The store reads all its packs and says where they are damaged. Then the trees of the head and of all
snapshots are walked, each object once: it has to be there. When the packs are damaged each is
decoded, too, so that what continues a damaged object is found lost with it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from nexus.errors import CorruptError, EmptyError, VolumeCorruptError
from nexus.fs.volume import Volume
from nexus.physics.tree import read_index, read_leaf, read_list
from nexus.seams.store import ContentStore, Entry, Form

__all__ = ["Check", "Damage", "Lost", "check_packs", "check_trees"]

_DEPTH_MAX = 512
_LEVELS_MAX = 7
# Of one lost object, for it may be in every tree of thousands.
NEEDED_MAX = 100
_DAMAGES = {
    1: "no pack begins here",
    2: "no block begins here",
    3: "a payload is not what was written",
    4: "an object is not what its id says",
    5: "something is where zeros should be",
    6: "it cannot be read from here on",
}
T = TypeVar("T")


@dataclass(frozen=True)
class Damage:
    """A place in a pack that is not what was written.

    Attributes:
        pack: number of the pack.
        offset: of the block in it.
        why: what is wrong.
    """

    pack: int
    offset: int
    why: str


@dataclass(frozen=True)
class Lost:
    """An object that a tree needs and that cannot be had.

    Attributes:
        id: of the object.
        kind: "data", "list", "leaf", "index", "tree" or "signature".
        why: what is wrong.
        needed_by: snapshot (None: the tree as it is) and path, at most NEEDED_MAX.
    """

    id: bytes
    kind: str
    why: str
    needed_by: tuple[tuple[str | None, bytes], ...]


@dataclass(frozen=True)
class Check:
    """What the packs have.

    Attributes:
        blocks: how many were read.
        objects: in them.
        bytes: of these blocks.
        damage: in order.
    """

    blocks: int
    objects: int
    bytes: int
    damage: tuple[Damage, ...]


@dataclass(frozen=True)
class _Loss:
    path: bytes
    id: bytes
    kind: str
    why: str

    def below(self, name: bytes) -> _Loss:
        path = name + b"/" + self.path if self.path else name
        return _Loss(path, self.id, self.kind, self.why)


_Losses = tuple[_Loss, ...]


class _Reach:
    """What is lost below each object that was looked at."""

    def __init__(self, store: ContentStore, *, decode: bool) -> None:
        self._store = store
        self._decode = decode
        self.known: dict[bytes, _Losses] = {}

    def _memo(self, identity: bytes, look: Callable[[], _Losses]) -> _Losses:
        if identity not in self.known:
            self.known[identity] = look()
        return self.known[identity]

    def _try(self, identity: bytes, kind: str, act: Callable[[bytes], T]) -> T | _Loss:
        try:
            return act(identity)
        except EmptyError:
            return _Loss(b"", identity, kind, "it is not in the index")
        except CorruptError:
            return _Loss(b"", identity, kind, "it is damaged")
        except OSError as error:
            return _Loss(b"", identity, kind, error.strerror or str(error))

    def tree(self, identity: bytes) -> _Losses:
        """What is lost of a tree."""

        def root(one: bytes) -> Entry:
            (entry,) = read_leaf(self._store.get(one), root=True)
            return entry

        found = self._try(identity, "tree", root)
        self.known.setdefault(identity, ())
        return (found,) if isinstance(found, _Loss) else self._entry(found, 0)

    def _entry(self, entry: Entry, depth: int) -> _Losses:
        identity = entry.id
        if stat.S_ISDIR(entry.mode):
            if depth > _DEPTH_MAX:
                raise VolumeCorruptError(f"more than {_DEPTH_MAX} directories in one another")
            if identity is None:
                return self._rows(read_leaf(entry.text or b""), depth)
            if entry.form == Form.INDEX:
                return self._memo(identity, lambda: self._index(identity, depth))
            return self._memo(identity, lambda: self._leaf(identity, depth))
        if identity is None:
            return ()
        if entry.form == Form.LIST:
            return self._memo(identity, lambda: self._list(identity, _LEVELS_MAX))
        return self._memo(identity, lambda: self._data(identity))

    def _rows(self, rows: list[Entry], depth: int) -> _Losses:
        losses: list[_Loss] = []
        for row in rows:
            losses += [one.below(row.name) for one in self._entry(row, depth + 1)]
        return tuple(losses)

    def _leaf(self, identity: bytes, depth: int) -> _Losses:
        rows = self._try(identity, "leaf", lambda one: read_leaf(self._store.get(one)))
        return (rows,) if isinstance(rows, _Loss) else self._rows(rows, depth)

    def _index(self, identity: bytes, depth: int) -> _Losses:
        rows = self._try(identity, "index", lambda one: read_index(self._store.get(one)))
        if isinstance(rows, _Loss):
            return (rows,)
        losses: list[_Loss] = []
        for _, _, leaf in rows:
            if leaf not in self.known:
                self.known[leaf] = self._leaf(leaf, depth)
            losses += self.known[leaf]
        return tuple(losses)

    def _list(self, identity: bytes, above: int) -> _Losses:
        found = self._try(identity, "list", lambda one: read_list(self._store.get(one)))
        if isinstance(found, _Loss):
            return (found,)
        level, rows = found
        if level >= above:
            return (_Loss(b"", identity, "list", "it names a list of its own level"),)
        losses: dict[bytes, _Loss] = {}
        for _, piece in rows:
            if piece is None:
                continue
            if piece not in self.known:
                self.known[piece] = self._list(piece, level) if level else self._data(piece)
            losses |= {one.id: one for one in self.known[piece]}
        return tuple(losses.values())

    def signature(self, identity: bytes) -> _Losses:
        """What is lost of a signature: all of it or nothing."""
        return self._memo(identity, lambda: self._data(identity, "signature"))

    def _data(self, identity: bytes, kind: str = "data") -> _Losses:
        def act(one: bytes) -> None:
            if self._decode:
                self._store.get(one)
            elif self._store.find(one) is None:
                raise EmptyError("an object")

        lost = self._try(identity, kind, act)
        return () if lost is None else (lost,)


def check_packs(volume: Volume, *, full: bool) -> Check:
    """Reads every pack; `full` decodes every block and verifies every id.

    Raises:
        DeadlineError: the store was cancelled.
    """
    blocks, objects, count, damage = volume.store.scrub(full=full)
    found = tuple(Damage(pack, at, _DAMAGES[what]) for pack, at, what in sorted(damage))
    return Check(blocks, objects, count, found)


def check_trees(volume: Volume, *, decode: bool) -> tuple[int, tuple[Lost, ...]]:
    """How many objects the trees need, and which of them are lost.

    Args:
        volume: whose.
        decode: read each object instead of looking only whether the index leads to it.
    """
    reach = _Reach(volume.store, decode=decode)
    lost: dict[bytes, tuple[_Loss, list[tuple[str | None, bytes]]]] = {}
    trees = [(one.name, one.root) for one in volume.snapshots]
    head = volume.state.head
    names = {one.number: one.name for one in volume.snapshots}
    losses = [
        (name, loss)
        for name, root in ([(None, head), *trees] if head is not None else trees)
        for loss in reach.tree(root)
    ]
    for number, identity in volume.state.signatures:
        losses += [(names[number], loss) for loss in reach.signature(identity)]
    for name, loss in losses:
        _, needed = lost.setdefault(loss.id, (loss, []))
        if len(needed) < NEEDED_MAX:
            needed.append((name, loss.path))
    found = (Lost(loss.id, loss.kind, loss.why, tuple(by)) for loss, by in lost.values())
    return len(reach.known), tuple(found)

"""Directories of a volume: looking up, walking, and changing a name by new directories above it."""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from nexus.errors import NoVolumeError, VolumeCorruptError
from nexus.physics.tree import make_index, make_leaves, read_index, read_leaf, read_list
from nexus.seams.store import INDEX, LEAF, ContentStore, Entry, Form, ObjectSource

__all__ = [
    "children",
    "empty_root",
    "graft",
    "lookup",
    "open_root",
    "pieces",
    "put_root",
    "split",
    "walk",
]

_DEPTH_MAX = 512
_LEVELS_MAX = 6


def split(path: str | bytes) -> list[bytes]:
    """The names of a path inside a volume; `/`, `.` and an empty path are its root.

    Raises:
        ValueError: a name is `..`, or longer than 255 bytes.
    """
    raw = path.encode(errors="surrogateescape") if isinstance(path, str) else path
    names = [name for name in raw.split(b"/") if name not in (b"", b".")]
    for name in names:
        if name == b".." or len(name) > 255 or b"\0" in name:
            raise ValueError(f"{name!r} is no name in a volume")
    return names


def empty_root(uid: int, gid: int) -> Entry:
    """The root of a tree without anything in it; its leaf is still to be put."""
    ((leaf, _, _),) = make_leaves([])
    mode = stat.S_IFDIR | 0o755
    return Entry(b"", mode, uid, gid, 0, 0, 0, Form.WITHIN, None, leaf, b"")


def open_root(store: ObjectSource, identity: bytes) -> Entry:
    """The root's entry of the tree with this id.

    Raises:
        CorruptError: it is no tree.
    """
    (entry,) = read_leaf(store.get(identity), root=True)
    return entry


def put_root(store: ContentStore, root: Entry) -> bytes:
    """Puts the tree; its id."""
    ((leaf, _, _),) = make_leaves([root._replace(name=b"")], root=True)
    return store.put(LEAF, leaf)


def children(store: ObjectSource, entry: Entry) -> Iterator[Entry]:
    """The entries of a directory, in order of their names.

    Raises:
        CorruptError: it is damaged.
    """
    if entry.form == Form.WITHIN and entry.text is not None:
        yield from read_leaf(entry.text)
    elif entry.form == Form.LEAF and entry.id is not None:
        yield from read_leaf(store.get(entry.id))
    elif entry.form == Form.INDEX and entry.id is not None:
        for _, _, leaf in read_index(store.get(entry.id)):
            yield from read_leaf(store.get(leaf))
    else:
        raise VolumeCorruptError(f"{entry.name!r} is a directory without content")


def _leaf_of(store: ObjectSource, index: bytes, name: bytes) -> list[Entry]:
    """The one leaf of a directory's index that can have the name."""
    rows = read_index(store.get(index))
    if not rows or any(b[0] <= a[0] for a, b in pairwise(rows)):
        raise VolumeCorruptError("the names of an index do not rise")
    at = max(bisect_right(rows, name, key=lambda row: row[0]), 1) - 1
    first, count, identity = rows[at]
    leaf = read_leaf(store.get(identity))
    if len(leaf) != count or leaf[0].name != first:
        raise VolumeCorruptError("a leaf is not what its index says")
    return leaf


def _child(store: ObjectSource, entry: Entry, name: bytes) -> Entry | None:
    if entry.form == Form.INDEX and entry.id is not None:
        rows = _leaf_of(store, entry.id, name)
    else:
        rows = list(children(store, entry))
    return next((row for row in rows if row.name == name), None)


def lookup(store: ObjectSource, root: Entry, names: Sequence[bytes]) -> Entry | None:
    """What the path leads to, without following links; None when there is nothing."""
    entry = root
    for name in names:
        if not stat.S_ISDIR(entry.mode):
            return None
        found = _child(store, entry, name)
        if found is None:
            return None
        entry = found
    return entry


def walk(
    store: ObjectSource, entry: Entry, path: bytes = b"", depth: int = 0
) -> Iterator[tuple[bytes, Entry]]:
    """The entry and all below it, each with its path; a directory before what is in it."""
    yield path, entry
    if not stat.S_ISDIR(entry.mode):
        return
    if depth > _DEPTH_MAX:
        raise VolumeCorruptError(f"{path!r}: more than {_DEPTH_MAX} directories in one another")
    for row in children(store, entry):
        yield from walk(store, row, path + b"/" + row.name if path else row.name, depth + 1)


def _make_directory(store: ContentStore, old: Entry, rows: list[Entry]) -> Entry:
    """The directory with these entries in place of its own."""
    base = [old.id] if old.id is not None else []
    size = sum(row.size for row in rows if stat.S_ISREG(row.mode) or stat.S_ISDIR(row.mode))
    leaves = [
        (first, count, store.put(LEAF, data, bases=base))
        for data, first, count in make_leaves(rows)
    ]
    if len(leaves) == 1:
        return old._replace(form=Form.LEAF, id=leaves[0][2], text=None, size=size)
    identity = store.put(INDEX, make_index(leaves))
    return old._replace(form=Form.INDEX, id=identity, text=None, size=size)


def graft(store: ContentStore, parent: Entry, names: Sequence[bytes], entry: Entry | None) -> Entry:
    """The directory with the entry at the path, or nothing there; directories between are made.

    Raises:
        NotADirectoryError: a name on the way is something else.
        NoVolumeError: there is nothing to take away.
    """
    name, rest = names[0], names[1:]
    rows = list(children(store, parent))
    old = next((row for row in rows if row.name == name), None)
    if rest:
        if old is None and entry is None:
            raise NoVolumeError(f"no {name.decode(errors='replace')!r} in the volume")
        if old is None:
            below = empty_root(parent.uid, parent.gid)._replace(name=name)
        elif stat.S_ISDIR(old.mode):
            below = old
        else:
            raise NotADirectoryError(20, "not a directory in the volume", name)
        new: Entry | None = graft(store, below, rest, entry)
    else:
        if old is None and entry is None:
            raise NoVolumeError(f"no {name.decode(errors='replace')!r} in the volume")
        new = None if entry is None else entry._replace(name=name)
    rows = [row for row in rows if row.name != name]
    if new is not None:
        rows.append(new)
        rows.sort(key=lambda row: row.name)
    return _make_directory(store, parent, rows)


def pieces(store: ObjectSource, entry: Entry) -> Iterator[tuple[int, bytes | None]]:
    """The pieces of a file: bytes, and the id or None for a hole.

    Raises:
        CorruptError: its list is damaged.
    """
    if entry.form == Form.DATA:
        yield entry.size, entry.id
    elif entry.form == Form.LIST and entry.id is not None:
        yield from _listed(store, entry.id, _LEVELS_MAX + 1, entry.size)
    elif entry.size:
        raise VolumeCorruptError(f"{entry.name!r} has bytes but no content")


def _listed(
    store: ObjectSource, identity: bytes, above: int, total: int
) -> Iterator[tuple[int, bytes | None]]:
    level, rows = read_list(store.get(identity))
    if level >= above:
        raise VolumeCorruptError("a list of pieces names one of its own level")
    if sum(size for size, _ in rows) != total:
        raise VolumeCorruptError("a list of pieces is not of the size that it is named with")
    for size, piece in rows:
        if level and piece is not None:
            yield from _listed(store, piece, level, size)
        else:
            yield size, piece

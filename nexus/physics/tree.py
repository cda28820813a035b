"""Directories and lists of the store as bytes, docs/spec/nexfs-store.md."""

from __future__ import annotations

from nexus._core import tree as _tree
from nexus.seams.store import Entry

__all__ = ["make_index", "make_leaves", "read_index", "read_leaf", "read_list"]

make_index = _tree.make_index
make_leaves = _tree.make_leaves
read_index = _tree.read_index
read_list = _tree.read_list


def read_leaf(data: bytes, *, root: bool = False) -> list[Entry]:
    """The entries of a leaf.

    Raises:
        CorruptError: it is none.
    """
    return [Entry._make(row) for row in _tree.read_leaf(data, root=root)]

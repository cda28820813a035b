"""What is different between two trees, name by name."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from nexus.fs import tree
from nexus.seams.store import ContentStore, Entry

__all__ = ["Change", "differences"]


class Change(NamedTuple):
    """One difference between two trees.

    Attributes:
        kind: "added", "removed" or "changed".
        path: where.
        before: what was there, or None.
        after: what is there, or None.
    """

    kind: str
    path: bytes
    before: Entry | None
    after: Entry | None


def differences(store: ContentStore, path: bytes, old: Entry, new: Entry) -> Iterator[Change]:
    """Every change from the old entry to the new one, and of what is below them."""
    if old[1:] == new[1:]:
        return
    if not (stat.S_ISDIR(old.mode) and stat.S_ISDIR(new.mode)):
        yield Change("changed", path, old, new)
        return
    if old.mode != new.mode or (old.uid, old.gid, old.extras) != (new.uid, new.gid, new.extras):
        yield Change("changed", path, old, new)
    if (old.form, old.id, old.text) == (new.form, new.id, new.text):
        return
    befores = {row.name: row for row in tree.children(store, old)}
    afters = {row.name: row for row in tree.children(store, new)}
    for name in sorted(befores.keys() | afters.keys()):
        below = path + b"/" + name if path else name
        before, after = befores.get(name), afters.get(name)
        if before is not None and after is not None:
            yield from differences(store, below, before, after)
        else:
            yield Change("added" if before is None else "removed", below, before, after)

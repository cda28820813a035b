"""The sweep of a store in a directory of this host."""

from __future__ import annotations

from nexus._core.store import Store
from nexus._core.sweep import Sweep, reindex
from nexus.seams.store import ContentStore, ContentSweep

__all__ = ["open_sweep", "remake_index"]


def open_sweep(store: ContentStore) -> ContentSweep:
    """Begins a sweep; all that was put has to be flushed.

    Raises:
        TypeError: a store of another kind.
    """
    if not isinstance(store, Store):
        raise TypeError("only a store of this host can be swept")
    return Sweep(store)


def remake_index(store: ContentStore) -> int:
    """Makes the index anew from the packs alone, and says how many records it has.

    Raises:
        TypeError: a store of another kind.
        DeadlineError: the store was cancelled.
        OSError: the new index cannot be written.
    """
    if not isinstance(store, Store):
        raise TypeError("only the index of a store of this host can be made")
    return reindex(store)

"""A store of content: what the filesystem engine asks of whoever keeps objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

__all__ = [
    "DATA",
    "INDEX",
    "LEAF",
    "LIST",
    "SIGNATURE",
    "ContentStore",
    "ContentSweep",
    "Entry",
    "Form",
    "Issue",
    "ObjectSource",
    "Row",
]

DATA, LIST, LEAF, INDEX, SIGNATURE = range(1, 6)


class Form:
    """What an entry's content is, docs/spec/nexfs-store.md."""

    NOTHING, DATA, LIST, LEAF, INDEX, TEXT, WITHIN = range(7)


class Entry(NamedTuple):
    """One name of a directory, as a leaf has it.

    Attributes:
        name: its bytes; empty for the root of a tree.
        mode: type and permissions, as st_mode.
        uid: owner.
        gid: group.
        seconds: of the last change, since 1970.
        nanoseconds: of it.
        size: bytes of a file, of all files below a directory, of a link's text; a device's number.
        form: one of Form.
        id: of the object, with forms DATA to INDEX.
        text: of a link, or an embedded leaf.
        extras: records of tag, length and bytes.
    """

    name: bytes
    mode: int
    uid: int
    gid: int
    seconds: int
    nanoseconds: int
    size: int
    form: int
    id: bytes | None
    text: bytes | None
    extras: bytes


class Issue(NamedTuple):
    """Something that was left out of a long piece of work.

    Attributes:
        errno: why.
        path: of what.
    """

    errno: int
    path: bytes


# An entry as its fields alone.
Row: TypeAlias = tuple[bytes, int, int, int, int, int, int, int, bytes | None, bytes | None, bytes]


class ObjectSource(Protocol):
    """Whoever has objects by id."""

    def get(self, identity: bytes) -> bytes:
        """The bytes of an object, verified."""
        ...


class ContentStore(ObjectSource, Protocol):
    """Objects by id. Nothing is promised before `flush` and `replace_state`."""

    def recover(self) -> None:
        """After a write that failed for want of room: forgets what was not flushed."""
        ...

    def read_state(self) -> bytes:
        """The state as it lies there."""
        ...

    def replace_state(self, data: bytes) -> None:
        """The state becomes these bytes, on the medium and at once."""
        ...

    def add_pack(self, number: int, length: int) -> None:
        """Names a pack of the state, in ascending order."""
        ...

    def add_segment(self, number: int) -> None:
        """Loads a segment of the index."""
        ...

    def packs(self) -> list[tuple[int, int]]:
        """Number and length of each pack."""
        ...

    def segments(self) -> list[tuple[int, int]]:
        """Number and records of each segment."""
        ...

    def next_numbers(self) -> tuple[int, int]:
        """The next pack's number, and the next segment's."""
        ...

    def find(self, identity: bytes) -> tuple[int, int, int] | None:
        """Bytes, kind and depth of an object, or None."""
        ...

    def put(self, kind: int, data: bytes, *, bases: Sequence[bytes] = ()) -> bytes:
        """Puts an object, which may continue others; its id."""
        ...

    def ingest(
        self,
        parent: int,
        name: bytes | None,
        *,
        before: Row | None = None,
        attributes: bool = True,
        one_device: bool = False,
        seconds: int = 0,
    ) -> tuple[Row, list[tuple[int, bytes]]]:
        """Takes in a name of an opened directory, or without a name what the descriptor gives."""
        ...

    def restore(
        self,
        entry: Row,
        parent: int,
        name: bytes,
        *,
        owner: bool = False,
        attributes: bool = True,
    ) -> list[tuple[int, bytes]]:
        """Makes a new name in an opened directory what the entry says."""
        ...

    def scrub(self, *, full: bool) -> tuple[int, int, int, list[tuple[int, int, int]]]:
        """Reads all packs: blocks, objects and bytes in them; pack, offset and kind of damage."""
        ...

    def flush(self) -> None:
        """All that was put is on the medium."""
        ...

    def cancel(self) -> None:
        """Whatever takes long ends with DeadlineError, soon; the store is of no further use."""
        ...

    def cancelled(self) -> bool:
        """Whether somebody asked for the end."""
        ...

    def counters(self) -> dict[str, int]:
        """What the work has come to so far."""
        ...

    def alone(self, wanted: bool = True) -> bool:
        """Keeps others from reading, so that files may be removed, or lets them in again."""
        ...

    def files(self, packs: bool) -> list[int]:
        """The numbers of all packs, or of all segments, that lie there."""
        ...

    def remove(self, packs: bool, number: int) -> None:
        """Removes a pack or a segment."""
        ...

    def trim(self, number: int, length: int) -> None:
        """Gives back what lies behind a pack's length: never promised, so nobody reads it."""
        ...

    def lean(self, wanted: bool) -> None:
        """Lets what follows use the room that a medium keeps for changes that take away."""
        ...

    def health(self) -> dict[str, int] | None:
        """How the medium is; None for a directory, whose medium is the host's."""
        ...

    def close(self) -> None:
        """Forgets what was not flushed."""
        ...


class ContentSweep(Protocol):
    """What no tree needs; nx_sweep.h has the theory. Nothing else is put meanwhile."""

    def set_level(self, level: int, delta_level: int) -> None:
        """Blocks that are moved get this level, if they have another."""
        ...

    def mark(self, root: bytes) -> None:
        """Everything that a tree needs."""
        ...

    def keep(self, identity: bytes) -> None:
        """One object that no tree names."""
        ...

    def marked(self) -> tuple[int, int, int]:
        """Objects that are needed, data that is not there, bytes of memory for the marks."""
        ...

    def packs(self) -> list[tuple[int, int, int, int]]:
        """Of each pack number, length, records of the index, how many of these are needed."""
        ...

    def weigh(self, number: int) -> tuple[int, int, int]:
        """Bytes of a pack that are needed, that are not, and that are not of the level."""
        ...

    def move(self, number: int) -> None:
        """What is needed of a pack is in others, and on the medium."""
        ...

    def drop(self, number: int) -> None:
        """The pack is no part of the store any more."""
        ...

    def purge(self) -> int:
        """The index without records of packs that are not there; how many there were."""
        ...

    def close(self) -> None:
        """Forgets the marks."""
        ...

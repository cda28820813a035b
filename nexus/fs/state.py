"""The state of a volume, docs/spec/nexfs-store.md: bytes to values and back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from nexus.errors import VolumeCorruptError
from nexus.physics import blake3

__all__ = ["SETTINGS", "SIGNABLE", "Snapshot", "State", "decode_state", "encode_state"]

_MAGIC = b"NXST\x02\x00\x00\x00"
_MAGIC_UNSIGNED = b"NXST\x01\x00\x00\x00"  # version 1, without signatures
_SNAPSHOT_MAGIC = b"NXSN\x01\x00"
_ZEROS = bytes(32)
_DIGEST = 32
_RECORD = 128
SIGNABLE = 1  # a flag of a snapshot
SETTINGS = {
    1: "seed",
    2: "profile",
    3: "level",
    4: "depth",
    5: "block_raw",
    6: "pack_bytes",
}
_TAGS = {name: tag for tag, name in SETTINGS.items()}


class Snapshot(NamedTuple):
    """A named state of the whole tree.

    Attributes:
        name: of it.
        number: from 1, never used twice.
        time_ns: since 1970.
        root: id of the tree.
        parent: BLAKE3 of the record before, zeros for the first.
        logical: bytes of all files.
        flags: SIGNABLE, signatures of it may exist.
    """

    name: str
    number: int
    time_ns: int
    root: bytes
    parent: bytes
    logical: int
    flags: int = 0

    def record(self) -> bytes:
        """The 128 bytes that the chain is made of."""
        body = b"".join(
            (
                _SNAPSHOT_MAGIC,
                self.flags.to_bytes(2, "little"),
                self.number.to_bytes(8, "little"),
                self.time_ns.to_bytes(8, "little", signed=True),
                self.root,
                self.parent,
                self.logical.to_bytes(8, "little"),
            )
        )
        return body + blake3(body)

    @property
    def identity(self) -> bytes:
        """BLAKE3 of the record: what the next one names as its parent."""
        return blake3(self.record())


class State(NamedTuple):
    """What a volume has.

    Attributes:
        volume: its id.
        generation: how often it was committed.
        head: id of the tree, or None while there is none.
        logical: bytes of all files of the head.
        next_pack: number of the next pack.
        next_segment: number of the next segment.
        next_snapshot: number of the next snapshot.
        packs: number, length, dead bytes.
        segments: numbers.
        snapshots: in the order in which they were taken.
        settings: by the names in SETTINGS; signed values as zigzag.
        signatures: number of a snapshot, id of an object that signs it; rising.
    """

    volume: bytes
    generation: int = 0
    head: bytes | None = None
    logical: int = 0
    next_pack: int = 1
    next_segment: int = 1
    next_snapshot: int = 1
    packs: tuple[tuple[int, int, int], ...] = ()
    segments: tuple[int, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    settings: Mapping[str, int] = MappingProxyType({})
    signatures: tuple[tuple[int, bytes], ...] = ()

    def following(self) -> State:
        """The same, one commit later."""
        return self._replace(generation=self.generation + 1)

    def without(self, snapshot: Snapshot) -> State:
        """The same without a snapshot and what signs it."""
        return self._replace(
            snapshots=tuple(one for one in self.snapshots if one != snapshot),
            signatures=tuple(one for one in self.signatures if one[0] != snapshot.number),
        )

    def signed(self, snapshot: Snapshot, identity: bytes) -> State:
        """The same with an object that signs the snapshot."""
        both = {*self.signatures, (snapshot.number, identity)}
        return self._replace(signatures=tuple(sorted(both)))


def _varint(value: int) -> bytes:
    ret = bytearray()
    while value >= 0x80:
        ret.append(value & 0x7F | 0x80)
        value >>= 7
    ret.append(value)
    return bytes(ret)


def encode_state(state: State) -> bytes:
    """The bytes of a state."""
    numbers = (state.next_pack, state.next_segment, state.next_snapshot)
    parts = [
        _MAGIC,
        state.generation.to_bytes(8, "little"),
        state.volume,
        state.head or _ZEROS,
        state.logical.to_bytes(8, "little"),
        *(number.to_bytes(8, "little") for number in numbers),
        _varint(len(state.packs)),
        *(_varint(number) for pack in state.packs for number in pack),
        _varint(len(state.segments)),
        *(_varint(number) for number in state.segments),
        _varint(len(state.snapshots)),
    ]
    for snapshot in state.snapshots:
        name = snapshot.name.encode()
        parts += [_varint(len(name)), name, snapshot.record()]
    parts.append(_varint(len(state.settings)))
    for tag, value in sorted((_TAGS[word], value) for word, value in state.settings.items()):
        parts += [_varint(tag), _varint(value)]
    parts.append(_varint(len(state.signatures)))
    for snapshot_number, identity in state.signatures:
        parts += [_varint(snapshot_number), identity]
    body = b"".join(parts)
    return body + blake3(body)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise VolumeCorruptError("the state of the volume ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def integer(self, size: int = 8) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            if (byte == 0 and shift) or (shift == 63 and byte > 1):
                raise VolumeCorruptError("the state of the volume has a number that is none")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def count(self) -> int:
        """How many items follow; each has a byte at least."""
        count = self.varint()
        if count > len(self._data) - self._at:
            raise VolumeCorruptError("the state of the volume counts more than it has")
        return count

    @property
    def spent(self) -> bool:
        return self._at == len(self._data)


def _snapshot(name: bytes, record: bytes) -> Snapshot:
    cursor = _Cursor(record)
    magic, flags, number = cursor.take(6), cursor.integer(2), cursor.integer()
    time_ns = int.from_bytes(cursor.take(8), "little", signed=True)
    root, parent, logical = cursor.take(32), cursor.take(32), cursor.integer()
    if magic != _SNAPSHOT_MAGIC or blake3(record[:-_DIGEST]) != record[-_DIGEST:]:
        raise VolumeCorruptError("a snapshot's record is not what its digest says")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise VolumeCorruptError("a snapshot's name is no text") from None
    return Snapshot(text, number, time_ns, root, parent, logical, flags)


def _signatures(cursor: _Cursor, snapshots: tuple[Snapshot, ...]) -> tuple[tuple[int, bytes], ...]:
    signable = {one.number for one in snapshots if one.flags & SIGNABLE}
    found = tuple((cursor.varint(), cursor.take(_DIGEST)) for _ in range(cursor.count()))
    if sorted(set(found)) != list(found) or any(one not in signable for one, _ in found):
        raise VolumeCorruptError("the state of the volume has a signature of nothing")
    return found


def decode_state(data: bytes) -> State:
    """The state that the bytes are.

    Raises:
        VolumeCorruptError: they are none, or were changed.
    """
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if len(data) < len(_MAGIC) + _DIGEST or blake3(body) != digest:
        raise VolumeCorruptError("the state of the volume is not what its digest says")
    cursor = _Cursor(body)
    magic = cursor.take(len(_MAGIC))
    if magic not in (_MAGIC, _MAGIC_UNSIGNED):
        raise VolumeCorruptError("the state of the volume is of another version")
    generation, volume, head = cursor.integer(), cursor.take(16), cursor.take(32)
    logical, next_pack, next_segment, next_snapshot = (cursor.integer() for _ in range(4))
    packs = tuple(
        (cursor.varint(), cursor.varint(), cursor.varint()) for _ in range(cursor.count())
    )
    segments = tuple(cursor.varint() for _ in range(cursor.count()))
    snapshots = tuple(
        _snapshot(cursor.take(cursor.varint()), cursor.take(_RECORD)) for _ in range(cursor.count())
    )
    settings = {}
    for _ in range(cursor.count()):
        tag, value = cursor.varint(), cursor.varint()
        if tag not in SETTINGS:
            raise VolumeCorruptError(f"the volume has setting {tag}, which is not known here")
        settings[SETTINGS[tag]] = value
    signatures = _signatures(cursor, snapshots) if magic == _MAGIC else ()
    if not cursor.spent:
        raise VolumeCorruptError("something follows the state of the volume")
    return State(
        volume,
        generation,
        None if head == _ZEROS else head,
        logical,
        next_pack,
        next_segment,
        next_snapshot,
        packs,
        segments,
        snapshots,
        settings,
        signatures,
    )

"""Proofs of what a tree has at a path, docs/spec/nexfs-proof.md: made from a volume, checked alone.

Theory of operation. Prover and verifier walk the tree by the same functions. The prover's source of
objects writes down what it gives out; the verifier's reads them in this order and gives out none
that has not the id that was asked for. So a proof is what a reader needs, and nothing else passes.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass

from nexus.errors import CorruptError, ProofError
from nexus.fs import tree
from nexus.fs.volume import Volume
from nexus.physics import blake3
from nexus.seams.store import Entry, Form, ObjectSource

__all__ = ["PROOF_MAX", "Statement", "check_proof", "make_proof", "matches"]

PROOF_MAX = 64 << 20
_OBJECT_MAX = 1 << 20
_DATA_MAX = 256 << 10
_PATH_MAX = 65_535
_NAMES_MAX = 512
_HEAD_MAX = _PATH_MAX + 64
_MAGIC = b"NXPR\x01\x00"
_ABSENT, _WHOLE = 1, 2
_ID = 32


@dataclass(frozen=True)
class Statement:
    """What a proof proves.

    Attributes:
        root: id of the tree.
        path: in it.
        entry: what is there; None: nothing is.
        pieces: of a file bytes and id (None: a hole) of each; None where the proof has no lists.
    """

    root: bytes
    path: bytes
    entry: Entry | None
    pieces: tuple[tuple[int, bytes | None], ...] | None


def _walked(
    source: ObjectSource, root: bytes, names: list[bytes], *, whole: bool
) -> tuple[Entry | None, tuple[tuple[int, bytes | None], ...] | None]:
    entry = tree.lookup(source, tree.open_root(source, root), names)
    if entry is None or not stat.S_ISREG(entry.mode) or (entry.form == Form.LIST and not whole):
        return entry, None
    return entry, tuple(tree.pieces(source, entry))


class _Recorder:
    """Gives out objects of a volume, and writes them down."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self.written = bytearray()

    def get(self, identity: bytes) -> bytes:
        data = self._source.get(identity)
        self.written += _varint(len(data)) + data
        if len(self.written) > PROOF_MAX - _HEAD_MAX:
            raise ValueError(f"the proof would have more than {PROOF_MAX} bytes")
        return data


class _Reader:
    """Gives out what a proof has, in its order, if it is what is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ProofError("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            if (byte == 0 and shift) or shift > 28:
                raise ProofError("it has a number that is none")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def get(self, identity: bytes) -> bytes:
        size = self.varint()
        if not 0 < size <= _OBJECT_MAX:
            raise ProofError(f"it has an object of {size} bytes")
        data = self.take(size)
        if blake3(data) != identity:
            raise ProofError(f"an object is not {identity.hex()}, which the one before names")
        return data

    @property
    def spent(self) -> bool:
        return self._at == len(self._data)


def _varint(value: int) -> bytes:
    ret = bytearray()
    while value >= 0x80:
        ret.append(value & 0x7F | 0x80)
        value >>= 7
    ret.append(value)
    return bytes(ret)


def _names(path: bytes) -> list[bytes]:
    """Of a path as a proof has it, which is one way to write it and no other."""
    names = tree.split(path)
    if b"/".join(names) != path or len(path) > _PATH_MAX or len(names) > _NAMES_MAX:
        raise ValueError("a path that is none")
    return names


def make_proof(volume: Volume, root: bytes, path: str | bytes, *, whole: bool = False) -> bytes:
    """The proof of what a tree has at a path, or that nothing is there.

    Args:
        volume: that has the tree.
        root: its id.
        path: of what.
        whole: with the ids of all pieces of the file.

    Raises:
        CorruptError: what is needed for it is damaged.
        ValueError: `whole` of something that is no file; a path or a proof that is too long.
    """
    joined = b"/".join(tree.split(path))
    recorder = _Recorder(volume.store)
    entry, _ = _walked(recorder, root, _names(joined), whole=whole)
    if whole and (entry is None or not stat.S_ISREG(entry.mode)):
        raise ValueError("only a file has pieces to prove")
    flags = (_ABSENT if entry is None else 0) | (_WHOLE if whole else 0)
    head = _MAGIC + flags.to_bytes(2, "little") + root + _varint(len(joined)) + joined
    return head + bytes(recorder.written)


def check_proof(data: bytes, root: bytes) -> Statement:
    """What the proof proves of the tree with this id.

    Raises:
        ProofError: nothing.
    """
    if len(data) > PROOF_MAX:
        raise ProofError(f"it has more than {PROOF_MAX} bytes")
    reader = _Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise ProofError("it is no proof, or of another version")
    flags = int.from_bytes(reader.take(2), "little")
    if flags not in (0, _ABSENT, _WHOLE):
        raise ProofError(f"it has flags {flags:#x}, which are not known here")
    if reader.take(_ID) != root:
        raise ProofError("it is of another tree")
    path = reader.take(reader.varint())
    try:
        entry, pieces = _walked(reader, root, _names(path), whole=flags == _WHOLE)
    except ProofError:
        raise
    except CorruptError as error:
        raise ProofError(f"an object is not what it is named as: {error}") from error
    except ValueError as error:
        raise ProofError(str(error)) from error
    if not reader.spent:
        raise ProofError("something follows behind it")
    if (entry is None) != (flags == _ABSENT) or (flags == _WHOLE and pieces is None):
        raise ProofError("it proves something else than it says")
    if any(identity is not None and size > _DATA_MAX for size, identity in pieces or ()):
        raise ProofError("a piece is longer than data can be")
    return Statement(root, path, entry, pieces)


def matches(statement: Statement, read: Callable[[int], bytes]) -> bool:
    """Whether what `read` gives is the file, to its last byte.

    Args:
        statement: with pieces.
        read: at most so many next bytes; fewer only at the end.
    """
    for size, identity in statement.pieces or ():
        if identity is not None:
            if blake3(read(size)) != identity:
                return False
            continue
        for at in range(0, size, _OBJECT_MAX):
            part = min(size - at, _OBJECT_MAX)
            if read(part) != bytes(part):
                return False
    return not read(1)

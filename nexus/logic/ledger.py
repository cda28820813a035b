"""The ledger: events in a chain of keyed hashes, sealed by signatures; docs/spec/ledger.md.

`Ledger` is its one writer: it takes over what an earlier one left, cuts a torn tail off, and goes
on with the chain. `verify` proves a whole ledger and says which record is the first that is not
what it claims to be.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from nexus.errors import CorruptError, LedgerError
from nexus.physics import blake3, blake3_keyed
from nexus.physics.stl import decode_event
from nexus.seams.clock import Clock
from nexus.seams.events import Event
from nexus.seams.ledger import LedgerStore, Signer

__all__ = ["Ledger", "Proof", "Record", "RecordType", "verify"]

MAGIC = b"NXLGR\0\r\n"
VERSION = 1
HEAD_BYTES, RECORD_BYTES = 96, 128
FILE_BYTES_MAX = 16 << 20
SEAL_EVERY = 256
FILES_MAX = 10**8
_HEAD = struct.Struct("<8sIIQ32s32s8s")
_RECORD = struct.Struct("<QIIQQ64s32s")
_START = struct.Struct("<QQIIQQ24x")
_LOSS = struct.Struct("<QQ48x")
_SEAL_TEXT = b"NXLGR seal"
_ZERO = bytes(32)
_READ_BYTES = 8192 * RECORD_BYTES

Verify = Callable[[bytes, bytes, bytes], bool]


class RecordType(IntEnum):
    """What a record says."""

    EVENT = 1
    START = 2
    SEAL = 3
    LOSS = 4
    FINDING = 5


@dataclass(frozen=True, slots=True)
class Record:
    """One record; the attributes are the fields of docs/spec/ledger.md."""

    sequence: int
    type: RecordType
    boot: int
    wall_ns: int
    id: int
    body: bytes
    link: bytes


@dataclass(slots=True)
class Proof:
    """What a proof came to.

    Attributes:
        files: how many were read.
        records: how many are proved to follow from each other.
        events: how many of them are events.
        seals: how many signatures are right.
        lost: events that the ledger says it did not get.
        unsigned: records after the last seal.
        key: under which the seals are right.
        bad: where the chain is broken: file, sequence, why; None when it is not.
    """

    files: int = 0
    records: int = 0
    events: int = 0
    seals: int = 0
    lost: int = 0
    unsigned: int = 0
    key: bytes = b""
    bad: tuple[str, int, str] | None = None


@dataclass(slots=True)
class _Place:
    """Where a chain has got to."""

    sequence: int = 0
    link: bytes = _ZERO
    boot: int = 0
    start: tuple[int, ...] = ()
    id: int = 0
    unsealed: int = 0


def _name(number: int) -> str:
    return f"chain-{number:08}.nxl"


def _pack_head(number: int, first: int, link: bytes, key: bytes) -> bytes:
    head = _HEAD.pack(MAGIC, VERSION, number, first, link, key, bytes(8))[:-8]
    return head + blake3(head)[:8]


def _unpack_head(raw: bytes) -> tuple[int, int, bytes, bytes]:
    """Number, first sequence, link and key of a file; ValueError when its head is not right."""
    if len(raw) != HEAD_BYTES:
        raise ValueError("its head is cut off")
    magic, version, number, first, link, key, check = _HEAD.unpack(raw)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"it is no ledger of version {VERSION}")
    if check != blake3(raw[:-8])[:8]:
        raise ValueError("the check of its head is wrong")
    return number, first, link, key


def _pack(place: _Place, type: RecordType, wall_ns: int, id: int, body: bytes) -> bytes:
    assert len(body) == 64, "every body has 64 bytes"
    raw = _RECORD.pack(place.sequence + 1, type, place.boot, wall_ns, id, body, _ZERO)[:-32]
    return raw + blake3_keyed(place.link, raw)


def _unpack(raw: bytes, place: _Place) -> Record:
    """The record that follows; ValueError when it does not."""
    sequence, type, boot, wall_ns, id, body, link = _RECORD.unpack(raw)
    if link != blake3_keyed(place.link, raw[:-32]):
        raise ValueError("its link does not follow from the record before")
    if sequence != place.sequence + 1:
        raise ValueError(f"its sequence is {sequence}, not {place.sequence + 1}")
    try:
        known = RecordType(type)
    except ValueError:
        raise ValueError(f"its type {type} is none") from None
    return Record(sequence, known, boot, wall_ns, id, body, link)


def _step(place: _Place, record: Record) -> None:
    place.sequence, place.link, place.boot = record.sequence, record.link, record.boot
    place.unsealed = 0 if record.type == RecordType.SEAL else place.unsealed + 1
    if record.type == RecordType.START:
        place.start = _START.unpack(record.body)
        place.id = place.start[-1]
    elif record.type == RecordType.EVENT:
        place.id = record.id
    elif record.type == RecordType.LOSS:
        first, count = _LOSS.unpack(record.body)
        place.id = max(place.id, first + count - 1)


def _seal_text(sequence: int, link: bytes) -> bytes:
    return _SEAL_TEXT + sequence.to_bytes(8, "little") + link


def _raw_records(store: LedgerStore, name: str) -> Iterator[bytes]:
    """The records of a file as bytes; the last piece may be shorter."""
    offset = HEAD_BYTES
    while piece := store.read(name, offset, _READ_BYTES):
        for at in range(0, len(piece), RECORD_BYTES):
            yield piece[at : at + RECORD_BYTES]
        offset += len(piece)


def _check_body(record: Record, place: _Place, key: bytes, verify: Verify) -> str | None:
    """What is wrong in a record whose link is right; `place` is before it."""
    if record.type in (RecordType.EVENT, RecordType.FINDING):
        try:
            decode_event(record.body, record.id)
        except CorruptError as error:
            return str(error)
    if record.type == RecordType.SEAL and not verify(
        key, _seal_text(record.sequence, place.link), record.body
    ):
        return "its signature is wrong"
    return None


class _Prover:
    """Walks over a ledger, and keeps what it has proved."""

    def __init__(self, store: LedgerStore, key: bytes | None, verify: Verify) -> None:
        self._store = store
        self._verify = verify
        self._place = _Place()
        self.proof = Proof(key=key or b"")

    def file(self, number: int, name: str) -> None:
        """Prove one file; what is wrong is in the proof."""
        place, proof = self._place, self.proof
        try:
            head, first, link, key = _unpack_head(self._store.read(name, 0, HEAD_BYTES))
        except ValueError as error:
            proof.bad = name, place.sequence + 1, str(error)
            return
        proof.key = proof.key or key
        if (head, first, link) != (number, place.sequence + 1, place.link):
            proof.bad = name, place.sequence + 1, "it does not follow from the file before"
        elif key != proof.key:
            proof.bad = name, place.sequence + 1, "it is of another key"
        else:
            proof.files += 1
            self._records(name)

    def _records(self, name: str) -> None:
        place, proof = self._place, self.proof
        for raw in _raw_records(self._store, name):
            if len(raw) != RECORD_BYTES:
                proof.bad = name, place.sequence + 1, "it is cut off"
                return
            try:
                record = _unpack(raw, place)
            except ValueError as error:
                proof.bad = name, place.sequence + 1, str(error)
                return
            wrong = _check_body(record, place, proof.key, self._verify)
            if wrong is not None:
                proof.bad = name, record.sequence, wrong
                return
            _step(place, record)
            proof.records += 1
            proof.events += record.type == RecordType.EVENT
            proof.seals += record.type == RecordType.SEAL
            proof.unsigned = place.unsealed
            if record.type == RecordType.LOSS:
                proof.lost += _LOSS.unpack(record.body)[1]


def verify(store: LedgerStore, key: bytes | None, verify_signature: Verify) -> Proof:
    """Prove a ledger.

    Args:
        store: where it is.
        key: whose signatures it must have; None takes the key that it names itself.
        verify_signature: takes key, data and signature.
    """
    prover = _Prover(store, key, verify_signature)
    for number, name in enumerate(store.names()):
        if name != _name(number):
            prover.proof.bad = name, 0, f"the file before it is missing: {_name(number)}"
        else:
            prover.file(number, name)
        if prover.proof.bad is not None:
            break
    return prover.proof


@dataclass(slots=True)
class Ledger:
    """The one writer of a ledger; make it with `open`.

    Attributes:
        store: where it is.
        signer: the node's key.
        clock: whose wall time records carry.
    """

    store: LedgerStore
    signer: Signer
    clock: Clock
    _number: int = 0
    _size: int = 0
    _cut: int = 0
    _place: _Place = field(default_factory=_Place)
    _pending: list[bytes] = field(default_factory=list)

    @classmethod
    def open(cls, store: LedgerStore, signer: Signer, clock: Clock) -> Ledger:
        """Take over what is there.

        Raises:
            LedgerError: it is not what a crash could have left; nothing was changed.
        """
        ledger = cls(store, signer, clock)
        names = store.names()
        while names and ledger._is_stillborn(names[-1]):
            store.remove(names.pop())
        if names:
            ledger._take_over(names[-1])
        else:
            ledger._begin_file()
        return ledger

    @property
    def next_id(self) -> int:
        """What to ask the supervisor for events after, once `start` was called."""
        return self._place.id

    def _is_stillborn(self, name: str) -> bool:
        if self.store.size(name) > HEAD_BYTES:
            return False
        try:
            _unpack_head(self.store.read(name, 0, HEAD_BYTES))
        except ValueError:
            return True
        return False

    def _take_over(self, name: str) -> None:
        try:
            number, first, link, key = _unpack_head(self.store.read(name, 0, HEAD_BYTES))
        except ValueError as error:
            raise LedgerError(f"{name}: {error}", hint="see nexus verify") from None
        if key != self.signer.public:
            raise LedgerError(
                f"{name} is signed by another key", hint="give the node its identity/ back"
            )
        place = self._place = _Place(first - 1, link)
        good = HEAD_BYTES
        size = self.store.size(name)
        for raw in _raw_records(self.store, name):
            try:
                record = _unpack(raw, place) if len(raw) == RECORD_BYTES else None
            except ValueError as error:
                if good + RECORD_BYTES < size:
                    raise LedgerError(
                        f"{name}: record {place.sequence + 1}: {error}", hint="see nexus verify"
                    ) from None
                record = None
            if record is None:
                break
            _step(place, record)
            good += RECORD_BYTES
        if good < size:
            self._cut = size - good
            self.store.truncate(name, good)
        self._number, self._size = number, good

    def _begin_file(self) -> None:
        place = self._place
        head = _pack_head(self._number, place.sequence + 1, place.link, self.signer.public)
        self.store.append(_name(self._number), head)
        self._size = HEAD_BYTES

    def _add(self, type: RecordType, id: int, body: bytes) -> None:
        place = self._place
        raw = _pack(place, type, self.clock.wall_ns(), id, body)
        _step(place, _unpack_own(raw, type))
        self._pending.append(raw)
        if type == RecordType.SEAL:
            self.flush()
            return
        full = self._size + (len(self._pending) + 2) * RECORD_BYTES > FILE_BYTES_MAX
        if full or place.unsealed >= SEAL_EVERY:
            self.seal()
        if full:
            self._number += 1
            self._begin_file()
            # Each file says what its events belong to, so that no other is needed to go on.
            body = _START.pack(*place.start[:4], 0, place.id)
            self._add(RecordType.START, 0, body)

    def start(self, start_ns: int, start_wall_ns: int, generation: int, life: int) -> int:
        """Say that this writer begins; how many bytes of a torn tail were cut off."""
        place = self._place
        place.boot += 1
        newest = place.id if place.start[:2] == (start_ns, start_wall_ns) else 0
        body = _START.pack(start_ns, start_wall_ns, generation, life, self._cut, newest)
        self._add(RecordType.START, 0, body)
        return self._cut

    def event(self, event: Event) -> None:
        """Write what the supervisor told; what is missing before it is written as lost."""
        expected = self._place.id + 1
        if event.id > expected:
            self._add(RecordType.LOSS, 0, _LOSS.pack(expected, event.id - expected))
        self._add(RecordType.EVENT, event.id, event.raw)

    def finding(self, raw: bytes) -> None:
        """Write an event of L1's own."""
        self._add(RecordType.FINDING, 0, raw)

    def flush(self) -> None:
        """Have everything written so far on the disk."""
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self.store.append(_name(self._number), data)
        self._size += len(data)
        self.store.sync(_name(self._number))

    def seal(self) -> None:
        """Sign all that was written since the last seal."""
        place = self._place
        if place.unsealed == 0:
            self.flush()
            return
        text = _seal_text(place.sequence + 1, place.link)
        self._add(RecordType.SEAL, 0, self.signer.sign(text))


def _unpack_own(raw: bytes, type: RecordType) -> Record:
    sequence, _, boot, wall_ns, id, body, link = _RECORD.unpack(raw)
    return Record(sequence, type, boot, wall_ns, id, body, link)

"""The error buffer of a node, read without its supervisor: docs/spec/beb.md."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nexus._core.hash import xxh64
from nexus.errors import CorruptError

__all__ = ["BEB_BYTES", "BEBRecord", "ErrorBuffer", "read_error_buffer"]

BEB_BYTES = 65_536
_RECORD_BYTES = 64
_RING = 1023
_MAGIC = b"NXBEB\0\r\n"
_VERSION, _RECORDS = 1, 1024
_RECORD = struct.Struct("<QQQIHHQ3Q")
_HEADER = struct.Struct("<Q8sIII")


@dataclass(frozen=True, slots=True)
class BEBRecord:
    """One valid record; the attributes are the fields of docs/spec/beb.md."""

    sequence: int
    time_ns: int
    generation: int
    kind: int
    code: int
    fiber: int
    data: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ErrorBuffer:
    """What was found.

    Attributes:
        generation: how often the buffer was attached to; 0 when its header is not valid.
        records: the valid ones, in their order.
        damaged: how many are neither valid nor empty.
    """

    generation: int
    records: tuple[BEBRecord, ...]
    damaged: int


def _checked(raw: bytes, number: int) -> bool:
    return int.from_bytes(raw[:8], "little") == xxh64(raw[8:], number)


def read_error_buffer(data: bytes) -> ErrorBuffer:
    """All that an error buffer holds; damage costs the record that it is in.

    Raises:
        CorruptError: these bytes are none, or of another version.
    """
    if len(data) != BEB_BYTES:
        raise CorruptError(f"an error buffer has {BEB_BYTES} bytes, not {len(data)}")
    generation = 0
    head = data[:_RECORD_BYTES]
    if _checked(head, 0) and head[8:16] == _MAGIC:
        _, _, version, records, generation = _HEADER.unpack_from(head)
        if (version, records) != (_VERSION, _RECORDS):
            raise CorruptError(f"this is an error buffer of version {version}, not {_VERSION}")
    found, damaged = [], 0
    for number in range(1, _RING + 1):
        raw = data[number * _RECORD_BYTES : (number + 1) * _RECORD_BYTES]
        if not any(raw):
            continue
        _, sequence, time_ns, own, kind, code, fiber, *numbers = _RECORD.unpack(raw)
        if not _checked(raw, number) or sequence == 0 or 1 + (sequence - 1) % _RING != number:
            damaged += 1
            continue
        triple = (numbers[0], numbers[1], numbers[2])
        found.append(BEBRecord(sequence, time_ns, own, kind, code, fiber, triple))
    found.sort(key=lambda record: record.sequence)
    return ErrorBuffer(generation, tuple(found), damaged)

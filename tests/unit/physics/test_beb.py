"""The error buffer read from Python: golden bytes, damage, other versions."""

from __future__ import annotations

import pytest

from nexus.errors import CorruptError
from nexus.physics import xxh64
from nexus.physics.beb import BEB_BYTES, read_error_buffer

# docs/spec/beb.md: the header of generation 3, and the record with sequence 1,025 (number 2).
HEAD = bytes.fromhex("5656d68e38df621d4e58424542000d0a010000000004000003000000").ljust(64, b"\0")
RECORD = bytes.fromhex(
    "612fbf1a03e8d4760104000000000000080706050403020103000000480005000900000000000000"
    "010000000000000002000000000000000300000000000000"
)


def buffer() -> bytearray:
    data = bytearray(BEB_BYTES)
    data[:64] = HEAD
    data[128:192] = RECORD
    return data


def test_golden_bytes_are_read() -> None:
    found = read_error_buffer(bytes(buffer()))
    assert (found.generation, found.damaged) == (3, 0)
    (record,) = found.records
    assert (record.sequence, record.time_ns) == (1025, 0x0102030405060708)
    assert (record.kind, record.code, record.fiber, record.data) == (72, 5, 9, (1, 2, 3))


@pytest.mark.parametrize("at", range(128, 192))
def test_a_flipped_bit_costs_its_record_and_no_other(at: int) -> None:
    data = buffer()
    data[at] ^= 4
    found = read_error_buffer(bytes(data))
    assert (found.records, found.damaged, found.generation) == ((), 1, 3)


def test_a_record_that_was_copied_to_another_place_is_damaged() -> None:
    data = buffer()
    data[192:256] = RECORD
    found = read_error_buffer(bytes(data))
    assert (len(found.records), found.damaged) == (1, 1)


def test_without_its_header_the_records_are_still_there() -> None:
    data = buffer()
    data[9] ^= 1
    found = read_error_buffer(bytes(data))
    assert (len(found.records), found.generation) == (1, 0)


def test_what_is_none_is_refused() -> None:
    with pytest.raises(CorruptError, match="65536 bytes"):
        read_error_buffer(b"")
    data = buffer()
    data[16] = 2
    data[:8] = xxh64(bytes(data[8:64]), 0).to_bytes(8, "little")
    with pytest.raises(CorruptError, match="version 2"):
        read_error_buffer(bytes(data))


def test_a_new_buffer_is_empty() -> None:
    found = read_error_buffer(bytes(BEB_BYTES))
    assert (found.records, found.damaged, found.generation) == ((), 0, 0)

"""Typed records: what is packed comes back, and nothing else passes for a record."""

from __future__ import annotations

import math
import struct
from typing import NamedTuple, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nexus import fiber
from nexus.errors import PeerRecordError, RecordError
from nexus.fiber.record import Layout

INTEGERS = {
    **{getattr(fiber, f"I{bits}"): (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, bits // 8)
       for bits in (8, 16, 32, 64)},
    **{getattr(fiber, f"U{bits}"): (0, 2**bits - 1, bits // 8) for bits in (8, 16, 32, 64)},
    int: (-(2**63), 2**63 - 1, 8),
}  # fmt: skip
FLOATS = {fiber.F32: (32, 4), fiber.F64: (64, 8), float: (64, 8)}
KINDS = [*INTEGERS, *FLOATS, bool]


def size_of(kind):
    return 1 if kind is bool else INTEGERS[kind][2] if kind in INTEGERS else FLOATS[kind][1]


def values(kind):
    if kind is bool:
        return st.booleans()
    if kind in INTEGERS:
        low, high, _ = INTEGERS[kind]
        return st.integers(low, high) | st.sampled_from([low, high])
    return st.floats(width=FLOATS[kind][0])


@st.composite
def records(draw):
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=12))
    kind = NamedTuple("Drawn", [(f"field{i}", one) for i, one in enumerate(kinds)])
    return kinds, kind, kind(*(draw(values(one)) for one in kinds))


def same(left, right):
    return left == right or (math.isnan(left) and math.isnan(right))


@given(records())
def test_what_is_packed_comes_back(drawn):
    kinds, kind, record = drawn
    layout = Layout(kind)
    data = layout.pack(record)
    assert len(data) == layout.size == sum(map(size_of, kinds))
    back = layout.unpack(data)
    assert type(back) is kind
    assert all(map(same, back, record))
    assert [type(value) for value in back] == [type(value) for value in record]


@given(records(), st.binary(max_size=100))
def test_bytes_of_another_size_are_no_record(drawn, data):
    layout = Layout(drawn[1])
    assume(len(data) != layout.size)
    with pytest.raises(PeerRecordError):
        layout.unpack(data)


@given(st.sampled_from(list(INTEGERS)), st.integers(1, 2**70), st.booleans())
def test_a_number_outside_its_width_is_refused(kind, far, below):
    low, high, _ = INTEGERS[kind]
    layout = Layout(NamedTuple("One", [("value", kind)]))
    with pytest.raises(RecordError):
        layout.pack(layout.kind(low - far if below else high + far))


@given(st.floats(3.5e38, 1e308))
def test_a_float_that_32_bits_cannot_hold_is_refused(value):
    layout = Layout(NamedTuple("One", [("value", fiber.F32)]))
    with pytest.raises(RecordError):
        layout.pack(layout.kind(value))


class Mixed(NamedTuple):
    a: fiber.U8
    b: fiber.U64
    c: fiber.F32


class Text(NamedTuple):
    name: str


class Free(NamedTuple):
    numbers: list[int]


@pytest.mark.parametrize("kind", [Text, Free, tuple, int, dict, NamedTuple("Empty", []), 7])
def test_what_has_no_fixed_width_is_no_record_type(kind):
    with pytest.raises(RecordError):
        Layout(kind)


def test_the_layout_is_little_endian_without_padding():
    assert Layout(Mixed).format == "<BQf"
    assert Layout(Mixed).pack(Mixed(1, 2, 0.5)) == struct.pack("<BQf", 1, 2, 0.5)


def test_every_width_is_covered():
    assert {get_args(kind) for kind in KINDS if get_args(kind)} == {
        get_args(getattr(fiber, name)) for name in fiber.__all__ if name[1:].isdigit()
    }

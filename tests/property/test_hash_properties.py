"""Hashes against the independent PyPI implementations, for any input and any split."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.physics import (
    Blake3,
    blake3,
    blake3_derive_key,
    blake3_keyed,
    blake3_many,
    crc32c,
    siphash24,
    xxh3_64,
    xxh64,
)

U64 = st.integers(0, 2**64 - 1)
# Lengths where something changes: blocks, leaves, lanes, groups, stripes.
EDGES = [0, 1, 16, 17, 64, 128, 129, 240, 241, 1024, 2048, 4096, 8192, 16384, 32768, 262144]
LENGTHS = st.one_of(
    st.integers(0, 300),
    st.integers(0, 40000),
    st.tuples(st.sampled_from(EDGES), st.integers(-2, 2)).map(lambda t: max(0, t[0] + t[1])),
)


@st.composite
def inputs(draw):
    length = draw(LENGTHS)
    seed = draw(st.binary(min_size=1, max_size=61))
    return (seed * (length // len(seed) + 1))[:length]


@settings(deadline=None)
@given(inputs(), st.integers(0, 300))
def test_blake3_equals_the_package(data, length):
    peer = pytest.importorskip("blake3")
    assert blake3(data) == peer.blake3(data).digest()
    assert blake3(data, length=length) == peer.blake3(data).digest(length=length)


@settings(deadline=None)
@given(inputs(), st.binary(min_size=32, max_size=32), st.text(max_size=50))
def test_blake3_modes_equal_the_package(data, key, context):
    peer = pytest.importorskip("blake3")
    assert blake3_keyed(key, data) == peer.blake3(data, key=key).digest()
    expected = peer.blake3(data, derive_key_context=context).digest()
    assert blake3_derive_key(context, data) == expected


@settings(deadline=None)
@given(inputs(), st.lists(st.integers(0, 300000), max_size=8))
@example(bytes(270000), [1024, 2048, 262144])
def test_any_split_gives_the_same_digest(data, cuts):
    hasher = Blake3()
    last = 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        hasher.update(data[last:cut])
        last = cut
    assert hasher.digest() == blake3(data)


@settings(deadline=None)
@given(st.lists(inputs(), max_size=40))
def test_many_equals_one_by_one(items):
    assert blake3_many(items) == [blake3(item) for item in items]


@settings(deadline=None)
@given(inputs(), U64)
def test_xxhash_equals_the_package(data, seed):
    peer = pytest.importorskip("xxhash")
    assert xxh3_64(data, seed) == peer.xxh3_64_intdigest(data, seed)
    assert xxh64(data, seed) == peer.xxh64_intdigest(data, seed)


@settings(deadline=None)
@given(inputs(), st.integers(0, 2**32 - 1), st.integers(0, 300000))
def test_crc_equals_the_package_and_carries_on(data, value, cut):
    assert crc32c(data, value) == google_crc32c.extend(value, data)
    assert crc32c(data[cut:], crc32c(data[:cut], value)) == crc32c(data, value)


@settings(deadline=None)
@given(inputs(), st.binary(min_size=16, max_size=16))
def test_siphash_equals_the_package(data, key):
    peer = pytest.importorskip("siphash24")
    expected = peer.siphash24(data, key=key).digest()
    assert siphash24(key, data).to_bytes(8, "little") == expected

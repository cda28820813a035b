"""Chunking against its definition in Python, the PyPI package, and any split or thread count."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.physics import Chunker, blake3


@st.composite
def inputs(draw):
    """Random bytes, with runs in which there is no cut."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    parts = []
    for kind in draw(st.lists(st.integers(0, 2), max_size=5)):
        size = generator.randrange(20000)
        parts.append(
            generator.randbytes(size) if kind else bytes([generator.randrange(256)]) * size
        )
    return b"".join(parts)


@st.composite
def sizes(draw):
    minimum = draw(st.integers(64, 2000))
    average = draw(st.integers(max(256, minimum), 5000))
    maximum = draw(st.integers(max(1024, average), 20000))
    return minimum, average, maximum


@settings(deadline=None)
@given(inputs(), sizes(), st.integers(0, 3), st.integers(0, 2**64 - 1), st.data())
def test_any_split_of_a_stream_gives_the_same_cuts(data, limits, normalization, seed, draw):
    chunker = Chunker(*limits, normalization=normalization, seed=seed)
    expected = chunker.cuts(data)
    running = chunker.stream()
    ends: list[int] = []
    at = 0
    most = draw.draw(st.sampled_from([3, 100, 1000, 30000]))
    generator = random.Random(draw.draw(st.integers(0, 2**32)))
    while at < len(data):
        step = generator.randrange(most)
        ends += running.update(data[at : at + step])
        at += step
    ends += running.finish()
    assert ends == expected


@settings(deadline=None)
@given(inputs(), sizes(), st.integers(1, 8))
def test_digests_are_those_of_the_chunks(data, limits, threads):
    chunker = Chunker(*limits)
    ends = chunker.cuts(data)
    starts = [0, *ends]
    expected = [(end, blake3(data[starts[i] : end])) for i, end in enumerate(ends)]
    assert chunker.digests(data, threads=threads) == expected
    assert [end for end, _ in chunker.cuts_and_hashes(data)] == ends
    assert not data or ends[-1] == len(data)
    lowest = limits[0] & ~1  # bytes are tested in pairs from there
    assert all(lowest <= b - a <= limits[2] for a, b in zip(starts, ends[:-1], strict=False))


# The package takes seeds below 2^63 only.
@settings(max_examples=40, deadline=None)
@given(inputs(), st.integers(0, 3), st.integers(0, 2**63 - 1))
def test_cuts_equal_the_package(data, normalization, seed):
    peer = pytest.importorskip("pyfastcdc")
    other = peer.FastCDC(
        avg_size=1024,
        min_size=256,
        max_size=8192,
        normalized_chunking=normalization,
        seed=seed,
    )
    chunker = Chunker(256, 1024, 8192, normalization=normalization, seed=seed)
    assert chunker.cuts(data) == [c.offset + c.length for c in other.cut_buf(data)]

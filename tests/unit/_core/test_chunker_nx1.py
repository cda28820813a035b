"""Profile nx1: its vectors, and a search written from the specification alone."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from nexus.physics import Chunker
from tests.unit._core.test_chunker import lengths, mark, stream, synthetic

VECTORS = [
    ("8 MiB", 1, 106, "16bd817e48f3c3e2"),
    ("8 MiB", 2, 113, "0e91c61ee3175163"),
    ("odd", 1, 14, "c731f2d6bd46c98f"),
    ("odd", 2, 14, "d92b7f33c5479422"),
    ("zeros inside", 1, 13, "a649a29b393ef9e7"),
    ("zeros inside", 2, 15, "af943068291907f5"),
    ("insertion", 1, 52, "9c83a8fd2e7c4922"),
    ("insertion", 2, 56, "2b26c0e7b8f3b4e5"),
    ("zeros", 1, 4, "9d6f6b02d9994e95"),
]
WORD = (1 << 64) - 1


@pytest.fixture(scope="module")
def x() -> bytes:
    return stream(8 << 20)


@pytest.mark.parametrize(("name", "level", "count", "digest"), VECTORS)
def test_vectors(x: bytes, name: str, level: int, count: int, digest: str) -> None:
    ends = Chunker(profile="nx1", normalization=level).cuts(synthetic(x, name))
    assert (len(ends), mark(ends)) == (count, digest)


def test_vectors_of_a_seed_and_of_small_chunks(x: bytes) -> None:
    ends = Chunker(profile="nx1", seed=77).cuts(x)
    assert (len(ends), mark(ends)) == (111, "05c28f8c6c90142f")
    ends = Chunker(64, 256, 1024, "nx1", normalization=3).cuts(x[:100_000])
    assert (len(ends), mark(ends)) == (364, "2f68458bc563aeac")


def splitmix64(state: int) -> Iterator[int]:
    while True:
        state = (state + 0x9E3779B97F4A7C15) & WORD
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
        yield z ^ z >> 31


def plain(
    data: bytes, sizes: tuple[int, int, int], strict: int, loose: int, seed: int
) -> list[int]:
    """The ends of all chunks, docs/spec/chunker.md, one place after another."""
    minimum, average, maximum = sizes
    drawn = splitmix64(12345 ^ seed)
    tables = [next(drawn) >> 40 & 255 for _ in range(32)]
    bits = min(loose, 14)
    m, k = (1 << min(bits, 8)) - 1, (1 << max(bits - 8, 0)) - 1
    t = [tables[byte & 15] ^ tables[16 + (byte >> 4)] for byte in data]
    u = [t[j] + 2 * t[j - 1] & 255 for j in range(len(t))]
    w = [u[j] - u[j - 2] & 255 for j in range(len(t))]
    v = [w[j] ^ w[j - 4] for j in range(len(t))]

    def passes(end: int, length: int) -> bool:
        x, x8, x16, x24 = (v[end - 1 - back] for back in (0, 8, 16, 24))
        h, g = (x + 2 * x16 & 255) ^ x8, (x8 + 2 * x24 & 255) ^ x16
        if (h ^ 0x5B) & m or (g ^ 0x21) & k:
            return False
        b, a = struct.unpack("<QQ", data[end - 16 : end])
        z = (a ^ b * 0xC2B2AE3D27D4EB4F & WORD) * 0x9E3779B97F4A7C15 & WORD
        z = (z ^ z >> 32) * 0xC2B2AE3D27D4EB4F & WORD
        return (z >> 32) % (1 << (strict if length < average else loose) - bits) == 0

    ends, start = [], 0
    while start < len(data):
        limit = min(maximum, len(data) - start)
        places = range(minimum, limit)
        start += next((i for i in places if passes(start + i, i)), limit)
        ends.append(start)
    return ends


@pytest.mark.parametrize(
    ("sizes", "level", "strict", "loose"),
    [((64, 256, 1024), 0, 8, 8), ((70, 300, 1500), 2, 10, 6), ((1000, 65536, 70000), 1, 17, 15)],
)
def test_the_specification_says_the_same(
    x: bytes, sizes: tuple[int, int, int], level: int, strict: int, loose: int
) -> None:
    source = random.Random(7)
    text = bytes(source.choices(b"etaoin shrdlu\n", k=40_000)) + bytes(3000) + x[:150_000]
    for seed in (0, 2**64 - 1):
        chunker = Chunker(*sizes, "nx1", normalization=level, seed=seed)
        ends = plain(text, sizes, strict, loose, seed)
        assert len(ends) > 3
        assert chunker.cuts(text) == ends
        assert chunker.cuts(text, threads=3) == ends
        assert [end for end, _ in chunker.digests(text)] == ends
        parts = chunker.stream()
        found, at = [], 0
        while at < len(text):
            step = source.choice((1, 5, 31, 32, 33, 700, 30_000))
            found += parts.update(text[at : at + step])
            at += step
        assert found + parts.finish() == ends


def test_an_insertion_moves_few_cuts(x: bytes) -> None:
    chunker = Chunker(profile="nx1")
    before, after = chunker.cuts(x), chunker.cuts(x[:1000] + b"X" + x[1000:])
    assert {end + 1 for end in before[3:]} <= set(after)
    assert max(lengths(before)) <= chunker.maximum

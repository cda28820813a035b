"""BLAKE3, XXH3, XXH64, CRC-32C and SipHash against the PyPI packages; bar K2."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from harness import Bar, Case, main

from nexus.physics import (
    blake3,
    blake3_many,
    crc32c,
    simd_level,
    siphash24,
    xxh3_64,
    xxh64,
)

BODY = 41256  # what the digest of a checkpoint copy covers
PEERS = ["blake3", "xxhash", "google_crc32c", "siphash24"]
MISSING: list[str] = []
BARS = [
    Bar("K2", "blake3 41 KB", "PyPI blake3 41 KB", 1.15),
    Bar("K2", "blake3 64 B", "PyPI blake3 64 B", 0.4),
]


def peer(name: str) -> object | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        MISSING.append(name)
        return None


def repeat(function: Callable[[object], object], data: object) -> Callable[[int], None]:
    def run(loops: int) -> None:
        for _ in range(loops):
            function(data)

    return run


def digest_with(make: Callable[[bytes], object], data: bytes) -> Callable[[int], None]:
    def run(loops: int) -> None:
        for _ in range(loops):
            make(data).digest()

    return run


def cases() -> Iterator[Case]:
    packages = {name: peer(name) for name in PEERS}
    inputs = {"64 B": bytes(64), "41 KB": bytes(BODY), "1 MiB": bytes(1 << 20)}
    for label, data in inputs.items():
        yield Case(f"blake3 {label}", repeat(blake3, data))
        if packages["blake3"] is not None:
            yield Case(f"PyPI blake3 {label}", digest_with(packages["blake3"].blake3, data))
    many = [bytes(64)] * 256
    yield Case("blake3_many 256 x 64 B, each", repeat(blake3_many, many), 256)
    for label in ("64 B", "41 KB"):
        data = inputs[label]
        yield Case(f"xxh3_64 {label}", repeat(xxh3_64, data))
        yield Case(f"xxh64 {label}", repeat(xxh64, data))
        if packages["xxhash"] is not None:
            module = packages["xxhash"]
            yield Case(f"PyPI xxhash xxh3 {label}", repeat(module.xxh3_64_intdigest, data))
            yield Case(f"PyPI xxhash xxh64 {label}", repeat(module.xxh64_intdigest, data))
        yield Case(f"crc32c {label}", repeat(crc32c, data))
        if packages["google_crc32c"] is not None:
            yield Case(f"google-crc32c {label}", repeat(packages["google_crc32c"].value, data))
    key = bytes(16)
    yield Case("siphash24 32 B", repeat(lambda d: siphash24(key, d), bytes(32)))
    if packages["siphash24"] is not None:
        sip = packages["siphash24"].siphash24
        yield Case("PyPI siphash24 32 B", repeat(lambda d: sip(d, key=key).digest(), bytes(32)))


if __name__ == "__main__":
    main(f"hashes, SIMD level {simd_level()}", cases, BARS, MISSING)

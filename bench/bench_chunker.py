"""Chunking against every chunker on PyPI, and chunk + BLAKE3 against doing both in series.

    python bench/bench_chunker.py

The input is 8 MiB of pseudorandom bytes, and 256 MiB of them where the caches are to be left out;
times are per KiB of input. What the profiles find twice is counted in tars of the corpora of
`./dev bench --corpora`, where these are there: the bytes of all different chunks.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import Bar, Case, main

from nexus.physics import Chunker, blake3, simd_level

SIZE = 8 << 20
MINIMUM, AVERAGE, MAXIMUM = 16384, 65536, 262144
PEERS = ["pyfastcdc", "pith-cdc", "fastcdc", "tilecdc", "blake3"]
BARS = [
    Bar("F1", "nexus cuts", "pyfastcdc", 1.0),
    Bar("F3", "nexus cuts, nx1", "pyfastcdc", 0.333),
    Bar("F3", "nexus cuts, nx1, 256 MiB", "pyfastcdc, 256 MiB", 0.333),
    Bar("F1", "nexus cuts", "pith-cdc", 1.0),
    Bar("F1", "nexus cuts", "fastcdc (other cuts)", 1.0),
    Bar("F1", "nexus cuts", "tilecdc 8/32/256 (other cuts)", 1.0),
    Bar("F1", "nexus digests", "pyfastcdc, then blake3", 0.769),
    Bar("F1", "nexus digests, 2 threads", "pyfastcdc, then blake3", 0.769),
]
MISSING: list[str] = []
FOUND = sorted(Path(__file__).parents[1].glob("build/corpora/*/"))


def stream(size: int) -> bytes:
    """The synthetic vector stream of docs/spec/chunker.md."""
    blocks = range((size + 31) // 32)
    tag = b"nexus-cdc-vector"
    return b"".join(hashlib.sha256(tag + i.to_bytes(8, "little")).digest() for i in blocks)[:size]


def repeat(function: Callable[[], object]) -> Callable[[int], None]:
    def run(loops: int) -> None:
        for _ in range(loops):
            function()

    return run


def peer(name: str) -> object | None:
    try:
        return importlib.import_module(name.replace("-", "_"))
    except ImportError:
        MISSING.append(name)
        return None


def cases() -> Iterator[Case]:
    data = stream(SIZE)
    items = SIZE // 1024
    chunker = Chunker(MINIMUM, AVERAGE, MAXIMUM)
    cuts = chunker.cuts(data)

    def add(name: str, function: Callable[[], object]) -> Case:
        return Case(name, repeat(function), items)

    yield add("nexus cuts", lambda: chunker.cuts(data))
    yield add("nexus cuts, 2 threads", lambda: chunker.cuts(data, threads=2))
    nx1 = Chunker(MINIMUM, AVERAGE, MAXIMUM, "nx1")
    large = data * 32
    yield add("nexus cuts, nx1", lambda: nx1.cuts(data))
    yield Case("nexus cuts, nx1, 256 MiB", repeat(lambda: nx1.cuts(large)), 32 * items)
    yield add("nexus digests", lambda: chunker.digests(data))
    yield add("nexus digests, nx1", lambda: nx1.digests(data))
    yield add("nexus digests, 2 threads", lambda: chunker.digests(data, threads=2))

    def own_series() -> None:
        start = 0
        view = memoryview(data)
        for end in chunker.cuts(data):
            blake3(view[start:end])
            start = end

    yield add("nexus cuts, then blake3", own_series)
    pyfastcdc, pith, fast, tile, hasher = (peer(name) for name in PEERS)
    if pyfastcdc is not None:
        make = pyfastcdc.FastCDC(avg_size=AVERAGE, min_size=MINIMUM, max_size=MAXIMUM)
        assert [c.offset + c.length for c in make.cut_buf(data)] == cuts, "the cuts differ"
        yield add("pyfastcdc", lambda: list(make.cut_buf(data)))
        yield Case("pyfastcdc, 256 MiB", repeat(lambda: list(make.cut_buf(large))), 32 * items)
        if hasher is not None:

            def series() -> None:
                view = memoryview(data)
                for c in make.cut_buf(data):
                    hasher.blake3(view[c.offset : c.offset + c.length]).digest()

            yield add("pyfastcdc, then blake3", series)
    if pith is not None:
        level = pith.LEVEL_1
        got = pith.chunk(data, MINIMUM, AVERAGE, MAXIMUM, level)
        assert [c.offset + c.length for c in got] == cuts, "the cuts differ"
        yield add("pith-cdc", lambda: pith.chunk(data, MINIMUM, AVERAGE, MAXIMUM, level))
    if fast is not None:
        # Its own variant of the algorithm: speed is compared, cuts are not.
        cut = importlib.import_module("fastcdc.fastcdc_cy").fastcdc_cy
        yield add("fastcdc (other cuts)", lambda: list(cut(data, MINIMUM, AVERAGE, MAXIMUM)))
    if tile is not None:
        # Averages end at 32 KiB there; without AVX-512 it has a scalar kernel alone.
        tiles = tile.Chunker(8192, 32768, MAXIMUM)
        yield add("tilecdc 8/32/256 (other cuts)", lambda: tiles.chunk(data))


def twice(corpus: Path) -> dict[str, list[float]]:
    """Bytes of all different chunks in the tars of a corpus, and the mean chunk, by profile."""
    chunkers = {name: Chunker(MINIMUM, AVERAGE, MAXIMUM, name) for name in ("fastcdc2020", "nx1")}
    seen: dict[str, dict[bytes, int]] = {name: {} for name in chunkers}
    total, counts = 0, dict.fromkeys(chunkers, 0)
    for version in sorted(path for path in corpus.iterdir() if path.is_dir()):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.add(version, arcname=".", filter=lambda one: one.replace(mtime=0))
        data = out.getvalue()
        total += len(data)
        for name, chunker in chunkers.items():
            start = 0
            for end, digest in chunker.digests(data):
                seen[name][digest] = end - start
                counts[name] += 1
                start = end
    kept = {f"{corpus.name}: different bytes, {name}": sum(seen[name].values()) for name in seen}
    means = {f"{corpus.name}: mean chunk, {name}": total / counts[name] for name in counts}
    return {name: [float(value)] for name, value in (kept | means).items()}


def measured(_: int) -> dict[str, list[float]]:
    return {name: values for corpus in FOUND for name, values in twice(corpus).items()}


if __name__ == "__main__":
    for corpus in FOUND:
        name = f"{corpus.name}: different bytes"
        BARS.append(Bar("F3", f"{name}, nx1", f"{name}, fastcdc2020", 1 / 0.97))
    if not FOUND:
        MISSING.append("corpora (./dev bench --corpora)")
    main(f"chunker, 8 MiB, SIMD level {simd_level()}", cases, BARS, MISSING, measured)

"""Hashes: golden values, official vectors, and what bad input does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nexus import physics
from nexus.physics import (
    Blake3,
    blake3,
    blake3_derive_key,
    blake3_keyed,
    blake3_many,
    crc32c,
    simd_level,
    siphash24,
    siphash24_128,
    xxh3_64,
    xxh64,
)

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("NEXUS_VECTORS", ROOT.parent / "shared" / "vectors"))
GOLDEN = json.loads((ROOT / "tests" / "golden" / "hash.json").read_text())
KEY = bytes.fromhex(GOLDEN["key"])
SEED = int(GOLDEN["seed"], 16)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def vectors(name: str) -> dict:
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"official vectors {name} not checked: no {VECTORS}; set NEXUS_VECTORS")
    return json.loads(path.read_text())


@pytest.mark.parametrize("entry", GOLDEN["entries"], ids=lambda e: str(e["size"]))
def test_golden_values_are_reproduced(entry):
    data = pattern(entry["size"])
    assert blake3(data, length=80).hex() == entry["blake3"]
    assert blake3_keyed(KEY, data).hex() == entry["blake3_keyed"]
    assert blake3_derive_key(GOLDEN["context"], data).hex() == entry["blake3_derive_key"]
    assert f"{xxh3_64(data):016x}" == entry["xxh3_64"]
    assert f"{xxh3_64(data, SEED):016x}" == entry["xxh3_64_seeded"]
    assert f"{xxh64(data):016x}" == entry["xxh64"]
    assert f"{xxh64(data, SEED):016x}" == entry["xxh64_seeded"]
    assert f"{crc32c(data):08x}" == entry["crc32c"]
    assert siphash24(KEY[:16], data).to_bytes(8, "little").hex() == entry["siphash24"]


def test_official_blake3_vectors_hold():
    document = vectors("blake3/test_vectors.json")
    key = document["key"].encode()
    context = document["context_string"]
    for case in document["cases"]:
        data = pattern(case["input_len"])
        length = len(case["hash"]) // 2
        assert blake3(data, length=length).hex() == case["hash"]
        assert blake3_keyed(key, data, length=length).hex() == case["keyed_hash"]
        assert blake3_derive_key(context, data, length=length).hex() == case["derive_key"]
        assert blake3(data).hex() == case["hash"][:64]


@pytest.mark.parametrize("name", ["siphash_2_4_test.json", "siphashx_2_4_test.json"])
def test_wycheproof_siphash_vectors_hold(name):
    checked = 0
    for group in vectors(f"wycheproof/{name}")["testGroups"]:
        if group["keySize"] != 128:
            continue
        for case in group["tests"]:
            key, message = bytes.fromhex(case["key"]), bytes.fromhex(case["msg"])
            if group["tagSize"] == 64:
                tag = siphash24(key, message).to_bytes(8, "little")
            else:
                tag = siphash24_128(key, message)
            assert (tag.hex() == case["tag"]) == (case["result"] == "valid"), case["tcId"]
            checked += 1
    assert checked > 20


def test_siphash_128_has_the_values_of_the_reference():
    key = bytes(range(16))
    assert siphash24_128(key, b"").hex() == "a3817f04ba25a8e66df67214c7550293"
    assert siphash24_128(key, b"\0").hex() == "da87c1d86b99af44347659119b22fc45"


def test_crc_of_the_iscsi_examples():
    # RFC 3720 appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("size", [0, 1, 2000, 131071, 131072, 400000])
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_gives_the_digest_of_its_bytes(size, wrap):
    data = pattern(size)
    assert blake3(wrap(data)) == blake3(data)
    assert xxh3_64(wrap(data)) == xxh3_64(data)
    assert crc32c(wrap(data)) == crc32c(data)
    hasher = Blake3()
    hasher.update(wrap(data))
    assert hasher.digest() == blake3(data)


def test_copy_of_a_hasher_is_independent():
    hasher = Blake3()
    hasher.update(b"a" * 3000)
    other = hasher.copy()
    other.update(b"b")
    assert hasher.digest() == blake3(b"a" * 3000)
    assert other.digest() == blake3(b"a" * 3000 + b"b")


def test_hasher_modes_match_the_functions():
    data = pattern(5000)
    keyed, derived = Blake3(key=KEY), Blake3(context="a context")
    keyed.update(data)
    derived.update(data)
    assert keyed.digest(length=99) == blake3_keyed(KEY, data, length=99)
    assert derived.digest() == blake3_derive_key("a context", data)
    assert keyed.digest(length=0) == b""


def test_many_of_nothing_is_an_empty_list():
    assert blake3_many([]) == []
    assert blake3_many(iter([b"x"])) == [blake3(b"x")]


BAD_BUFFERS = [None, 1, 1.5, "text", [1, 2], memoryview(b"abcdef")[::2]]


@pytest.mark.parametrize("bad", BAD_BUFFERS, ids=lambda value: type(value).__name__)
def test_what_is_no_contiguous_buffer_is_refused(bad):
    expected = BufferError if isinstance(bad, memoryview) else TypeError
    hasher = Blake3()
    hasher.update(b"before")
    calls = [
        lambda: blake3(bad),
        lambda: blake3_keyed(KEY, bad),
        lambda: blake3_keyed(bad, b""),
        lambda: blake3_derive_key("c", bad),
        lambda: blake3_many([b"good", bad]),
        lambda: xxh3_64(bad),
        lambda: xxh64(bad),
        lambda: crc32c(bad),
        lambda: siphash24(bad, b""),
        lambda: siphash24(KEY[:16], bad),
        lambda: siphash24_128(KEY[:16], bad),
        lambda: hasher.update(bad),
    ]
    for call in calls:
        with pytest.raises(expected):
            call()
    assert hasher.digest() == blake3(b"before")


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (True, TypeError),
        (1.0, TypeError),
        (None, TypeError),
        ("1", TypeError),
        (-1, OverflowError),
        (2**64, OverflowError),
    ],
)
def test_bad_integers_are_refused(bad, expected):
    calls = [
        lambda: blake3(b"", length=bad),
        lambda: blake3_keyed(KEY, b"", length=bad),
        lambda: blake3_derive_key("c", b"", length=bad),
        lambda: Blake3().digest(length=bad),
        lambda: xxh3_64(b"", bad),
        lambda: xxh64(b"", bad),
        lambda: crc32c(b"", bad),
    ]
    for call in calls:
        with pytest.raises(expected):
            call()


def test_crc_start_value_has_32_bits():
    with pytest.raises(OverflowError):
        crc32c(b"", 2**32)


def test_numpy_integers_and_arrays_are_taken():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(1000, dtype=numpy.uint16)
    assert blake3(array, length=numpy.int64(16)) == blake3(array.tobytes(), length=16)
    assert xxh3_64(array, numpy.uint64(7)) == xxh3_64(array.tobytes(), 7)
    with pytest.raises(TypeError):
        xxh3_64(b"", numpy.float64(1))
    with pytest.raises((BufferError, ValueError)):
        blake3(array[::2])


@pytest.mark.parametrize("size", [0, 15, 17, 31, 33])
def test_a_key_of_the_wrong_size_is_refused(size):
    for call in (
        lambda: blake3_keyed(bytes(size), b""),
        lambda: Blake3(key=bytes(size)),
        lambda: siphash24(bytes(size), b""),
        lambda: siphash24_128(bytes(size), b""),
    ):
        with pytest.raises(ValueError, match=f"has {size} bytes"):
            call()


def test_context_must_be_text_and_excludes_a_key():
    with pytest.raises(TypeError):
        blake3_derive_key(b"bytes", b"")
    with pytest.raises(TypeError):
        blake3_derive_key(None, b"")
    with pytest.raises(ValueError, match="exclude"):
        Blake3(key=KEY, context="c")


def test_two_threads_in_one_hasher_never_corrupt_it():
    hasher = Blake3()
    data = bytes(3_000_000)
    done = []

    def feed() -> None:
        for _ in range(20):
            try:
                hasher.update(data)
            except BufferError:
                continue
            done.append(1)

    threads = [threading.Thread(target=feed) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hasher.digest() == blake3(bytes(len(data) * len(done)))


def demand(level: str) -> str:
    environment = dict(os.environ, NEXUS_SIMD=level)
    code = "import nexus.physics as p; print(p.simd_level(), p.blake3(b'x' * 20000).hex())"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return run.stdout if run.returncode == 0 else run.stderr.splitlines()[-1]


def test_simd_demand_is_obeyed_or_refused_and_never_replaced():
    assert demand("scalar").split() == ["scalar", blake3(b"x" * 20000).hex()]
    assert demand(simd_level()).split() == [simd_level(), blake3(b"x" * 20000).hex()]
    assert demand("avx1024").startswith("ValueError: NEXUS_SIMD='avx1024' is not one of")
    foreign = "avx2" if os.uname().machine == "aarch64" else "neon"
    assert "another architecture" in demand(foreign)


def test_every_export_is_listed():
    assert set(physics.__all__) <= set(dir(physics))

"""Writes hash.json and ../native/golden_hash.h from independent implementations.

Needs the PyPI packages blake3, xxhash, crc32c and siphash24; run it from this directory.
Inputs are the first `size` bytes of the sequence 0, 1, ..., 250, 0, 1, ...
"""

from __future__ import annotations

import json
from pathlib import Path

import blake3
import crc32c
import siphash24
import xxhash

SIZES = [0, 1, 3, 4, 8, 9, 16, 17, 63, 64, 65, 127, 128, 129, 240, 241, 255, 512, 1023, 1024]
SIZES += [1025, 2048, 2049, 3073, 4096, 5121, 8192, 8193, 16385, 31744, 41288, 70001, 262145]
KEY = bytes(range(32))
SEED = 0x9E3779B97F4A7C15
CONTEXT = "nexus 2026-01-01 golden vectors"


def entry(size: int) -> dict[str, object]:
    """All hashes of one input."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    return {
        "size": size,
        "blake3": blake3.blake3(data).hexdigest(length=80),
        "blake3_keyed": blake3.blake3(data, key=KEY).hexdigest(),
        "blake3_derive_key": blake3.blake3(data, derive_key_context=CONTEXT).hexdigest(),
        "xxh3_64": f"{xxhash.xxh3_64_intdigest(data):016x}",
        "xxh3_64_seeded": f"{xxhash.xxh3_64_intdigest(data, SEED):016x}",
        "xxh64": f"{xxhash.xxh64_intdigest(data):016x}",
        "xxh64_seeded": f"{xxhash.xxh64_intdigest(data, SEED):016x}",
        "crc32c": f"{crc32c.crc32c(data):08x}",
        "siphash24": siphash24.siphash24(data, key=KEY[:16]).hexdigest(),
        "siphash13": siphash24.siphash13(data, key=KEY[:16]).hexdigest(),
    }


def words(text: str, width: int = 2) -> str:
    """A hexadecimal string as C initialiser."""
    return ", ".join(f"0x{text[i : i + width]}" for i in range(0, len(text), width))


def main() -> None:
    """Write both files."""
    entries = [entry(size) for size in SIZES]
    document = {"key": KEY.hex(), "seed": f"{SEED:016x}", "context": CONTEXT, "entries": entries}
    Path("hash.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        "/* Written by tests/golden/make_hash.py with the PyPI implementations; do not edit. */",
        "// clang-format off",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        f"static const uint64_t golden_seed = 0x{SEED:016x}u;",
        f'static const char golden_context[] = "{CONTEXT}";',
        "",
        "static const struct golden {",
        "    size_t size;",
        "    uint8_t blake3[32], keyed[32], derived[32];",
        "    uint64_t xxh3, xxh3_seeded, xxh64, xxh64_seeded;",
        "    uint32_t crc32c;",
        "    uint8_t siphash24[8], siphash13[8];",
        "} golden[] = {",
    ]
    for e in entries:
        lines.append(f"    {{{e['size']},")
        for name in ("blake3", "blake3_keyed", "blake3_derive_key"):
            text = str(e[name])[:64]
            lines.append(f"     {{{words(text[:32])},")
            lines.append(f"      {words(text[32:])}}},")
        lines.append(f"     0x{e['xxh3_64']}u, 0x{e['xxh3_64_seeded']}u,")
        lines.append(f"     0x{e['xxh64']}u, 0x{e['xxh64_seeded']}u,")
        lines.append(f"     0x{e['crc32c']}u,")
        lines.append(f"     {{{words(str(e['siphash24']))}}},")
        lines.append(f"     {{{words(str(e['siphash13']))}}}}},")
    lines.append("};")
    Path("../native/golden_hash.h").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

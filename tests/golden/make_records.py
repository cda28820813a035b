"""Writes ../native/golden_records.h: an event and two error buffer records by other hands.

Packs the fields with struct and takes the checks from the PyPI packages crc32c and xxhash; run it
from this directory. The same bytes stand in docs/spec/stl.md and docs/spec/beb.md.
"""

from __future__ import annotations

import struct
from pathlib import Path

import crc32c
import xxhash


def event() -> bytes:
    """The event of docs/spec/stl.md."""
    packed = struct.pack("<HHQQQQQQQ", 64, 0, 0x1122334455667788, 7, 42, 41, 8192, 32768, 0)
    return packed + struct.pack("<I", crc32c.crc32c(packed))


def checked(body: bytes, number: int) -> bytes:
    """A record of the error buffer: its check, keyed by its number, and 56 bytes."""
    return struct.pack("<Q", xxhash.xxh64_intdigest(body, number)) + body


def records() -> dict[str, bytes]:
    """The two records of docs/spec/beb.md."""
    header = struct.pack("<8sIII36x", b"NXBEB\0\r\n", 1, 1024, 3)
    sequence = 1025
    record = struct.pack("<QQIHHQQQQ", sequence, 0x0102030405060708, 3, 72, 5, 9, 1, 2, 3)
    return {
        "golden_beb_header": checked(header, 0),
        "golden_beb_record": checked(record, 1 + (sequence - 1) % 1023),
    }


def main() -> None:
    """Write the header file."""
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        "/* Written by tests/golden/make_records.py with PyPI implementations; do not edit. */",
        "// clang-format off",
        "#include <stdint.h>",
        "",
    ]
    for name, data in ({"golden_stl_event": event()} | records()).items():
        assert len(data) == 64
        lines.append(f"static const uint8_t {name}[64] = {{")
        rows = [", ".join(f"0x{byte:02x}" for byte in data[i : i + 16]) for i in range(0, 64, 16)]
        lines += [f"    {row}," for row in rows] + ["};"]
    Path("../native/golden_records.h").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

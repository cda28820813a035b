"""Writes proof.json byte by byte from docs/spec/nexfs-proof.md, without the code that it is for.

Needs the PyPI package blake3; run it from this directory.
"""

from __future__ import annotations

import json
from pathlib import Path

from blake3 import blake3


def varint(value: int) -> bytes:
    """LEB128, the shortest form."""
    ret = bytearray()
    while value >= 128:
        ret.append(value % 128 + 128)
        value //= 128
    return bytes([*ret, value])


def sized(data: bytes) -> bytes:
    """Behind its length."""
    return varint(len(data)) + data


def identity(data: bytes) -> bytes:
    """The id of an object."""
    return blake3(data).digest()


def leaf(rows: list[tuple[bytes, int, int, int, bytes]]) -> bytes:
    """Of name, mode, size, form and id; names share nothing."""
    columns = [
        b"".join(varint(0) + sized(name) for name, *_ in rows),
        b"".join(varint(mode) for _, mode, *_ in rows),
        bytes(2 * len(rows)),  # owners
        bytes(len(rows)),  # seconds
        bytes(len(rows)),  # nanoseconds
        b"".join(varint(size) for _, _, size, *_ in rows),
        b"".join(varint(form) for *_, form, _ in rows),
        b"".join(one for *_, one in rows),
        b"",  # extras
    ]
    return b"D\x01" + varint(len(rows)) + b"".join(map(sized, columns))


def listed(rows: list[tuple[int, bytes | None]]) -> bytes:
    """A list of level 0."""
    columns = [
        b"".join(varint(size) for size, _ in rows),
        bytes(one is not None for _, one in rows),
        b"".join(one for _, one in rows if one is not None),
    ]
    return b"L\x01" + varint(0) + varint(len(rows)) + b"".join(map(sized, columns))


def proof(root: bytes, path: bytes, flags: int, objects: list[bytes]) -> str:
    """The file, in hexadecimal digits."""
    head = b"NXPR\x01\x00" + flags.to_bytes(2, "little") + identity(root)
    return (head + sized(path) + b"".join(map(sized, objects))).hex()


def main() -> None:
    """Write it: a tree of two leaves with a small file, and one with a hole."""
    small, end = b"small", b"end"
    pieces = listed([(5, identity(small)), (4, None), (3, identity(end))])
    first = leaf([(b"f", 0o100644, 12, 2, identity(pieces))])
    second = leaf([(b"s", 0o100644, 5, 1, identity(small))])
    index = b"I\x01" + varint(2)
    for name, one in ((b"f", first), (b"s", second)):
        index += sized(name) + varint(1) + identity(one)
    root = leaf([(b"", 0o40755, 17, 4, identity(index))])
    whole = (small + bytes(4) + end).hex()
    f, s = identity(pieces).hex(), identity(small).hex()
    cases = [
        ("f", 0, [first], 12, f, None, None),
        ("f", 2, [first, pieces], 12, f, [5, 4, 3], whole),
        ("s", 0, [second], 5, s, [5], small.hex()),
        ("r", 1, [first], None, None, None, None),
    ]
    proofs = [
        {
            "path": path,
            "root": identity(root).hex(),
            "absent": flags == 1,
            "size": size,
            "id": one,
            "pieces": sizes,
            "content": content,
            "proof": proof(root, path.encode(), flags, [root, index, *objects]),
        }
        for path, flags, objects, size, one, sizes, content in cases
    ]
    Path("proof.json").write_text(json.dumps({"proofs": proofs}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""First inputs for the harnesses: bytes from a fixed seed, half of them without a hostile peer."""

from __future__ import annotations

import random
from pathlib import Path

# An operation is a byte modulo the number of operations; this remainder is the one that lies.
LIES = {
    "beb": (4, 0),
    "capability": (6, 5),
    "checkpoint": (6, 0),
    "ring": (7, 0),
    "ring_mpsc": (9, 0),
    "ring_slot": (5, 0),
}

# A grammar of words is found faster from a sentence.
TEXTS = {
    "fiber": [
        b"life=3 checkpoint=4 read:in=5 write:out.a-b_9=63 open:in=10",
        b"open:device=9",
        b" ".join(b"write:%s%d=%d" % (b"n" * 60, number, number) for number in range(10, 64)),
    ],
}


def seed(name: str, number: int) -> bytes:
    """One input; the odd ones consist of bytes that are no lie as an operation."""
    source = random.Random(f"{name} {number}")
    count, lie = LIES.get(name, (1, 1))
    honest = [byte for byte in range(256) if byte % count != lie]
    letters = honest if number % 2 else range(256)
    return bytes(source.choices(letters, k=16 << number // 3))


def write_seeds(name: str, folder: Path) -> None:
    """Write sixteen inputs of 16 to 512 bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(16):
        (folder / f"seed-{number:02}").write_bytes(seed(name, number))
    for number, text in enumerate(TEXTS.get(name, [])):
        (folder / f"text-{number:02}").write_bytes(text)

"""First inputs for the harnesses: bytes from a fixed seed, half of them without a hostile peer."""

from __future__ import annotations

import random
import struct
import tarfile
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

# Of the flash emulator: a device of 64 KiB, and the calls erase, read, is_bad, sync, power off.
FLASH_MODEL = struct.pack(
    "<Q3IH2B2HIQ3H2B5Q2I2BH8I",
    *(1 << 16, 4096, 256, 16, 1, 4, 255, 0, 0, 63, 7, 0, 0, 0, 0, 0, *[0] * 5, 0, 0, 0, 0, 0),
    *[0] * 8,
)
FLASH_CALLS = b"".join(
    struct.pack("<IiQQIIII", verb, 0, 4096 if verb != 8 else 0, 0, 0, 0, 0, 0)
    for verb in (3, 1, 6, 8, 18)
)


def _tar_header(size: int) -> bytes:
    member = tarfile.TarInfo("name")
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


# A grammar of words is found faster from a sentence.
TEXTS = {
    "flash_trace": [b"\1NXFLASH\n" + struct.pack("<II", 1, 132) + FLASH_MODEL + FLASH_CALLS],
    "fiber": [
        b"life=3 checkpoint=4 read:in=5 write:out.a-b_9=63 open:in=10",
        b"open:device=9",
        b" ".join(b"write:%s%d=%d" % (b"n" * 60, number, number) for number in range(10, 64)),
    ],
    # The step of the feeding, and a header of each kind that is followed by its like.
    "members": [
        b"\x10\x00" + _tar_header(512 * 80),
        b"\x01\x00" + b"070701%048d%08x%032d%08x%08d" % (0, 111 * 400 + 1, 0, 1, 0),
        b"\x07\x00!<arch>\n" + b"%-48s%-10d`\n" % (b"name/", 60 * 600),
        b"\x02\x01PK\3\4" + bytes(14) + struct.pack("<IIHH", 31 * 1200, 0, 1, 0) + b"x",
    ],
    # A leaf with a file, a link and a directory within; the first byte chooses the kind.
    "tree": [
        b"\x00\x03\x09\x00\x01a\x01\x01b\x00\x01b\x09\xa4\x83\x02\xff\xc3\x02\xed\x83\x01"
        b"\x06\x00\x00\x00\x00\x00\x00\x03\x02\x00\x08\x03\x02\x02\x00\x03\x03\x01\x00"
        b"\x03\x01\x05\x0e\x20"
        + bytes(32)
        + b"\x13\x01x\x0cD\x01"
        + bytes(10)
        + b"\x03\x01\x01\x05",
        b"\x02\x00\x02\x03\x05\x80\x08\x02\x01\x00\x20" + bytes(32),
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

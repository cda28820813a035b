"""What every medium does alike: emulated flash, a file, a block device, and MTD in a guest."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nexus import errors
from nexus.physics.flash import create_flash, open_flash
from nexus.seams.flash import Flash, FlashKind
from nexus.sim import flash as sim

BLOCKS = 16


def nor(_) -> Iterator[Flash]:
    yield sim.Flash(sim.spi_nor(size=BLOCKS * 4096))


def nand(_) -> Iterator[Flash]:
    yield sim.Flash(sim.slc_nand(size=BLOCKS * (128 << 10)))


def mlc(_) -> Iterator[Flash]:
    model = dataclasses.replace(sim.mlc_nand(), size=BLOCKS << 16, block_size=1 << 16)
    yield sim.Flash(model)


def file(folder) -> Iterator[Flash]:
    with create_flash(folder / "medium", BLOCKS << 16, block_size=1 << 16) as medium:
        yield medium


@contextmanager
def loop_device(path) -> Iterator[str]:
    """A block device over a file."""
    if os.geteuid() != 0:
        pytest.skip("the contract of a block device is not checked: a loop device needs root")
    words = ["losetup", "--find", "--show", str(path)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"the contract of a block device is not checked: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def device(folder) -> Iterator[Flash]:
    backing = folder / "backing"
    with backing.open("wb") as sparse:
        sparse.truncate(BLOCKS << 16)
    with loop_device(backing) as path, open_flash(path, block_size=1 << 16) as medium:
        yield medium


@pytest.fixture(params=[nor, nand, mlc, file, device], ids=lambda kind: kind.__name__)
def medium(request: pytest.FixtureRequest, tmp_path) -> Iterator[Flash]:
    """Each medium in turn."""
    yield from request.param(tmp_path)


def erased(medium: Flash, size: int) -> bytes:
    return bytes([medium.erased]) * size


def good_blocks(medium: Flash, count: int) -> list[int]:
    """Places of blocks that are not bad, erased."""
    places = [at for at in range(0, medium.size, medium.block_size) if not medium.is_bad(at)]
    assert len(places) >= count
    for at in places[:count]:
        medium.erase(at)
    return places[:count]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_its_numbers_agree(medium):
    assert medium.size % medium.block_size == 0
    assert medium.block_size % medium.page_size == 0
    assert medium.page_size >= 256
    assert medium.programs >= 1
    assert FlashKind(medium.kind)
    assert medium.erased == (0 if medium.kind >= FlashKind.FILE else 0xFF)


def test_an_erased_block_reads_as_erased(medium):
    (at,) = good_blocks(medium, 1)
    data, flips = medium.read(at, medium.block_size)
    assert data == erased(medium, medium.block_size)
    assert flips <= medium.flips_max


def test_what_was_programmed_is_read_in_any_pieces(medium):
    (at,) = good_blocks(medium, 1)
    data = noise(medium.block_size)
    medium.program(at, data)
    medium.sync()
    page = medium.page_size
    for first, size in [(0, len(data)), (0, 1), (page - 1, 2), (page + 7, 3 * page), (5, 0)]:
        read, flips = medium.read(at + first, size)
        assert read == data[first : first + size]
        assert flips <= medium.flips_max


def test_a_read_crosses_blocks(medium):
    places = good_blocks(medium, BLOCKS // 2)
    at = next(a for a, b in itertools.pairwise(places) if b == a + medium.block_size)
    data = noise(2 * medium.block_size)
    medium.program(at, data[: medium.block_size])
    medium.program(at + medium.block_size, data[medium.block_size :])
    assert medium.read(at, len(data))[0] == data


def test_an_erase_takes_its_block_alone(medium):
    places = good_blocks(medium, 3)
    data = noise(medium.block_size)
    for at in places:
        medium.program(at, data)
    medium.erase(places[1])
    kept = [medium.read(at, medium.block_size)[0] for at in places]
    assert kept == [data, erased(medium, medium.block_size), data]


def test_pages_are_filled_one_by_one(medium):
    (at,) = good_blocks(medium, 1)
    page = medium.page_size
    data = noise(min(medium.block_size, 16 * page))
    for first in range(0, len(data), page):
        medium.program(at + first, memoryview(data)[first : first + page])
        left = medium.block_size - first - page
        assert medium.read(at + first + page, left)[0] == erased(medium, left)
    assert medium.read(at, len(data))[0] == data


def test_what_lies_outside_is_refused(medium):
    page = medium.page_size
    with pytest.raises(errors.OutOfRangeError):
        medium.read(medium.size, 1)
    with pytest.raises(errors.OutOfRangeError):
        medium.read(medium.size - 1, 2)
    with pytest.raises(errors.OutOfRangeError):
        medium.read(0, 1 << 62)
    with pytest.raises(errors.OutOfRangeError):
        medium.program(medium.size, bytes(page))
    with pytest.raises(errors.OutOfRangeError):
        medium.erase(medium.size)
    with pytest.raises(errors.OutOfRangeError):
        medium.is_bad(medium.size)


def test_what_is_off_a_boundary_is_refused(medium):
    (at,) = good_blocks(medium, 1)
    page = medium.page_size
    with pytest.raises(errors.MisalignedError):
        medium.program(at + 1, bytes(page))
    with pytest.raises(errors.MisalignedError):
        medium.program(at, bytes(page - 1))
    with pytest.raises(errors.OutOfRangeError):
        medium.program(at + medium.block_size - page, bytes(2 * page))
    with pytest.raises(errors.MisalignedError):
        medium.erase(at + page)
    with pytest.raises(errors.MisalignedError):
        medium.is_bad(at + page)
    assert medium.read(at, medium.block_size)[0] == erased(medium, medium.block_size)


def test_nothing_is_programmed_and_read_anywhere(medium):
    for at in (0, medium.page_size, medium.size):
        medium.program(at, b"")
        assert medium.read(at, 0) == (b"", 0)


@pytest.mark.parametrize("wrong", [1.0, True, None, "0"])
def test_a_place_is_an_integer(medium, wrong):
    with pytest.raises(TypeError):
        medium.read(wrong, 1)
    with pytest.raises(TypeError):
        medium.erase(wrong)


@pytest.mark.parametrize("wrong", [-1, 1 << 64])
def test_a_place_fits_64_bits(medium, wrong):
    with pytest.raises(OverflowError):
        medium.read(wrong, 1)
    with pytest.raises(OverflowError):
        medium.program(wrong, b"")


def test_a_marked_block_is_bad(medium):
    places = good_blocks(medium, 2)
    if medium.oob_size == 0:
        with pytest.raises(errors.AbsentError):
            medium.mark_bad(places[0])
        assert not medium.is_bad(places[0])
        return
    medium.mark_bad(places[0])
    assert medium.is_bad(places[0])
    assert not medium.is_bad(places[1])


def test_bytes_lie_beside_a_page(medium):
    (at,) = good_blocks(medium, 1)
    if medium.oob_size == 0:
        with pytest.raises(errors.AbsentError):
            medium.oob_read(at, 1)
        with pytest.raises(errors.AbsentError):
            medium.oob_write(at, b"\0")
        return
    assert medium.oob_read(at + medium.page_size, 4) == b"\xff" * 4
    medium.oob_write(at + medium.page_size, b"\xff\xff\x12\x34")
    assert medium.oob_read(at + medium.page_size, 4) == b"\xff\xff\x12\x34"
    with pytest.raises(errors.OutOfRangeError):
        medium.oob_read(at, medium.oob_size + 1)


def test_the_capsule_names_the_medium_and_keeps_it(medium):
    capsule = medium.__flash__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    words = ctypes.cast(pointer(capsule, b"nexus.flash"), ctypes.POINTER(ctypes.c_uint64))
    assert words[2] == medium.size  # after `verbs` and `self`
    with pytest.raises(ValueError):
        pointer(capsule, b"nexus.other")
    if hasattr(medium, "close"):
        with pytest.raises(BufferError):
            medium.close()


@pytest.mark.parametrize("seed", range(3))
def test_it_does_what_a_dictionary_does(medium, seed):
    """A client that keeps the rules, against a model of pages."""
    chance = random.Random(seed)
    page, per_block = medium.page_size, min(medium.block_size // medium.page_size, 12)
    places = good_blocks(medium, BLOCKS // 2)
    due = dict.fromkeys(places, 0)
    pages: dict[int, bytes] = {}
    for _ in range(120):
        at = chance.choice(places)
        if due[at] == per_block:
            medium.erase(at)
            due[at] = 0
            pages = {p: d for p, d in pages.items() if not at <= p < at + medium.block_size}
        elif chance.random() < 0.6:
            count = chance.randint(1, min(3, per_block - due[at]))
            data = chance.randbytes(count * page)
            first = at + due[at] * page
            medium.program(first, data)
            due[at] += count
            pages |= {first + i * page: data[i * page :][:page] for i in range(count)}
        else:
            first = at + chance.randrange(per_block) * page
            assert medium.read(first, page)[0] == pages.get(first, erased(medium, page))
    for first, data in pages.items():
        assert medium.read(first, page)[0] == data


class Liar:
    """A medium that breaks its promises one by one: the suite must tell."""

    def __init__(self, medium: sim.Flash, lie: str) -> None:
        self._medium, self._lie = medium, lie

    def __getattr__(self, name: str) -> object:
        return getattr(self._medium, name)

    def erase(self, at: int) -> None:
        self._medium.erase(at)
        if self._lie == "erases its neighbour":
            self._medium.erase((at + self.block_size) % self.size)

    def program(self, at: int, data: bytes) -> None:
        if self._lie == "drops programs":
            return
        last = len(data) - 1
        cleared = bytes(data[:last]) + bytes([data[last] & 0xFE]) if data else data
        self._medium.program(at, cleared if self._lie == "clears a bit" else data)

    def mark_bad(self, at: int) -> None:
        if self._lie != "forgets marks":
            self._medium.mark_bad(at)


@pytest.mark.parametrize(
    ("lie", "check"),
    [
        ("erases its neighbour", test_an_erase_takes_its_block_alone),
        ("drops programs", test_what_was_programmed_is_read_in_any_pieces),
        ("clears a bit", test_a_read_crosses_blocks),
        ("forgets marks", test_a_marked_block_is_bad),
    ],
)
def test_a_medium_that_lies_is_found_out(lie, check):
    def honest():
        return sim.Flash(sim.slc_nand(size=BLOCKS * (128 << 10)))

    check(Liar(honest(), "none"))
    with pytest.raises(AssertionError):
        check(Liar(honest(), lie))

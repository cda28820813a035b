"""Raw flash of a kernel: the contract of media over nandsim and mtdram, and what nandsim breaks.

The contract is that of tests/contract/test_flash.py. The parameters of nandsim are in profiles.py.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import traceback
from pathlib import Path

import pytest

from nexus import errors
from nexus.physics import Action, ArgumentTest, SeccompFilter, SeccompRule
from nexus.physics.flash import open_flash
from nexus.seams.flash import FlashKind
from tests.contract.test_flash import (  # noqa: F401 - they are run here, on other media
    test_a_marked_block_is_bad,
    test_a_place_fits_64_bits,
    test_a_place_is_an_integer,
    test_a_read_crosses_blocks,
    test_an_erase_takes_its_block_alone,
    test_an_erased_block_reads_as_erased,
    test_bytes_lie_beside_a_page,
    test_it_does_what_a_dictionary_does,
    test_its_numbers_agree,
    test_nothing_is_programmed_and_read_anywhere,
    test_pages_are_filled_one_by_one,
    test_the_capsule_names_the_medium_and_keeps_it,
    test_what_is_off_a_boundary_is_refused,
    test_what_lies_outside_is_refused,
    test_what_was_programmed_is_read_in_any_pieces,
)

pytestmark = pytest.mark.guest("mtd")

NAND, RAM = "/dev/mtd0", "/dev/mtd1"
BLOCK, PAGE = 128 << 10, 2048
STEP = 256  # of nandsim's Hamming code
# Blocks of the tests here, far from those that the contract takes.
WEAK_BLOCK, WEAK_PAGE, GRAVE_PAGE, FLIPPED, COUNTED = 20, 1920, 2560, 50, 51
# <mtd/mtd-abi.h>
MEMWRITE, MEMREAD, RAW = 0xC0304D18, 0xC0404D1A, 2


@pytest.fixture(params=[NAND, RAM], ids=["nandsim", "mtdram"])
def medium(request):
    with open_flash(request.param) as medium:
        yield medium


@pytest.fixture
def nand():
    with open_flash(NAND) as medium:
        yield medium


def clear_bits(at: int, bits: list[int]) -> None:
    """Clear bits of a programmed page behind the back of its ECC."""
    data = bytearray(b"\xff" * PAGE)
    for bit in bits:
        data[bit // 8] &= ~(1 << bit % 8) & 0xFF
    oob = bytearray(b"\xff" * 64)
    places = [ctypes.addressof((ctypes.c_char * len(b)).from_buffer(b)) for b in (data, oob)]
    descriptor = os.open(NAND, os.O_RDWR)
    try:
        request = struct.pack("=QQQQQB7x", at, PAGE, 64, *places, RAW)
        fcntl.ioctl(descriptor, MEMWRITE, request)
    finally:
        os.close(descriptor)


def test_it_is_what_the_kernel_says(nand):
    assert (nand.kind, nand.block_size, nand.page_size) == (FlashKind.NAND, BLOCK, PAGE)
    assert (nand.size, nand.oob_size, nand.flips_max) == (128 << 20, 64, 1)
    assert nand.limits == ()
    with open_flash(RAM) as ram:
        assert (ram.kind, ram.page_size, ram.oob_size) == (FlashKind.RAM, 256, 0)


def test_there_is_one_writer(nand):
    with pytest.raises(errors.MediumBusyError):
        open_flash(NAND)
    with pytest.raises(ValueError):
        open_flash(RAM, block_size=BLOCK)


def test_the_blocks_that_left_the_factory_bad_are_told_and_refuse(nand):
    assert [block for block in range(8, 64) if nand.is_bad(block * BLOCK)] == [10, 11]
    with pytest.raises(errors.MediumError):
        nand.erase(10 * BLOCK)


def test_a_weak_block_refuses_to_erase(nand):
    nand.erase(WEAK_BLOCK * BLOCK)
    nand.erase(WEAK_BLOCK * BLOCK)
    with pytest.raises(errors.MediumError):
        nand.erase(WEAK_BLOCK * BLOCK)


def test_a_weak_page_refuses_to_program(nand):
    for _ in range(2):
        nand.erase(WEAK_PAGE * PAGE)
        nand.program(WEAK_PAGE * PAGE, bytes(PAGE))
    nand.erase(WEAK_PAGE * PAGE)
    with pytest.raises(errors.MediumError):
        nand.program(WEAK_PAGE * PAGE, bytes(PAGE))


def test_a_grave_page_is_beyond_correction(nand):
    at = GRAVE_PAGE * PAGE
    nand.erase(at)
    nand.program(at, bytes(PAGE))
    for _ in range(2):
        assert nand.read(at, PAGE)[0] == bytes(PAGE)
    with pytest.raises(errors.UncorrectableError) as told:
        nand.read(at, PAGE)
    assert len(told.value.data) == PAGE
    # What a plain read of the device says of the same page: nothing.
    with Path(NAND).open("rb", buffering=0) as device:
        device.seek(at)
        assert len(device.read(PAGE)) == PAGE


def test_flips_are_corrected_told_and_mistaken(nand):
    at = FLIPPED * BLOCK
    data = b"\xff" * (PAGE - 1) + b"\0"
    nand.erase(at)
    for page in range(3):
        nand.program(at + page * PAGE, data)
        clear_bits(at + page * PAGE, [8 * 5, 8 * 77 + 3, 8 * 200 + 1][: page + 1])
    assert nand.read(at, PAGE) == (data, 1)
    with pytest.raises(errors.UncorrectableError):
        nand.read(at + PAGE, STEP)
    assert nand.read(at + PAGE + STEP, STEP) == (data[STEP : 2 * STEP], 0)
    wrong, flips = nand.read(at + 2 * PAGE, PAGE)
    assert (wrong != data, flips) == (True, 1), "three flips pass for one: only own checksums tell"


def counted_reads() -> None:
    """What a kernel before 6.1 leaves: no MEMREAD, so the counters of the device."""
    test = ArgumentTest.equal(1, MEMREAD, width=64)
    rule = SeccompRule(("ioctl",), Action.errno(errno.ENOTTY), (test,))
    SeccompFilter.compile([rule], default=Action.ALLOW).install(no_new_privs=True)
    at = COUNTED * BLOCK
    data = b"\x0f" * PAGE
    with open_flash(NAND) as nand:
        assert "MEMREAD" in " ".join(nand.limits)
        nand.erase(at)
        for page, bits in enumerate(([], [1], [1, 2])):
            nand.program(at + page * PAGE, data)
            clear_bits(at + page * PAGE, bits)
        assert nand.read(at, PAGE) == (data, 0)
        assert nand.read(at + PAGE, PAGE) == (data, 1)
        try:
            nand.read(at + 2 * PAGE, PAGE)
        except errors.UncorrectableError as error:
            assert error.data != data  # noqa: PT017 - a child has no pytest
        else:
            raise AssertionError("two flips of one step were not told")


def test_without_memread_the_counters_tell():
    child = os.fork()
    if child == 0:
        try:
            counted_reads()
        except BaseException:  # a child must not go on in pytest, whatever it was
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

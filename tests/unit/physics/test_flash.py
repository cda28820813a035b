"""Files as media: what they keep over a close, who else may have them, and how they go."""

from __future__ import annotations

import errno
import os

import pytest

from nexus import errors
from nexus.physics.flash import create_flash, open_flash
from nexus.seams.flash import FlashKind
from tests.contract.test_flash import loop_device

SIZE, BLOCK, PAGE = 8 << 16, 1 << 16, 4096


@pytest.fixture
def path(tmp_path):
    return tmp_path / "medium"


def make(path):
    return create_flash(path, SIZE, block_size=BLOCK)


def test_a_new_file_is_erased_and_takes_no_room(path):
    with make(path) as medium:
        assert medium.read(0, SIZE)[0] == bytes(SIZE)
        assert (medium.block_size, medium.page_size) == (BLOCK, PAGE)
    assert path.stat().st_size == SIZE
    assert path.stat().st_blocks * 512 < BLOCK
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_programmed_is_there_after_a_close(path):
    with make(path) as medium:
        medium.program(BLOCK, b"x" * PAGE)
        medium.sync()
    with open_flash(path, block_size=BLOCK) as medium:
        assert medium.read(BLOCK, PAGE)[0] == b"x" * PAGE


def test_an_erase_gives_room_back(path):
    with make(path) as medium:
        medium.program(0, b"x" * BLOCK)
        medium.sync()
        assert path.stat().st_blocks * 512 >= BLOCK
        medium.erase(0)
        medium.sync()
        assert path.stat().st_blocks * 512 < BLOCK
        assert medium.limits == ()


def test_there_is_one_writer(path):
    with make(path):
        with pytest.raises(errors.MediumBusyError):
            open_flash(path, block_size=BLOCK)
        with pytest.raises(errors.MediumBusyError):
            open_flash(path, block_size=BLOCK, writable=False)
    with open_flash(path, block_size=BLOCK, writable=False) as one:
        with open_flash(path, block_size=BLOCK, writable=False) as other:
            assert one.read(0, 1) == other.read(0, 1)
        with pytest.raises(OSError):
            one.program(0, bytes(PAGE))
        with pytest.raises(errors.MediumBusyError):
            open_flash(path, block_size=BLOCK)
    open_flash(path, block_size=BLOCK).close()


def test_a_file_that_became_smaller_is_gone(path):
    with make(path) as medium:
        os.truncate(path, SIZE - 1)
        with pytest.raises(errors.MediumGoneError):
            medium.program(0, bytes(PAGE))
        os.truncate(path, SIZE)
        for call in (medium.sync, lambda: medium.read(0, 1), lambda: medium.erase(0)):
            with pytest.raises(errors.MediumGoneError):
                call()
    assert path.stat().st_size == SIZE


def test_a_read_past_the_new_end_says_gone(path):
    with make(path) as medium:
        os.truncate(path, BLOCK)
        assert medium.read(0, BLOCK)[0] == bytes(BLOCK)
        with pytest.raises(errors.MediumGoneError):
            medium.read(0, BLOCK + 1)


def test_a_file_without_a_name_is_gone(path):
    with make(path) as medium:
        path.unlink()
        with pytest.raises(errors.MediumGoneError):
            medium.program(0, bytes(PAGE))


def test_what_exists_is_not_made_anew(path):
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        make(path)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("sizes", [(SIZE + 1, BLOCK, PAGE), (SIZE, 5000, PAGE), (SIZE, BLOCK, 3)])
def test_sizes_that_contradict_each_other_leave_no_file(path, sizes):
    size, block, page = sizes
    with pytest.raises(ValueError):
        create_flash(path, size, block_size=block, page_size=page)
    assert not path.exists()


def test_a_file_of_odd_size_is_refused(path):
    path.write_bytes(bytes(BLOCK + 1))
    with pytest.raises(ValueError):
        open_flash(path, block_size=BLOCK)


def test_neither_file_nor_device_is_refused(tmp_path):
    with pytest.raises(ValueError):
        open_flash(tmp_path)
    with pytest.raises(errors.AbsentError):
        open_flash("/dev/null")


def test_a_closed_medium_says_so(path):
    medium = make(path)
    medium.close()
    medium.close()
    assert medium.closed
    with pytest.raises(errors.ClosedError):
        medium.read(0, 1)
    with pytest.raises(errors.ClosedError):
        medium.size  # noqa: B018 - the property itself


def test_a_capsule_keeps_it_open(path):
    medium = make(path)
    capsule = medium.__flash__()
    with pytest.raises(BufferError):
        medium.close()
    del capsule
    medium.close()
    with make(path.with_name("other")) as other:
        capsule = other.__flash__()
        del capsule


def test_an_abandoned_medium_gives_its_lock_back(path):
    capsule = make(path).__flash__()
    with pytest.raises(errors.MediumBusyError):
        open_flash(path, block_size=BLOCK)
    del capsule
    open_flash(path, block_size=BLOCK).close()


def test_a_full_disk_is_an_error_with_its_errno(tmp_path):
    limit = 1 << 20
    child = os.fork()
    if child == 0:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        medium = make(tmp_path / "limited")
        resource.setrlimit(resource.RLIMIT_FSIZE, (BLOCK, limit))
        try:
            medium.program(2 * BLOCK, bytes(PAGE))
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EFBIG


def test_a_block_device_is_one_programs_own(tmp_path):
    backing = tmp_path / "backing"
    backing.write_bytes(b"x" * (SIZE + 512))
    with loop_device(backing) as device, open_flash(device, block_size=BLOCK) as medium:
        assert (medium.kind, medium.size, medium.page_size) == (FlashKind.DEVICE, SIZE, PAGE)
        with pytest.raises(OSError) as refused:
            open_flash(device, block_size=BLOCK)
        assert refused.value.errno == errno.EBUSY
        assert medium.read(BLOCK, BLOCK)[0] == b"x" * BLOCK
        medium.erase(BLOCK)
        medium.sync()
        assert medium.read(BLOCK, BLOCK)[0] == bytes(BLOCK)
    assert backing.read_bytes()[: 2 * BLOCK + 1] == b"x" * BLOCK + bytes(BLOCK) + b"x"

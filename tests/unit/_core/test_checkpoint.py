"""Checkpoint slots: what is saved comes back, or nothing does; layout; bad input."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile

import pytest

from nexus.errors import ClosedError, TooLargeError
from nexus.physics import Checkpoint, CheckpointSlot, blake3

COPY = 41288
FRAME = bytes(range(256)) + bytes(16)


@pytest.fixture
def slot():
    with CheckpointSlot.create() as made:
        yield made


@pytest.fixture
def memory(slot):
    with mmap.mmap(slot.fd, 2 * COPY) as mapped:
        yield mapped


def test_new_slot_is_empty_and_starts_cold(slot):
    assert slot.verify() == ("empty", "empty")
    assert slot.restore() is None
    assert slot.sequence == 0
    assert os.fstat(slot.fd).st_size == 82576


def test_what_was_saved_is_restored(slot):
    assert slot.save(b"blob", frame=FRAME, stack=b"stack", epoch=5, image=2**64 - 1) == 1
    found = slot.restore(image=2**64 - 1, epoch=5)
    assert isinstance(found, Checkpoint)
    assert (found.sequence, found.blob, found.frame, found.stack) == (1, b"blob", FRAME, b"stack")
    assert (found.epoch, found.image) == (5, 2**64 - 1)
    assert slot.verify() == ("valid", "valid")
    assert slot.save(b"") == 2
    found = slot.restore()
    assert (found.sequence, found.blob, found.frame, found.stack) == (2, b"", bytes(272), b"")


def test_layout_is_that_of_the_specification(slot, memory):
    slot.save(b"B" * 32768, frame=FRAME, stack=b"S" * 8192, epoch=0x01020304, image=0x1122)
    copy = memory[:COPY]
    assert memory[COPY:] == copy
    assert copy[:32] == blake3(copy[32:])
    assert struct.unpack_from("<QQIHH", copy, 32) == (1, 0x1122, 0x01020304, 8192, 32768)
    assert copy[56:328] == FRAME
    assert copy[328:8520] == b"S" * 8192
    assert copy[8520:] == b"B" * 32768


def test_shorter_content_leaves_nothing_of_the_longer(slot, memory):
    slot.save(b"secret" * 5000, stack=b"secret" * 1000, frame=b"s" * 272)
    slot.save(b"x", stack=b"y")
    for copy in (memory[:COPY], memory[COPY:]):
        assert copy[56:] == bytes(272) + b"y" + bytes(8191) + b"x" + bytes(32767)
        assert copy[:32] == blake3(copy[32:])


def test_checkpoint_is_frozen(slot):
    slot.save(b"x")
    found = slot.restore()
    with pytest.raises(AttributeError):
        found.blob = b"y"
    with pytest.raises(AttributeError):
        found.other = 1
    assert "sequence=1" in repr(found)


@pytest.mark.parametrize("size", [32769, 65536 + 1, 1 << 20])
def test_oversized_blob_is_refused_and_changes_nothing(slot, memory, size):
    slot.save(b"before")
    before = memory[:]
    with pytest.raises(TooLargeError, match=str(size)):
        slot.save(bytes(size))
    with pytest.raises(TooLargeError, match="stack"):
        slot.save(b"", stack=bytes(8193))
    with pytest.raises(ValueError, match="271"):
        slot.save(b"", frame=bytes(271))
    assert memory[:] == before
    assert slot.sequence == 1
    assert slot.save(b"after") == 2
    assert slot.restore().blob == b"after"


def test_wrong_image_epoch_or_floor_is_a_cold_start(slot):
    slot.save(b"x", image=1, epoch=2)
    assert slot.restore(image=1, epoch=2, floor=1) is not None
    assert slot.restore(image=2, epoch=2) is None
    assert slot.restore(image=1, epoch=3) is None
    assert slot.restore(image=1, epoch=2, floor=2) is None


def test_replayed_slot_is_refused_by_the_floor(slot, memory):
    slot.save(b"old")
    old = memory[:]
    slot.save(b"new")
    memory[:] = old
    assert slot.verify() == ("valid", "valid")
    assert slot.restore(floor=2) is None
    assert slot.restore(floor=1).blob == b"old"


@pytest.mark.parametrize("offset", [0, 31, 33, 40, 48, 53, 56, 327, 328, 8519, 8520, COPY - 1])
def test_one_bad_copy_is_survived_and_two_are_cold(slot, memory, offset):
    slot.save(b"x" * 100)
    memory[offset] ^= 0x80
    assert slot.verify() == ("corrupt", "valid")
    assert slot.restore().blob == b"x" * 100
    memory[COPY + offset] ^= 0x80
    assert slot.verify() == ("corrupt", "corrupt")
    assert slot.restore() is None
    assert slot.save(b"again") == 2
    assert slot.restore().blob == b"again"


def test_newer_copy_wins_and_the_older_is_the_fallback(slot, memory):
    slot.save(b"old")
    old = memory[:COPY]
    slot.save(b"new")
    memory[:COPY] = old
    assert slot.restore().blob == b"new"
    memory[COPY + 100] ^= 1
    assert slot.restore().blob == b"old"


def test_attached_slot_goes_on_from_the_highest_valid_sequence(slot, memory):
    for _ in range(3):
        slot.save(b"x")
    with CheckpointSlot.attach(slot.fd) as other:
        assert other.fd != slot.fd
        assert other.sequence == 3
        assert other.save(b"y") == 4
    assert slot.restore().blob == b"y"
    # Copy B torn: the next writer must start on B and leave A alone until B is complete.
    memory[COPY + 32 : COPY + 40] = bytes(8)
    with CheckpointSlot.attach(slot.fd) as other:
        assert other.verify() == ("valid", "empty")
        assert other.save(b"z") == 5


def test_zero_wipes_everything_and_sequences_go_on(slot, memory):
    slot.save(b"secret", stack=b"secret")
    slot.zero()
    assert memory[:] == bytes(2 * COPY)
    assert slot.restore() is None
    assert slot.save(b"x") == 2
    assert slot.restore().blob == b"x"


def test_sequences_are_used_up_only_once(slot, memory):
    slot.save(b"x")
    copy = bytearray(memory[:COPY])
    struct.pack_into("<Q", copy, 32, 2**64 - 1)
    copy[:32] = blake3(copy[32:])
    memory[:COPY] = bytes(copy)
    with CheckpointSlot.attach(slot.fd) as other:
        before = memory[:]
        with pytest.raises(TooLargeError):
            other.save(b"y")
        assert memory[:] == before


def test_hostile_sizes_in_a_copy_with_a_right_digest_are_not_believed(slot, memory):
    slot.save(b"x")
    for offset in (0, COPY):
        copy = bytearray(memory[offset : offset + COPY])
        struct.pack_into("<HH", copy, 52, 65535, 65535)
        copy[:32] = blake3(copy[32:])
        memory[offset : offset + COPY] = bytes(copy)
    assert slot.verify() == ("corrupt", "corrupt")
    assert slot.restore() is None


def test_closed_slot_refuses_everything():
    slot = CheckpointSlot.create()
    slot.close()
    slot.close()
    assert slot.closed
    for call in (
        lambda: slot.fd,
        lambda: slot.sequence,
        lambda: slot.save(b""),
        slot.restore,
        slot.verify,
        slot.zero,
        slot.__enter__,
    ):
        with pytest.raises(ClosedError):
            call()


def test_size_of_the_memory_is_sealed(slot):
    with pytest.raises(PermissionError):
        os.ftruncate(slot.fd, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(slot.fd, 1 << 20)


def test_what_is_no_slot_is_not_attached():
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * COPY)
        with pytest.raises(ValueError, match="not a checkpoint slot"):
            CheckpointSlot.attach(file.fileno())
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 2 * COPY)
    with pytest.raises(ValueError, match="not a checkpoint slot"):
        CheckpointSlot.attach(unsealed)
    os.close(unsealed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        CheckpointSlot.attach(unsealed)
    for bad in (None, 1.0, True, "3"):
        with pytest.raises(TypeError):
            CheckpointSlot.attach(bad)
    with pytest.raises(OverflowError):
        CheckpointSlot.attach(-1)
    with pytest.raises(TypeError):
        CheckpointSlot()
    with pytest.raises(TypeError):
        Checkpoint()


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (True, TypeError),
        (1.5, TypeError),
        (None, TypeError),
        (-1, OverflowError),
        (2**64, OverflowError),
    ],
)
def test_bad_integers_are_refused(slot, bad, expected):
    for keyword in ("epoch", "image"):
        with pytest.raises(expected):
            slot.save(b"", **{keyword: bad})
    for keyword in ("epoch", "image", "floor"):
        with pytest.raises(expected):
            slot.restore(**{keyword: bad})
    with pytest.raises(OverflowError):
        slot.save(b"", epoch=2**32)
    assert slot.sequence == 0
    assert slot.verify() == ("empty", "empty")


@pytest.mark.parametrize("bad", [None, 1, "text", [1], memoryview(b"abcd")[::2]])
def test_what_is_no_contiguous_buffer_is_refused(slot, bad):
    expected = BufferError if isinstance(bad, memoryview) else TypeError
    with pytest.raises(expected):
        slot.save(bad)
    if bad is not None:
        for keyword in ("frame", "stack"):
            with pytest.raises(expected):
                slot.save(b"", **{keyword: bad})
    assert slot.sequence == 0


def test_any_buffer_is_saved(slot):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(34, dtype=numpy.uint64)
    slot.save(memoryview(b"abc"), frame=array, stack=bytearray(b"xyz"), epoch=numpy.uint32(7))
    found = slot.restore(epoch=7)
    assert (found.blob, found.frame, found.stack) == (b"abc", array.tobytes(), b"xyz")

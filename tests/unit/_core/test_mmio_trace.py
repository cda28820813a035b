"""Recording, dry runs and replays of what a driver does to its registers."""

import os

import pytest

from nexus import errors
from nexus.physics import Access, Mmio


@pytest.fixture
def fd():
    made = os.memfd_create("device", os.MFD_CLOEXEC)
    os.ftruncate(made, 64)
    yield made
    os.close(made)


def driver(window):
    """What a driver does: reset, wait for ready, send three words, acknowledge."""
    window.write32(0, 1)
    window.poll(4, 1, 1, 0)
    window.update(8, 0xF0, 0x30)
    window.write_fifo(12, [7, 8, 9])
    window.write16be(16, 0x0102)


def test_dry_run_lists_the_accesses_in_order():
    window = Mmio.dry_run(32, initial=bytes(4) + b"\1")
    driver(window)
    assert window.trace() == [
        Access("write", 0, 32, 1),
        Access("poll", 4, 32, 1),
        Access("read", 8, 32, 0),
        Access("write", 8, 32, 0x30),
        Access("write", 12, 32, 7),
        Access("write", 12, 32, 8),
        Access("write", 12, 32, 9),
        Access("write", 16, 16, 0x0201),
    ]


def test_trace_of_a_real_window_records_and_performs(fd):
    with Mmio.attach(fd, 0, 64, trace=2) as window:
        window.write8(0, 5)
        assert window.read8(0) == 5
        window.read8(1)
        assert window.trace_lost == 1
    assert window.trace() == [Access("write", 0, 8, 5), Access("read", 0, 8, 5)]
    assert os.pread(fd, 1, 0) == b"\5"


def test_refused_access_leaves_no_trace():
    window = Mmio.dry_run(32)
    with pytest.raises(errors.OutOfRangeError):
        window.write32(32, 1)
    assert window.trace() == []


def test_replay_accepts_the_same_driver_and_knows_the_end():
    recorded = Mmio.dry_run(32, initial=bytes(4) + b"\1")
    driver(recorded)
    window = Mmio.replay(recorded.trace(), 32)
    driver(window)
    assert window.remaining == 0
    with pytest.raises(errors.ReplayError):
        window.read32(0)


def test_replay_gives_the_recorded_values():
    window = Mmio.replay([Access("read", 0, 32, 5), Access("read", 0, 32, 6)], 4)
    assert (window.read32(0), window.read32(0)) == (5, 6)


@pytest.mark.parametrize(
    "act",
    [
        lambda w: w.write32(0, 2),
        lambda w: w.write32(4, 1),
        lambda w: w.write16(0, 1),
        lambda w: w.read32(0),
        lambda w: w.poll(0, 1, 1, 0),
        lambda w: w.write_block(0, [2]),
    ],
)
def test_replay_refuses_another_access(act):
    window = Mmio.replay([Access("write", 0, 32, 1)], 8)
    with pytest.raises(errors.ReplayError):
        act(window)
    assert window.remaining == 1
    window.write32(0, 1)


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (("jump", 0, 32, 0), ValueError),
        (("read", 0, 31, 0), ValueError),
        (("read", 0, 8, 256), OverflowError),
        (("read", -1, 8, 0), OverflowError),
        (("read", 0, 8), TypeError),
    ],
)
def test_replay_of_nonsense_is_refused(entry, error):
    with pytest.raises(error):
        Mmio.replay([entry], 8)


def test_window_without_a_trace_says_so(fd):
    window = Mmio.attach(fd, 0, 64)
    with pytest.raises(ValueError, match="without a trace"):
        window.trace()


def test_trace_is_bounded(fd):
    with pytest.raises(OverflowError):
        Mmio.attach(fd, 0, 64, trace=1 << 40)
    with pytest.raises(errors.OutOfRangeError):
        Mmio.dry_run(4, initial=bytes(5))

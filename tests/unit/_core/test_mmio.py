"""Register windows over memfds: values, refusals, blocks, polls, lost files."""

import mmap
import os
import signal
import subprocess
import sys
import threading

import pytest

from nexus import errors
from nexus.physics import Mmio

PAGE = mmap.PAGESIZE
WIDTHS = (8, 16, 32, 64)


class Device:
    """A memfd that stands for a device, read and written by the test itself."""

    def __init__(self, size=2 * PAGE):
        self.fd = os.memfd_create("device", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)

    def bytes(self, offset, count):
        return os.pread(self.fd, count, offset)

    def poke(self, offset, data):
        os.pwrite(self.fd, data, offset)


@pytest.fixture
def device():
    made = Device()
    yield made
    os.close(made.fd)


@pytest.fixture
def window(device):
    with Mmio.attach(device.fd, 0, PAGE) as made:
        yield made


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("order", ["little", "big"])
def test_each_width_and_byte_order_carries_the_value(device, window, width, order):
    suffix = "be" if order == "big" and width > 8 else ""
    value = int.from_bytes(bytes(range(0x81, 0x81 + width // 8)), "little")
    getattr(window, f"write{width}{suffix}")(16, value)
    assert device.bytes(16, width // 8) == value.to_bytes(width // 8, order)
    assert getattr(window, f"read{width}{suffix}")(16) == value
    assert device.bytes(0, 16) == bytes(16)
    assert device.bytes(16 + width // 8, 16) == bytes(16)


def test_relaxed_access_carries_the_value(device, window):
    window.write32_relaxed(4, 0xDEADBEEF)
    assert window.read32_relaxed(4) == 0xDEADBEEF
    assert device.bytes(4, 4) == b"\xef\xbe\xad\xde"


def test_window_that_starts_inside_a_page_is_placed_exactly(device):
    with Mmio.attach(device.fd, PAGE + 0x24, 8) as window:
        window.write32(4, 1)
        with pytest.raises(errors.OutOfRangeError):
            window.read32(8)
    assert device.bytes(PAGE + 0x28, 4) == b"\1\0\0\0"


def test_alignment_is_that_of_the_address_not_of_the_offset(device):
    with Mmio.attach(device.fd, 2, 64) as window:
        window.write32(2, 7)
        with pytest.raises(errors.MisalignedError):
            window.write32(4, 7)
    assert device.bytes(4, 4) == b"\7\0\0\0"


def test_path_opens_a_regular_file(tmp_path):
    path = tmp_path / "registers"
    path.write_bytes(b"\x2a" + bytes(63))
    with Mmio(path, 0, 64) as window:
        assert window.read8(0) == 42
        window.write8(1, 43)
        assert (window.size, window.writable, window.closed) == (64, True, False)
        assert window.name == str(path)
    assert path.read_bytes()[1] == 43


# What is refused, and that nothing changed.


ACCESSES = [(f"{verb}{width}", width // 8) for verb in ("read", "write") for width in WIDTHS] + [
    (f"{verb}{width}be", width // 8) for verb in ("read", "write") for width in (16, 32, 64)
]
ACCESSES += [("read32_relaxed", 4), ("write32_relaxed", 4)]


def call(window, name, offset, value=0x5A):
    method = getattr(window, name)
    return method(offset, value) if name.startswith("write") else method(offset)


@pytest.mark.parametrize(("name", "size"), ACCESSES)
def test_offset_outside_the_window_is_refused(device, window, name, size):
    for offset in (PAGE, PAGE - size + 1, 1 << 40, (1 << 64) - size):
        with pytest.raises(errors.OutOfRangeError):
            call(window, name, offset)
    assert device.bytes(0, 2 * PAGE) == bytes(2 * PAGE)
    call(window, name, PAGE - size)


@pytest.mark.parametrize(("name", "size"), [a for a in ACCESSES if a[1] > 1])
def test_misaligned_offset_is_refused(device, window, name, size):
    for offset in range(1, size):
        with pytest.raises(errors.MisalignedError):
            call(window, name, offset)
    assert device.bytes(0, PAGE) == bytes(PAGE)


@pytest.mark.parametrize(("name", "size"), ACCESSES)
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (1.0, TypeError),
        (True, TypeError),
        (None, TypeError),
        ("0", TypeError),
        (b"\0", TypeError),
        (-1, OverflowError),
        (1 << 64, OverflowError),
    ],
)
def test_what_is_no_offset_or_value_is_refused(device, window, name, size, bad, error):
    with pytest.raises(error):
        call(window, name, bad)
    if name.startswith("write"):
        with pytest.raises(error):
            call(window, name, 0, bad)
        with pytest.raises(OverflowError):
            call(window, name, 0, 1 << (8 * size))
    assert device.bytes(0, PAGE) == bytes(PAGE)


def test_numpy_integers_are_integers_and_numpy_floats_are_not(window):
    numpy = pytest.importorskip("numpy")
    window.write32(numpy.uint64(8), numpy.int16(5))
    assert window.read32(numpy.int8(8)) == 5
    with pytest.raises(TypeError):
        window.write32(0, numpy.float64(5))
    with pytest.raises(TypeError):
        window.write32(0, numpy.bool_(1))
    with pytest.raises(OverflowError):
        window.write32(0, numpy.int32(-1))


@pytest.mark.parametrize("name", [name for name, _ in ACCESSES])
def test_closed_window_refuses(device, name):
    window = Mmio.attach(device.fd, 0, 64)
    window.close()
    window.close()
    with pytest.raises(errors.ClosedError):
        call(window, name, 0)
    assert window.closed
    assert window.size == 0


def test_closed_window_refuses_compound_verbs(device):
    window = Mmio.attach(device.fd, 0, 64)
    window.close()
    for attempt in (
        lambda: window.update(0, 1, 1),
        lambda: window.read_block(0, 1),
        lambda: window.write_fifo(0, [1]),
        lambda: window.poll(0, 1, 1, 0),
    ):
        with pytest.raises(errors.ClosedError):
            attempt()


def test_readonly_window_refuses_writes(device):
    device.poke(0, b"\7")
    with Mmio.attach(device.fd, 0, 64, writable=False) as window:
        assert window.read8(0) == 7
        assert not window.writable
        for attempt in (
            lambda: window.write8(0, 1),
            lambda: window.update(0, 1, 1, width=8),
            lambda: window.write_block(0, b"\1", width=8),
        ):
            with pytest.raises(errors.DeniedError):
                attempt()
    assert device.bytes(0, 1) == b"\7"


def test_window_beyond_the_end_of_a_file_is_refused(device):
    with pytest.raises(errors.OutOfRangeError):
        Mmio.attach(device.fd, PAGE, PAGE + 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0, 0), ValueError),
        ((-1, 8), OverflowError),
        ((0, -1), OverflowError),
        ((0, 1 << 64), OverflowError),
        (((1 << 63) - 1, 8), OverflowError),
        ((1.5, 8), TypeError),
        ((0, True), TypeError),
        ((None, 8), TypeError),
    ],
)
def test_nonsense_window_is_refused(device, arguments, error):
    with pytest.raises(error):
        Mmio.attach(device.fd, *arguments)


@pytest.mark.parametrize(
    ("fd", "error"),
    [(-1, OverflowError), (1 << 31, OverflowError), ((1 << 31) - 1, OSError), (True, TypeError)],
)
def test_descriptor_that_is_none_is_refused(fd, error):
    with pytest.raises(error):
        Mmio.attach(fd, 0, 8)


def test_constructing_twice_is_refused(device, tmp_path):
    path = tmp_path / "registers"
    path.write_bytes(bytes(64))
    window = Mmio(path, 0, 64)
    with pytest.raises(TypeError):
        window.__init__(path, 0, 64)
    assert window.read8(0) == 0


# Read-modify-write and blocks.


def test_update_changes_the_masked_bits_alone(device, window):
    window.write32(0, 0xFFFF0000)
    window.update(0, 0x00FFFF00, 0x00123400)
    assert window.read32(0) == 0xFF123400
    window.set_bits(0, 0x81)
    window.clear_bits(0, 0xFF000000)
    assert window.read32(0) == 0x00123481
    window.update(8, 1 << 63, 1 << 63, width=64)
    assert window.read64(8) == 1 << 63


@pytest.mark.parametrize(
    ("mask", "value", "width"), [(1, 2, 32), (0x100, 0, 8), (1 << 32, 0, 32), (1, 1, 24)]
)
def test_update_outside_mask_or_register_is_refused(device, window, mask, value, width):
    with pytest.raises(ValueError):
        window.update(0, mask, value, width=width)
    assert device.bytes(0, 8) == bytes(8)


@pytest.mark.parametrize("width", WIDTHS)
def test_blocks_carry_packed_little_endian_values(device, window, width):
    size = width // 8
    data = bytes(range(1, 1 + 4 * size))
    values = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
    window.write_block(64, data, width=width)
    assert device.bytes(64, len(data)) == data
    assert window.read_block(64, 4, width=width) == values
    window.write_block(128, values, width=width)
    got = bytearray(len(data))
    assert window.read_block_into(128, got, width=width) == 4
    assert got == data


def test_fifo_stays_at_one_address(device, window):
    window.write_fifo(8, [1, 2, 3])
    assert device.bytes(0, 32) == bytes(8) + b"\3" + bytes(23)
    assert window.read_fifo(8, 3) == [3, 3, 3]
    got = bytearray(6)
    assert window.read_fifo_into(8, got, width=16) == 3
    assert got == b"\3\0" * 3


def test_large_block_is_carried_without_the_gil(device, window):
    data = os.urandom(PAGE)
    window.write_block(0, data)
    got = bytearray(PAGE)
    assert window.read_block_into(0, got) == PAGE // 4
    assert got == data


def test_block_of_nothing_makes_no_access():
    window = Mmio.dry_run(64)
    window.write_block(0, b"")
    window.write_fifo(0, [])
    assert window.read_block(0, 0) == []
    assert window.trace() == []


def test_bad_block_is_refused_before_its_first_access(device, window):
    for attempt, error in [
        (lambda: window.write_block(PAGE - 4, [1, 2]), errors.OutOfRangeError),
        (lambda: window.write_block(0, [1, 1 << 32]), OverflowError),
        (lambda: window.write_block(0, [1, 2.0]), TypeError),
        (lambda: window.write_block(0, b"\1\2\3"), ValueError),
        (lambda: window.write_block(2, b"\1\2\3\4"), errors.MisalignedError),
        (lambda: window.write_fifo(0, b"\1\2\3\4", width=12), ValueError),
        (lambda: window.write_fifo(0, 5), TypeError),
        (lambda: window.read_block(0, PAGE), errors.OutOfRangeError),
        (lambda: window.read_fifo(0, 1 << 40), OverflowError),
        (lambda: window.read_block(0, -1), OverflowError),
        (lambda: window.read_block_into(0, bytes(4)), (BufferError, TypeError)),
        (lambda: window.read_block_into(0, None), TypeError),
        (lambda: window.read_block(0, 1, width=True), TypeError),
    ]:
        with pytest.raises(error):
            attempt()
    assert device.bytes(0, PAGE) == bytes(PAGE)


# Poll.


def test_poll_returns_the_register_that_satisfied(device, window):
    window.write32(0, 0xAB80)
    assert window.poll(0, 0x80, 0x80, 0) == 0xAB80


def test_poll_that_runs_out_of_time_raises(window):
    with pytest.raises(errors.DeadlineError, match="wanted 0x1"):
        window.poll(0, 1, 1, 0)
    with pytest.raises(TimeoutError):
        window.poll(0, 1, 1, 0.001)
    with pytest.raises(errors.DeadlineError):
        window.poll(0, 1, 1, 0.002, interval=0.0005)


def test_poll_is_bounded_by_its_spins(window):
    with pytest.raises(errors.DeadlineError, match="after 3 reads"):
        window.poll(0, 1, 1, 1000, spin_max=3)
    with pytest.raises(errors.DeadlineError, match="after 2 reads"):
        window.poll(0, 1, 1, 1000, spin_max=2, interval=0.0001)


def test_poll_lets_another_thread_make_it_true(device, window):
    ready = threading.Event()

    def answer():
        ready.wait()
        device.poke(5, b"\1")

    thread = threading.Thread(target=answer)
    thread.start()
    ready.set()
    assert window.poll(5, 1, 1, 30, width=8) == 1
    thread.join()


def test_window_in_use_by_another_thread_refuses_to_close(device, window):
    failures = []

    def wait():
        try:
            window.poll(4, 1, 1, 30)
        except Exception as error:  # whatever it is, the main thread reports it
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    refused = False
    while not refused and thread.is_alive():
        try:
            window.read32(0)
            window.close()
        except BufferError:
            refused = True
        except errors.ClosedError:
            break
    device.poke(4, b"\1")
    thread.join()
    # Whichever came first, the poll or the close, nobody touched an unmapped page.
    assert refused or isinstance(failures[0], errors.ClosedError)


@pytest.mark.parametrize(
    ("arguments", "extra", "error"),
    [
        ((0, 1, 2, 0), {}, ValueError),
        ((0, 1 << 32, 0, 0), {}, ValueError),
        ((0, 1, 1, -1), {}, ValueError),
        ((0, 1, 1, float("nan")), {}, ValueError),
        ((0, 1, 1, float("inf")), {}, ValueError),
        ((0, 1, 1, True), {}, TypeError),
        ((0, 1, 1, None), {}, TypeError),
        ((0, 1, 1, 0), {"interval": 2}, ValueError),
        ((0, 1, 1, 0), {"width": 128}, ValueError),
        ((2, 1, 1, 0), {}, errors.MisalignedError),
        ((PAGE, 1, 1, 0), {}, errors.OutOfRangeError),
    ],
)
def test_nonsense_poll_is_refused(window, arguments, extra, error):
    with pytest.raises(error):
        window.poll(*arguments, **extra)


def test_barriers_take_no_argument(window):
    window.barrier()
    window.write_barrier()
    window.read_barrier()


# Guard.


def test_guarded_window_turns_a_truncated_file_into_an_error(device):
    with Mmio.attach(device.fd, 0, PAGE, guard=True) as window:
        window.write32(0, 7)
        os.ftruncate(device.fd, 0)
        for _ in range(3):
            with pytest.raises(errors.FaultError):
                window.read32(0)
            with pytest.raises(errors.FaultError):
                window.write_block(0, bytes(PAGE))
            with pytest.raises(errors.FaultError):
                window.poll(0, 1, 1, 0.1)
        os.ftruncate(device.fd, PAGE)
        assert window.read32(0) == 0


UNGUARDED = """
import faulthandler, os
from nexus.physics import Mmio
faulthandler.disable()
fd = os.memfd_create("gone")
os.ftruncate(fd, 4096)
other = Mmio.attach(fd, 0, 4096, guard=True)
window = Mmio.attach(fd, 0, 4096)
os.ftruncate(fd, 0)
window.read32(0)
"""


@pytest.mark.slow
def test_unguarded_window_dies_of_sigbus_as_documented():
    done = subprocess.run([sys.executable, "-c", UNGUARDED], capture_output=True)
    assert done.returncode == -signal.SIGBUS

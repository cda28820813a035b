"""Register windows over a PCI device that a kernel has bound: sysfs, UIO and /dev/mem.

QEMU's edu answers 32-bit accesses, and 64-bit ones from 0x80 on. It reads as 0 to 8 and 16 bits
and as all ones to 64 bits below 0x80, and it ignores such writes: a shim that splits or widens
an access cannot pass.
"""

import array
import contextlib
import errno
import json
import mmap
import os
import re
import struct
from pathlib import Path

import pytest

from nexus import cli, errors
from nexus.physics import FieldSpec, Mmio, RegisterMap, RegisterSpec

pytestmark = pytest.mark.guest("edu")

VENDOR, DEVICE = "0x1234\n", "0x11e8\n"
ID, LIVENESS, FACTORIAL, STATUS, SOURCE, TARGET = 0, 4, 8, 0x20, 0x80, 0x88
IDENTITY = 0x010000ED
COMPUTING, IRQ_WHEN_DONE = 0x01, 0x80
BAR_SIZE = 1 << 20
ONES = (1 << 64) - 1
IOAPIC = 0xFEC00000
SLOW_FACTORIAL = 1 << 29  # so many multiplications, of which QEMU does about a billion a second

BACKINGS = ["pci", "uio", "mem"]

EDU = RegisterMap(
    name="edu",
    size=0x100,
    registers=(
        RegisterSpec(name="ID", offset=ID, access="ro"),
        RegisterSpec(name="LIVENESS", offset=LIVENESS),
        RegisterSpec(
            name="STATUS",
            offset=STATUS,
            fields=(
                FieldSpec(name="COMPUTING", lsb=0, access="ro"),
                FieldSpec(name="IRQ_WHEN_DONE", lsb=7),
            ),
        ),
        RegisterSpec(name="SOURCE", offset=SOURCE, width=64),
    ),
)


def switch_memory(folder, on):
    """Let the device answer, or not, by its PCI command register."""
    with (folder / "config").open("r+b", buffering=0) as config:
        (command,) = struct.unpack("<H", os.pread(config.fileno(), 2, 4))
        command = command | 2 if on else command & ~2
        os.pwrite(config.fileno(), struct.pack("<H", command), 4)


@pytest.fixture(scope="session")
def devices():
    """The folders of both devices in sysfs, bound to uio_pci_generic and answering."""
    found = [
        folder
        for folder in sorted(Path("/sys/bus/pci/devices").iterdir())
        if ((folder / "vendor").read_text(), (folder / "device").read_text()) == (VENDOR, DEVICE)
    ]
    driver = Path("/sys/bus/pci/drivers/uio_pci_generic")
    (driver / "new_id").write_text(f"{VENDOR[2:-1]} {DEVICE[2:]}")
    for folder in found:
        assert (folder / "driver").resolve() == driver
        switch_memory(folder, True)
    assert len(found) == 2
    return found


@pytest.fixture(scope="session")
def device(devices):
    return devices[0]


def uio_number(folder):
    (node,) = (folder / "uio").iterdir()
    return int(node.name.removeprefix("uio"))


@pytest.fixture(scope="session")
def physical(device):
    """Where BAR 0 is in physical memory."""
    start, end, _ = (int(word, 0) for word in (device / "resource").read_text().split()[:3])
    assert end - start + 1 == BAR_SIZE
    return start


@pytest.fixture
def open_window(device, physical):
    """Opens BAR 0 through a backing, by name."""

    def opened(backing, **options):
        if backing == "pci":
            return Mmio.pci(device.name, 0, **options)
        if backing == "uio":
            return Mmio.uio(uio_number(device), **options)
        return Mmio("/dev/mem", physical, BAR_SIZE, **options)

    return opened


@pytest.fixture(params=BACKINGS)
def window(request, open_window):
    with open_window(request.param) as opened:
        # No test sees the factorial of another.
        opened.poll(STATUS, COMPUTING, 0, timeout=60)
        opened.write32(STATUS, 0)
        yield opened


def test_window_is_the_whole_bar_and_shows_the_identity(window):
    assert window.size == BAR_SIZE
    assert window.read32(ID) == IDENTITY
    assert window.read32_relaxed(ID) == IDENTITY
    assert window.read32be(ID) == int.from_bytes(IDENTITY.to_bytes(4, "little"), "big")


def test_three_backings_are_one_device(open_window):
    windows = [open_window(backing) for backing in BACKINGS]
    for number, writer in enumerate(windows):
        writer.write32(LIVENESS, 0x1000 + number)
        assert {w.read32(LIVENESS) for w in windows} == {0x1000 + number ^ 0xFFFFFFFF}
    for opened in windows:
        opened.close()


@pytest.mark.parametrize("value", [0, 1, 0x12345678, 0x80000000, 0xFFFFFFFF])
def test_liveness_register_answers_with_the_complement(window, value):
    window.write32(LIVENESS, value)
    assert window.read32(LIVENESS) == value ^ 0xFFFFFFFF
    window.write32be(LIVENESS, value)
    assert window.read32be(LIVENESS) == value ^ 0xFFFFFFFF


def test_other_widths_reach_the_device_as_such(window):
    window.write32(LIVENESS, 0x12345678)
    window.write8(LIVENESS, 0)
    window.write16(LIVENESS, 0)
    window.write64(LIVENESS & ~7, 0)
    assert window.read32(LIVENESS) == 0x12345678 ^ 0xFFFFFFFF
    assert [window.read8(ID + i) for i in range(4)] == [0] * 4
    assert [window.read16(ID), window.read16(ID + 2)] == [0, 0]
    assert window.read64(ID) == ONES


def test_registers_of_64_bits_take_one_access_of_64_bits(window):
    window.write64(SOURCE, 0x123456789ABCDEF0)
    assert window.read64(SOURCE) == 0x123456789ABCDEF0
    assert window.read32(SOURCE) == 0x9ABCDEF0
    # Two halves would be another thing: the upper one is no register.
    window.write32(SOURCE, 1)
    window.write32(SOURCE + 4, 1)
    assert window.read64(SOURCE) == 1


def test_control_that_splits_or_joins_accesses_is_caught(device, window):
    window.write32(LIVENESS, 0)
    with (device / "resource0").open("r+b", buffering=0) as file:
        mapping = mmap.mmap(file.fileno(), BAR_SIZE)
    assert mapping[ID : ID + 8] == b"\xff" * 8  # two registers by one load
    assert struct.unpack_from("<HH", mapping, ID) == (0, 0)
    struct.pack_into("<HH", mapping, LIVENESS, 0x5678, 0x1234)
    assert window.read32(LIVENESS) == 0xFFFFFFFF
    mapping.close()


def test_blocks_make_one_access_for_each_item(window):
    window.write_block(LIVENESS, [7, 5])
    window.poll(STATUS, COMPUTING, 0, timeout=60)
    assert window.read_block(ID, 3) == [IDENTITY, 7 ^ 0xFFFFFFFF, 120]
    words = array.array("I", bytes(12))
    assert window.read_block_into(ID, words) == 3
    assert words.tolist() == [IDENTITY, 7 ^ 0xFFFFFFFF, 120]
    assert window.read_block(ID, 4, width=16) == [0] * 4
    window.write_block(SOURCE, struct.pack("<QQ", 3 << 40, 4 << 40), width=64)
    assert window.read_block(SOURCE, 2, width=64) == [3 << 40, 4 << 40]


def test_fifo_stays_at_one_register(window):
    window.write_fifo(LIVENESS, [1, 2, 3])
    # More than 256, so that the GIL is let go.
    assert window.read_fifo(LIVENESS, 1000) == [3 ^ 0xFFFFFFFF] * 1000


def test_poll_ends_when_the_device_is_done(window):
    window.write32(FACTORIAL, 10)
    assert window.poll(STATUS, COMPUTING, 0, timeout=60, interval=0.0001) & COMPUTING == 0
    assert window.read32(FACTORIAL) == 3628800


def test_poll_is_bounded_while_the_device_works(open_window):
    with open_window("uio") as window:
        window.write32(FACTORIAL, SLOW_FACTORIAL)
        with pytest.raises(errors.DeadlineError, match="is 0x1 after"):
            window.poll(STATUS, COMPUTING, 0, timeout=0)
        with pytest.raises(errors.DeadlineError, match="after 3 reads"):
            window.poll(STATUS, COMPUTING, 0, timeout=60, spin_max=3)
        window.poll(STATUS, COMPUTING, 0, timeout=120)
        assert window.read32(FACTORIAL) == 0


def test_bits_change_alone(window):
    window.set_bits(STATUS, IRQ_WHEN_DONE)
    assert window.read32(STATUS) == IRQ_WHEN_DONE
    window.clear_bits(STATUS, IRQ_WHEN_DONE)
    assert window.read32(STATUS) == 0
    window.write64(SOURCE, 0x1122334455667788)
    window.update(SOURCE, 0xFF << 32, 0xAA << 32, width=64)
    assert window.read64(SOURCE) == 0x112233AA55667788
    # Read-modify-write with a width that the device does not have changes nothing.
    window.update(LIVENESS, 0xFF, 0xFF, width=8)


def test_fields_of_a_register_map_are_live(window):
    registers = EDU.bind(window)
    assert registers.ID.value == IDENTITY
    registers.STATUS.IRQ_WHEN_DONE.value = 1
    assert window.read32(STATUS) == IRQ_WHEN_DONE
    assert registers.STATUS.COMPUTING.value == 0
    registers.STATUS.IRQ_WHEN_DONE.value = 0
    assert window.read32(STATUS) == 0
    registers.SOURCE.value = 1 << 63
    assert window.read64(SOURCE) == 1 << 63


def test_trace_of_the_device_replays_without_it(open_window):
    def drive(window):
        window.write32(LIVENESS, 1)
        window.poll(STATUS, COMPUTING, 0, timeout=60)
        return window.read32(ID), window.read32(LIVENESS)

    with open_window("uio", trace=16) as window:
        seen = drive(window)
    assert seen == (IDENTITY, 0xFFFFFFFE)
    replayed = Mmio.replay(window.trace(), BAR_SIZE)
    assert drive(replayed) == seen
    assert replayed.remaining == 0


def test_refused_access_does_not_reach_the_device(window):
    window.write32(LIVENESS, 5)
    for offset in (LIVENESS + 1, LIVENESS + 2, LIVENESS + 3):
        with pytest.raises(errors.MisalignedError):
            window.write32(offset, 0)
    with pytest.raises(errors.OutOfRangeError):
        window.read32(BAR_SIZE)
    with pytest.raises(errors.OutOfRangeError):
        window.read_block(BAR_SIZE - 4, 2)
    with pytest.raises(OverflowError):
        window.write32(LIVENESS, 1 << 32)
    assert window.read32(LIVENESS) == 5 ^ 0xFFFFFFFF


@pytest.mark.parametrize("backing", BACKINGS)
def test_read_only_window_reads_and_does_not_write(open_window, backing):
    with open_window(backing) as writer, open_window(backing, writable=False) as reader:
        writer.write32(LIVENESS, 9)
        with pytest.raises(errors.DeniedError):
            reader.write32(LIVENESS, 0)
        assert reader.read32(LIVENESS) == 9 ^ 0xFFFFFFFF


def test_window_may_start_anywhere(device, physical):
    with Mmio("/dev/mem", physical + LIVENESS, 4) as window:
        window.write32(0, 3)
        with Mmio.pci(device.name, 0, offset=LIVENESS, size=4) as other:
            assert window.read32(0) == other.read32(0) == 3 ^ 0xFFFFFFFF
    # It is the address that must be aligned, not the offset in the window.
    with Mmio("/dev/mem", physical + 2, 16) as window:
        assert window.read32(2) == 3 ^ 0xFFFFFFFF
        with pytest.raises(errors.MisalignedError):
            window.read32(0)


@pytest.mark.parametrize("backing", BACKINGS)
def test_device_that_does_not_answer_is_no_fault(device, open_window, backing):
    with open_window(backing, guard=True) as window:
        assert window.read32(ID) == IDENTITY
        switch_memory(device, False)
        try:
            assert window.read32(ID) != IDENTITY
        finally:
            switch_memory(device, True)
        assert window.read32(ID) == IDENTITY


def test_second_device_is_another_and_may_be_removed_while_mapped(devices, open_window):
    first, second = devices[0], devices[1]
    with open_window("pci") as window, Mmio.pci(second.name, 0, guard=True) as other:
        window.write32(LIVENESS, 1)
        other.write32(LIVENESS, 2)
        assert (window.read32(LIVENESS), other.read32(LIVENESS)) == (0xFFFFFFFE, 0xFFFFFFFD)
        number = uio_number(second)
        assert number != uio_number(first)
        (second / "remove").write_text("1")
        # A kernel may leave the mapping (Linux 6.1 does) or revoke it; the process goes on.
        with contextlib.suppress(errors.FaultError):
            assert other.read32(LIVENESS) == 0xFFFFFFFD
    with pytest.raises(errors.AbsentError, match="is absent"):
        Mmio.pci(second.name, 0)
    with pytest.raises(errors.AbsentError, match=f"UIO device {number} is absent"):
        Mmio.uio(number)


def system_ram():
    lines = Path("/proc/iomem").read_text().splitlines()
    starts = [int(m[1], 16) for line in lines if (m := re.match(r"(\w+)-\w+ : System RAM", line))]
    return max(starts)


def test_kernel_hides_ram_and_claimed_registers_from_dev_mem():
    assert system_ram() >= 1 << 20
    for address in (system_ram(), IOAPIC):
        with pytest.raises(errors.DeniedError, match="Operation not permitted") as caught:
            Mmio("/dev/mem", address, 4096)
        assert "STRICT_DEVMEM hides RAM always" in caught.value.hint


def test_uio_map_that_is_not_there_is_refused(device):
    number = uio_number(device)
    with pytest.raises(errors.AbsentError, match="no map 1"):
        Mmio.uio(number, 1)
    for offset, size in ((0, 2 * BAR_SIZE), (mmap.PAGESIZE, mmap.PAGESIZE)):
        with pytest.raises(OSError, match=f"/dev/uio{number}") as caught:
            Mmio(f"/dev/uio{number}", offset, size)
        assert caught.value.errno == errno.EINVAL


def test_pci_window_beyond_the_bar_is_refused(device):
    with pytest.raises(errors.OutOfRangeError):
        Mmio.pci(device.name, 0, size=BAR_SIZE + 1)
    with pytest.raises(errors.AbsentError, match="no memory BAR 1"):
        Mmio.pci(device.name, 1)


def test_doctor_finds_the_devices(device, capsys):
    assert cli.main(["doctor", "--json"]) == 0
    items = {item["name"]: item for item in json.loads(capsys.readouterr().out)["items"]}
    assert items["uio"]["state"] == "ok"
    assert f"uio{uio_number(device)}" in items["uio"]["detail"].split()
    assert items["dev-mem"]["state"] == "ok"

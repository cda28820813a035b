"""Where windows come from: UIO maps, PCI BARs and device nodes, in fake trees."""

import mmap
import os
from pathlib import Path

import pytest

from nexus import errors
from nexus.physics import Mmio

PAGE = mmap.PAGESIZE


def uio_tree(root, offset=0x20, size=0x100):
    folder = root / "class" / "uio" / "uio0" / "maps" / "map1"
    folder.mkdir(parents=True)
    for name, value in (("addr", 0xFE000000), ("size", size), ("offset", offset)):
        (folder / name).write_text(f"{value:#x}\n")
    (root / "uio0").write_bytes(bytes(PAGE) + bytes(range(256)) * (PAGE // 256))
    return {"sysfs": str(root), "dev": str(root)}


def test_uio_map_is_found_by_its_index_and_inner_offset(tmp_path):
    roots = uio_tree(tmp_path)
    with Mmio.uio(0, 1, **roots) as window:
        assert window.size == 0x100
        assert window.read8(0) == 0x20
    with pytest.raises(errors.AbsentError, match="no map 0"):
        Mmio.uio(0, **roots)
    with pytest.raises(errors.AbsentError) as caught:
        Mmio.uio(7, 1, **roots)
    assert "CONFIG_UIO" in caught.value.hint


def test_uio_attributes_that_make_no_window_are_refused(tmp_path):
    roots = uio_tree(tmp_path, offset=PAGE)
    with pytest.raises(errors.CorruptError):
        Mmio.uio(0, 1, **roots)
    (tmp_path / "class/uio/uio0/maps/map1/size").write_text("many\n")
    with pytest.raises(errors.CorruptError):
        Mmio.uio(0, 1, **roots)


def pci_tree(root):
    folder = root / "bus" / "pci" / "devices" / "0000:00:01.0"
    folder.mkdir(parents=True)
    rows = ["0xfe000000 0xfe000fff 0x40200", "0x0 0x0 0x0", "0xc000 0xc01f 0x40101"]
    (folder / "resource").write_text("\n".join(rows) + "\n")
    (folder / "resource0").write_bytes(bytes(range(256)) * 16)
    (folder / "resource2").write_bytes(bytes(32))
    return str(root)


def test_pci_bar_is_mapped_whole_or_in_part(tmp_path):
    sysfs = pci_tree(tmp_path)
    with Mmio.pci("0000:00:01.0", 0, sysfs=sysfs) as window:
        assert window.size == 0x1000
    with Mmio.pci("00:01.0", 0, offset=0x24, size=8, sysfs=sysfs) as window:
        assert (window.size, window.read8(0)) == (8, 0x24)
    with pytest.raises(errors.OutOfRangeError):
        Mmio.pci("00:01.0", 0, offset=0x1000, sysfs=sysfs)


@pytest.mark.parametrize(
    ("arguments", "extra", "error"),
    [
        (("0000:00:02.0", 0), {}, errors.AbsentError),
        (("0000:00:01.0", 1), {}, errors.AbsentError),
        (("0000:00:01.0", 2), {}, errors.AbsentError),
        (("0000:00:01.0", 0), {"combining": True}, errors.AbsentError),
        (("0000:00:01.0", 6), {}, OverflowError),
        (("../00:01.0", 0), {}, ValueError),
        (("00:01.9", 0), {}, ValueError),
        ((None, 0), {}, TypeError),
    ],
)
def test_pci_bar_that_is_not_there_is_refused(tmp_path, arguments, extra, error):
    sysfs = pci_tree(tmp_path)
    with pytest.raises(error):
        Mmio.pci(*arguments, sysfs=sysfs, **extra)


@pytest.mark.parametrize("name", ["mem", "uio3"])
def test_absent_device_node_says_what_to_enable(tmp_path, name):
    with pytest.raises(errors.AbsentError) as caught:
        Mmio(tmp_path / name, 0, 64)
    assert "CONFIG_" in caught.value.hint


def test_other_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Mmio(tmp_path / "registers", 0, 64)


def test_file_that_may_not_be_opened_is_denied(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root opens everything; run as another user to check the denial")
    path = Path(tmp_path / "registers")
    path.write_bytes(bytes(64))
    path.chmod(0)
    with pytest.raises(errors.DeniedError):
        Mmio(path, 0, 64)
